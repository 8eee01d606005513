"""A training run that is going on: its steps, its scores, and what it has come to."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet3d.core.annotation.patches import AnnotatedSource
from napari_unet3d.core.augment.draw import PatchFrame
from napari_unet3d.core.augment.sampler import PatchSampler
from napari_unet3d.core.heads.prior import REMEMBERED, learnt_shares
from napari_unet3d.core.unet.costs import training_flops
from napari_unet3d.errors import ModelError, OutOfMemoryError, TrainingError, shown
from napari_unet3d.tasks.events import Event, Note, Previewed, Progress, Started, StepDone, Validated
from napari_unet3d.tasks.speeds import remember_training_speed
from napari_unet3d.tasks.train.advice import advice
from napari_unet3d.tasks.train.data import TrainingData
from napari_unet3d.tasks.train.fitting import fit_patch, smaller_patch, step_bytes
from napari_unet3d.tasks.train.kept.checkpoints import TrainState
from napari_unet3d.tasks.train.kept.keeper import Keeper, move_aside
from napari_unet3d.tasks.train.kept.resuming import Found
from napari_unet3d.tasks.train.live import Watcher
from napari_unet3d.tasks.train.metrics import card_metrics
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.tasks.train.validate import HeldOutScores, ValidationSet
from napari_unet3d.words import times

if TYPE_CHECKING:
    from napari_unet3d.network.learner import Learner
    from napari_unet3d.network.machine.device import Device
    from napari_unet3d.network.model import Model

MAX_SMALLER_PATCHES = 3
_PATCHES_AHEAD = 4
_STEPS_OF_SPEED = 20
_SECONDS_BETWEEN_CHECKPOINTS = 60.0


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a run gave.

    Attributes
    ----------
    best, last
        The latest model that is not clearly below the highest score, or the last where nothing is held out; and the
        last.
    steps
        That were done.
    scores
        Of the last model; None where nothing is held out.
    best_step
        After which step the best model was kept.
    """

    best: Model
    last: Model
    steps: int
    scores: HeldOutScores | None
    best_step: int


class Training:
    """The state of a training run.

    Parameters
    ----------
    spec, device, data
        What is learnt, where, and from what.
    start
        A model to start from, or None.
    keeper
        Where it is kept.
    threads
        How many make patches.
    found
        What there is of the run that this one goes on with.
    watcher
        What is looked at meanwhile.
    """

    def __init__(
        self,
        spec: TrainSpec,
        device: Device,
        data: TrainingData,
        keeper: Keeper,
        *,
        start: Model | None = None,
        threads: int = 1,
        found: Found | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._spec, self._device, self._data, self._keeper = spec, device, data, keeper
        self._start, self._threads, self._found, self._watcher = start, threads, found, watcher
        begun = None if start is None or start.card.class_names != spec.class_names else start.card.shares
        self._train_state = TrainState(patch=spec.patch, ranks_all=True, shares=begun)
        # How many steps old what the network knows of the classes is when it begins.
        self._age = 0 if begun is None else REMEMBERED
        self._scores: HeldOutScores | None = None
        # After which step, and the score: of this start of the run.
        self._ranks: list[tuple[int, float]] = []
        # The step and the time of the last checkpoint.
        self._kept = (0, 0.0)

    def steps(self) -> Generator[Event, None, TrainResult]:
        """Train; each event is a safe point to stop."""
        learner = yield from self._prepare()
        for attempt in range(MAX_SMALLER_PATCHES + 1):
            try:
                yield from self._loop(learner)
                break
            except OutOfMemoryError as error:
                yield self._shrink(error, is_last=attempt == MAX_SMALLER_PATCHES)
        last, best = self._model(learner), self._keeper.best_or_kept()
        best_step = self._train_state.step if best is None else self._train_state.best_step
        return TrainResult(best or last, last, self._train_state.step, self._scores, best_step)

    def _prepare(self) -> Generator[Event, None, Learner]:
        """Bring the run to where it begins, or where it was."""
        from napari_unet3d.network.machine.devices import usable_memory

        yield Progress("preparing", 0, 1)
        found, self._found = self._found, None
        checkpoint = None if found is None else found.checkpoint
        if checkpoint is not None:
            self._train_state = checkpoint.train_state
        patch, note = fit_patch(self._spec, self._device, self._train_state.patch, usable_memory(self._device))
        if note is not None:
            yield Note(note)
        # The same tiles whatever else is in the memory, also when a run goes on: its scores must be comparable.
        self._advance(patch=patch, scored_patch=self._train_state.scored_patch or patch)
        memory = step_bytes(self._spec, self._device, self._train_state.scored_patch or patch)
        self._validation = ValidationSet(self._data.held_out, self._spec.network, memory)
        learner = self._learner()
        if checkpoint is not None:
            learner.restore(checkpoint.state)
        if found is not None:
            yield from map(Note, found.losses)
            yield from self._rank_all()
            if found.losses:
                yield from self._spare_best()
        yield from self._keeper.begin(learner, self._train_state, goes_on=checkpoint is not None)
        if checkpoint is not None:
            yield Note(f"The run goes on after step {self._train_state.step:,}.", is_warning=False)
        return learner

    def _shrink(self, error: OutOfMemoryError, *, is_last: bool) -> Note:
        """Go on with smaller patches, or raise the error where there are none."""
        smaller = smaller_patch(self._train_state.patch, self._spec.network)
        if is_last or smaller is None:
            raise OutOfMemoryError(
                f"{self._device.label} has no memory left for a patch of {times(self._train_state.patch)} voxels. "
                "Use fewer filters or blocks, or close other programs."
            ) from error
        self._advance(patch=smaller)
        return Note(
            f"{self._device.label} ran out of memory. Training goes on with smaller patches of {times(smaller)} voxels."
        )

    def _rank_all(self) -> Iterator[Event]:
        """Score the best model of a run again whose score left the first class out: it must be comparable."""
        is_scored = self._train_state.best_score is not None
        if self._train_state.ranks_all:
            return
        self._advance(ranks_all=True, best_score=None)
        if is_scored:
            first = self._spec.head.scored[0]
            yield Note(
                f"An older version chose the best model without its score of {first}. From here on all classes count."
            )
            yield from self._spare_best()

    def _spare_best(self) -> Iterator[Event]:
        """Let the best model of a run whose state is lost stay until there is a better one."""
        kept = self._keeper.earlier_best
        if kept is None or self._train_state.best_score is not None:
            return
        from napari_unet3d.network.store import load_model

        try:
            model = load_model(kept)
            score = self._score_of_other(model)
        except (ModelError, OutOfMemoryError):
            score = None
        if score is None:
            aside = shown(move_aside(kept))
            yield Note(f"The best model so far cannot be compared with what follows; it is kept as {aside}.")
            return
        steps = model.card.training.get("steps")
        self._advance(best_score=score, best_step=steps if isinstance(steps, int) else 0)
        yield Note("The best model so far stays until there is a better one.")

    def _score_of_other(self, model: Model) -> float | None:
        """Return the score of a model on what this run holds out; None if it is of another kind, or nothing is."""
        ours, card = self._spec, model.card
        theirs = (card.network, card.class_names, card.normalization)
        is_alike = theirs == (ours.network, ours.class_names, self._data.normalization)
        return self._scores_of(self._learner(model)).rank if is_alike and len(self._validation) else None

    def _learner(self, start: Model | None = None) -> Learner:
        """Return what learns, from its first weights, or from those of a model."""
        from napari_unet3d.network.learner import Learner
        from napari_unet3d.network.transfer import transfer_weights

        spec, start = self._spec, start or self._start
        return Learner(
            spec.network,
            None if start is None else transfer_weights(start, spec.network, spec.class_names, seed=spec.seed),
            self._device,
            head=spec.head,
            balance=spec.balance,
            optimizer=spec.optimizer,
            clip_norm=spec.clip_norm,
            averaging=spec.averaging,
            seed=spec.seed,
        )

    def _loop(self, learner: Learner) -> Iterator[Event]:
        spec, shape = self._spec, self._train_state.patch
        frame = PatchFrame(shape=shape, halo=spec.network.geometry.halo, voxel_size=self._data.voxel_size)
        source = AnnotatedSource(self._data.learnt, spec.augment, frame)
        yield Started(spec.steps, shape, self._device.label, step_bytes(spec, self._device, shape))
        seed = spec.seed + self._train_state.step * spec.batch
        clock = _Clock(self._train_state.seconds)
        self._kept = (self._train_state.step, clock.begun)
        try:
            with PatchSampler(source, seed=seed, threads=self._threads, ahead=_PATCHES_AHEAD * spec.batch) as patches:
                while True:
                    if self._is_due():
                        yield from self._validate(learner)
                        yield from self._keep(learner)
                    if (reason := self._why_end()) is not None:
                        self._remember_speed(clock)
                        yield from reason
                        return
                    yield self._step(learner, patches, clock)
                    yield from self._look(learner)
                    if time.perf_counter() - self._kept[1] > _SECONDS_BETWEEN_CHECKPOINTS:
                        # A crash costs a minute at most, however seldom is scored.
                        yield from self._keep(learner)
        except GeneratorExit:
            # Stopped: what was learnt since the last checkpoint is kept too.
            if self._train_state.step > self._kept[0]:
                for _ in self._keep(learner):
                    pass
            raise

    def _remember_speed(self, clock: _Clock) -> None:
        """Keep how fast this run was, so that the next one can say how long it takes."""
        spec = self._spec
        if clock.steps_per_second is not None:
            work = training_flops(self._train_state.patch, spec.network, batch=spec.batch)
            remember_training_speed(self._device.label, spec.network, work * clock.steps_per_second)

    def _why_end(self) -> list[Note] | None:
        """Return what is to be said at the end, or None where there are more steps to do."""
        spec = self._spec
        if self._train_state.step >= spec.steps:
            told = advice(self._ranks)
            return [] if told is None else [Note(told, is_warning=False)]
        if spec.patience is not None and self._train_state.unimproved >= spec.patience:
            steps = spec.patience * spec.validate_every
            return [Note(f"No better score in {steps:,} steps; training stops.", is_warning=False)]
        return None

    def _step(self, learner: Learner, patches: PatchSampler, clock: _Clock) -> StepDone:
        spec, number, shape = self._spec, self._train_state.step, self._train_state.patch
        batch = [next(patches) for _ in range(spec.batch)]
        images = np.stack([patch.image.reshape(*shape, -1) for patch in batch])
        targets = np.stack([spec.head.targets(patch.labels) for patch in batch if patch.labels is not None])
        rate = spec.rate(number)
        result = learner.step(images, targets, learning_rate=rate, number=number)
        if not result.is_finite:
            raise TrainingError(
                f"The loss of step {number + 1:,} is not a finite number, so training stops; the best model is as it "
                f"was. A lower learning rate than {spec.learning_rate:g} may help."
            )
        seconds, speed = clock.tick()
        shares = learnt_shares(targets, spec.weights_of_classes, self._train_state.shares, self._age + number)
        self._advance(step=number + 1, seconds=seconds, shares=shares)
        self._keeper.add_step(self._train_state, result.loss, rate)
        return StepDone(
            step=number + 1,
            total=spec.steps,
            loss=result.loss,
            learning_rate=rate,
            steps_per_second=speed,
            seconds_left=(spec.steps - number - 1) / speed,
            waiting=clock.share(patches.waited),
        )

    def _look(self, learner: Learner) -> Iterator[Event]:
        if self._watcher is None:
            return
        try:
            box = self._watcher.look(learner.logits)
        except OutOfMemoryError:
            self._watcher = None
            yield Note(f"{self._device.label} has no memory left for the live preview; training goes on without it.")
        else:
            if box is not None:
                yield Previewed(self._train_state.step, box)

    def _advance(self, **update: Any) -> None:
        self._train_state = self._train_state.model_copy(update=update)

    def _is_due(self) -> bool:
        """Return whether this is a step after which is scored, and it was not yet."""
        step = self._train_state.step
        return step > self._train_state.scored and (step % self._spec.validate_every == 0 or step >= self._spec.steps)

    def _scores_of(self, learner: Learner) -> HeldOutScores:
        return self._validation.score(learner.logits, self._spec.head, self._spec.balance)

    def _validate(self, learner: Learner) -> Iterator[Event]:
        self._advance(scored=self._train_state.step)
        if not len(self._validation):
            return
        try:
            self._scores = scores = self._scores_of(learner)
        except OutOfMemoryError:
            yield Note(f"{self._device.label} had no memory left for a score; training goes on without it.")
            return
        step, best = self._train_state.step, self._train_state.best_score
        # A loss, which stands for a score where there is none, has no course that a person knows.
        if scores.rank >= 0:
            self._ranks.append((step, scores.rank))
        is_highest = best is None or scores.rank > best
        if is_highest:
            self._advance(best_score=scores.rank, best_floor=scores.floor, unimproved=0)
        else:
            self._advance(unimproved=self._train_state.unimproved + 1)
        # Scores swing: a later model is the better one unless it is clearly worse.
        floor = self._train_state.best_floor
        is_best = is_highest or (floor is not None and scores.rank >= floor)
        if is_best:
            self._advance(best_step=step)
            self._keeper.take_best(self._model(learner))
        self._keeper.add_scores(self._train_state, scores)
        yield Validated(
            step=step,
            loss=scores.loss,
            scores=scores.scores,
            voxels=scores.voxels,
            is_best=is_best,
            names=self._spec.head.scored,
            intervals=scores.intervals,
            mean_interval=scores.mean_interval,
        )

    def _keep(self, learner: Learner) -> Iterator[Event]:
        yield from self._keeper.keep(learner, self._train_state, lambda: self._model(learner))
        self._kept = (self._train_state.step, time.perf_counter())

    def _model(self, learner: Learner) -> Model:
        from napari_unet3d.network.model import Model, ModelCard

        spec = self._spec
        card = ModelCard(
            network=spec.network,
            head=spec.head,
            normalization=self._data.normalization,
            voxel_size=self._data.voxel_size,
            unit=self._data.unit,
            shares=self._train_state.shares,
            training={
                "steps": self._train_state.step,
                "patch": times(self._train_state.patch),
                "batch": spec.batch,
                "learning rate": spec.learning_rate,
                "seed": spec.seed,
                "precision": self._device.training_policy,
                "annotated voxels": sum(volume.targets.n_voxels for volume in self._data.learnt),
                "seconds": round(self._train_state.seconds, 1),
            },
            metrics={} if self._scores is None else card_metrics(self._scores, spec.head),
        )
        return Model(card, learner.weights())


class _Clock:
    """How long training has taken, and how fast it is of late."""

    def __init__(self, before: float) -> None:
        self.begun = time.perf_counter()
        self._before, self._recent = before, [self.begun]

    @property
    def steps_per_second(self) -> float | None:
        """Return the speed of late, with the scores between steps; None where too few steps were done to tell."""
        if len(self._recent) <= _STEPS_OF_SPEED:
            return None
        return self._speed

    @property
    def _speed(self) -> float:
        return (len(self._recent) - 1) / max(self._recent[-1] - self._recent[0], 1e-9)

    def tick(self) -> tuple[float, float]:
        """Return the seconds of the run, and the steps per second of late, after one more step."""
        now = time.perf_counter()
        self._recent = [*self._recent[-_STEPS_OF_SPEED:], now]
        return self._before + now - self.begun, self._speed

    def share(self, seconds: float) -> float:
        """Return which share of the time of this session some seconds are."""
        return seconds / max(self._recent[-1] - self.begun, 1e-9)
