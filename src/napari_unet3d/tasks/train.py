"""Training, as a task: an explicit loop that yields what happened after every step.

Every step is a safe point to stop: whoever closes the generator gets a checkpoint and the last model in the run folder,
and a run that goes on from there ends with the same bytes as one that was never stopped.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet3d.atomic import writing
from napari_unet3d.core.augment import PatchFrame
from napari_unet3d.core.geometry import Shape, alignment, halo, smallest_size, training_bytes
from napari_unet3d.core.patches import AnnotatedSource
from napari_unet3d.core.sampler import PatchSampler
from napari_unet3d.errors import (
    ModelError,
    OutOfMemoryError,
    OutputError,
    SpecError,
    TrainingError,
    shown,
)
from napari_unet3d.tasks.check_images import check_images
from napari_unet3d.tasks.checkpoints import Position
from napari_unet3d.tasks.events import (
    Checkpointed,
    Event,
    Note,
    Previewed,
    Progress,
    Started,
    StepDone,
    Validated,
)
from napari_unet3d.tasks.live import LivePreview, Watcher
from napari_unet3d.tasks.resuming import Found, find_run, set_aside
from napari_unet3d.tasks.run_folder import BEST, HISTORY_FILE, LAST, RunFolder, RunRecord
from napari_unet3d.tasks.train_spec import TrainSpec
from napari_unet3d.tasks.training_data import TrainingData, TrainingPair, read_training_data
from napari_unet3d.tasks.validate import Scores, ValidationSet
from napari_unet3d.volumes.volume import times

if TYPE_CHECKING:
    from napari_unet3d.network.devices import Device
    from napari_unet3d.network.model import Model
    from napari_unet3d.network.training import Learner

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
        The model with the best score, or the last one where nothing is held out; and the last.
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
    scores: Scores | None
    best_step: int


def train(
    spec: TrainSpec,
    pairs: Sequence[TrainingPair],
    folder: RunFolder | None = None,
    *,
    start: Model | None = None,
    resume: bool = False,
    force: bool = False,
    live: LivePreview | None = None,
    threads: int = 1,
) -> Generator[Event, None, TrainResult]:
    """Train a network; a generator whose every event is a safe point to stop.

    Parameters
    ----------
    spec
        The choices for the run.
    pairs
        What it learns from.
    folder
        Where everything is kept, opened; None keeps it in memory.
    start
        A model to start from: its classes go on where they have the same names, others start anew.
    resume
        Go on with the run in the folder.
    force
        Go on although the choices or the data differ.
    live
        What is looked at while it learns, to be segmented now and then.
    threads
        How many make patches.

    Raises
    ------
    SpecError, VolumeError
        If the annotation does not suit: with what is wrong, and the values found.
    TrainingError
        If the loss is no number any more, or the folder belongs to another run.
    OutOfMemoryError
        If the device has no room for the smallest patch that was tried.
    """
    from napari_unet3d.network.devices import select_device

    device = select_device(spec.device)
    yield Progress("reading the annotation", 0, 1)
    data = read_training_data(pairs, spec)
    record = RunRecord(
        spec=spec,
        data=data.fingerprints,
        start=None if start is None else start.fingerprint(),
        held_out=tuple(f"{part.pair}: {part.box}" for part in data.boxes),
    )
    run = _Run(spec, device, data, start, folder, threads, record)
    if live is not None:
        seen = data.volumes[live.pair]
        run.watcher = Watcher(live, seen.image, seen.scaling, spec.network)
    if folder is not None and resume:
        run.found = find_run(folder, record, force=force)
    elif folder is not None and folder.has_run:
        raise OutputError(
            f"{shown(folder.path)} holds a run already; go on with it (--resume), or choose another folder."
        )
    # Not before it is certain that this run holds these out.
    yield from map(Note, data.notes)
    yield from data.boxes
    yield from check_images(data.volumes, spec.patch)
    return (yield from run.steps())


class _Run:
    """The state of a training run."""

    def __init__(
        self,
        spec: TrainSpec,
        device: Device,
        data: TrainingData,
        start: Model | None,
        folder: RunFolder | None,
        threads: int,
        record: RunRecord,
    ) -> None:
        self.spec, self.device, self.data = spec, device, data
        self.start, self.folder, self.threads, self.record = start, folder, threads, record
        self.position = Position(patch=spec.patch)
        self.scores: Scores | None = None
        self.best: Model | None = None
        self.found: Found | None = None
        self.is_best_kept = True
        self.watcher: Watcher | None = None
        self.rows: list[dict[str, Any]] = []
        self.extra = tuple(f"{what} {name}" for name in spec.class_names[1:] for what in ("dice", "iou", "voxels"))

    def steps(self) -> Generator[Event, None, TrainResult]:
        yield Progress("preparing", 0, 1)
        checkpoint = None if self.found is None else self.found.checkpoint
        if checkpoint is not None:
            self.position = checkpoint.position
        yield from self._fit_memory()
        # The same tiles whatever else is in the memory, also when a run goes on: its scores must be comparable.
        scored = self.position.scored_patch or self.position.patch
        self._moved(scored_patch=scored)
        self.validation = ValidationSet(self.data.held_out, self.spec.network, self._bytes(scored))
        learner = self._learner()
        if checkpoint is not None:
            learner.restore(checkpoint.state)
        if self.found is not None:
            yield from map(Note, self.found.losses)
            if self.found.losses:
                yield from self._spare_best()
        if self.folder is not None:
            # Only now it is known that the checkpoint fits.
            self.folder.begin(self.record)
            if checkpoint is None:
                yield from self._spare_curves()
            self.folder.forget_after(self.position.step, self.extra)
            if checkpoint is None:
                # From now on a folder without one has lost it.
                try:
                    self.folder.save_checkpoint(learner.state(), self.position)
                except OutputError as error:
                    yield Note(f"The run could not be written and goes on in memory: {error}")
        if checkpoint is not None:
            yield Note(f"The run goes on after step {self.position.step:,}.")
        # Its arrays are as large as the network with its optimizer.
        self.found = checkpoint = None
        for attempt in range(MAX_SMALLER_PATCHES + 1):
            try:
                yield from self._loop(learner)
                break
            except OutOfMemoryError as error:
                smaller = smaller_patch(self.position.patch, self.spec.network.blocks)
                if attempt == MAX_SMALLER_PATCHES or smaller is None:
                    raise OutOfMemoryError(
                        f"{self.device.label} has no memory left for a patch of {times(self.position.patch)} voxels. "
                        "Fewer filters or blocks take less, and so does another program that is closed."
                    ) from error
                self.position = self.position.model_copy(update={"patch": smaller})
                yield Note(
                    f"{self.device.label} ran out of memory. Training goes on with smaller patches of "
                    f"{times(smaller)} voxels."
                )
        last = self._model(learner)
        is_kept = self.folder is not None and os.path.isdir(self.folder.path / BEST)
        if self.best is None and self.folder is not None and is_kept:
            from napari_unet3d.network.store import load_model

            with suppress(ModelError):
                self.best = load_model(self.folder.path / BEST)
        best_step = self.position.best_step if self.best is not None else self.position.step
        return TrainResult(self.best or last, last, self.position.step, self.scores, best_step)

    def _fit_memory(self) -> Generator[Event, None, None]:
        """Take smaller patches where those of the spec would not fit into what is free now."""
        from napari_unet3d.network.devices import usable_memory

        free, patch = usable_memory(self.device), self.position.patch
        while self._bytes(patch) > free and (smaller := smaller_patch(patch, self.spec.network.blocks)) is not None:
            patch = smaller
        if self.spec.batch > 1 and self._bytes(patch) > free:
            fits = next((n for n in _halves(self.spec.batch) if self._bytes(patch, n) <= free), 1)
            raise SpecError(
                f"{self.spec.batch:,} patches per step of {times(patch)} voxels need {self._bytes(patch) / 2**30:,.1f} "
                f"GiB, but only {free / 2**30:.1f} GiB may be used. {fits:,} per step would fit (--batch)."
            )
        if patch != self.position.patch:
            needed = self._bytes(self.position.patch)
            yield Note(
                f"A patch of {times(self.position.patch)} voxels takes {needed / 2**30:.1f} GiB and "
                f"{free / 2**30:.1f} GiB may be used; smaller patches of {times(patch)} voxels are taken."
            )
            self.position = self.position.model_copy(update={"patch": patch})

    def _spare_best(self) -> Generator[Event, None, None]:
        """Let the best model of a run whose position is lost stay until there is a better one."""
        if self.folder is None or self.position.best_score is not None:
            return
        kept = self.folder.path / BEST
        if not os.path.lexists(kept):
            return
        from napari_unet3d.network.store import load_model

        try:
            model = load_model(kept)
            score = self._score_of_other(model)
        except (ModelError, OutOfMemoryError):
            score = None
        if score is None:
            with writing(kept, 0):
                aside = set_aside(kept)
            yield Note(f"The best model so far cannot be compared with what follows; it is kept as {shown(aside)}.")
            return
        steps = model.card.training.get("steps")
        self._moved(best_score=score, best_step=steps if isinstance(steps, int) else 0)
        yield Note("The best model so far stays until there is a better one.")

    def _spare_curves(self) -> Generator[Event, None, None]:
        """Let the curves of a run that begins again at its first step stay, under another name."""
        history = None if self.folder is None else self.folder.path / HISTORY_FILE
        if history is None or not os.path.lexists(history):
            return
        with writing(history, 0):
            aside = set_aside(history)
        yield Note(f"The curves so far are kept as {shown(aside)}.")

    def _score_of_other(self, model: Model) -> float | None:
        """Return the score of a model on what this run holds out; None if it is of another kind, or nothing is."""
        ours, card = self.spec, model.card
        is_alike = (card.network, card.class_names, card.normalization) == (
            ours.network,
            ours.class_names,
            ours.normalization,
        )
        return _score(self._scores_of(self._learner(model))) if is_alike and len(self.validation) else None

    def _learner(self, start: Model | None = None) -> Learner:
        """Return what learns, from its first weights, or from those of a model."""
        from napari_unet3d.network.training import Learner
        from napari_unet3d.network.transfer import transferred

        spec, start = self.spec, start or self.start
        return Learner(
            spec.network,
            None if start is None else transferred(start, spec.network, spec.class_names, seed=spec.seed),
            self.device,
            class_weights=spec.weights_of_classes,
            cross_entropy_share=spec.cross_entropy_share,
            clip_norm=spec.clip_norm,
            averaging=spec.averaging,
            seed=spec.seed,
        )

    def _loop(self, learner: Learner) -> Generator[Event, None, None]:
        spec, shape = self.spec, self.position.patch
        frame = PatchFrame(shape=shape, halo=halo(spec.network.blocks), voxel_size=self.data.voxel_size)
        source = AnnotatedSource(self.data.learnt, spec.augment, frame)
        yield Started(spec.steps, shape, self.device.label, self._bytes(shape))
        seed = spec.seed + self.position.step * spec.batch
        begun, before = time.perf_counter(), self.position.seconds
        recent = [begun]
        saved, kept_at = self.position.step, begun
        try:
            with PatchSampler(source, seed=seed, threads=self.threads, ahead=_PATCHES_AHEAD * spec.batch) as patches:
                while True:
                    if self._is_due():
                        yield from self._validate(learner)
                        yield from self._keep(learner)
                        saved, kept_at = self.position.step, time.perf_counter()
                    if self.position.step >= spec.steps:
                        return
                    if spec.patience is not None and self.position.unimproved >= spec.patience:
                        steps = spec.patience * spec.validate_every
                        yield Note(f"No better score in {steps:,} steps; training stops.")
                        return
                    number = self.position.step
                    batch = [next(patches) for _ in range(spec.batch)]
                    images = np.stack([patch.image.reshape(*shape, -1) for patch in batch])
                    targets = np.stack([patch.labels for patch in batch if patch.labels is not None])
                    rate = spec.rate(number)
                    result = learner.step(images, targets, learning_rate=rate, number=number)
                    if not result.is_finite:
                        raise TrainingError(
                            f"The loss of step {number + 1:,} is not a finite number, so training stops; the best "
                            f"model is as it was. A lower learning rate than {spec.learning_rate:g} may help."
                        )
                    now = time.perf_counter()
                    recent = [*recent[-_STEPS_OF_SPEED:], now]
                    self._moved(step=number + 1, seconds=before + now - begun)
                    speed = (len(recent) - 1) / max(recent[-1] - recent[0], 1e-9)
                    self.rows.append(
                        {
                            "kind": "step",
                            "step": number + 1,
                            "loss": repr(result.loss),
                            "learning_rate": f"{rate:.6g}",
                            "seconds": f"{self.position.seconds:.1f}",
                        }
                    )
                    yield StepDone(
                        step=number + 1,
                        total=spec.steps,
                        loss=result.loss,
                        learning_rate=rate,
                        steps_per_second=speed,
                        seconds_left=(spec.steps - number - 1) / speed,
                        waiting=patches.waited / max(now - begun, 1e-9),
                    )
                    yield from self._look(learner)
                    if time.perf_counter() - kept_at > _SECONDS_BETWEEN_CHECKPOINTS:
                        # A crash costs a minute at most, however seldom is scored.
                        yield from self._keep(learner)
                        saved, kept_at = self.position.step, time.perf_counter()
        except GeneratorExit:
            # Stopped: what was learnt since the last checkpoint is kept too.
            if self.position.step > saved:
                for _ in self._keep(learner):
                    pass
            raise

    def _look(self, learner: Learner) -> Generator[Event, None, None]:
        if self.watcher is None:
            return
        try:
            box = self.watcher.look(learner.probabilities)
        except OutOfMemoryError:
            self.watcher = None
            yield Note(f"{self.device.label} has no memory left for the live preview; training goes on without it.")
        else:
            if box is not None:
                yield Previewed(self.position.step, box)

    def _bytes(self, patch: Shape, batch: int | None = None) -> int:
        each = self.device.bytes_per_value
        return training_bytes(patch, self.spec.network, batch=batch or self.spec.batch, bytes_per_value=each)

    def _moved(self, **update: Any) -> None:
        self.position = self.position.model_copy(update=update)

    def _is_due(self) -> bool:
        """Return whether this is a step after which is scored, and it was not yet."""
        step = self.position.step
        return step > self.position.scored and (step % self.spec.validate_every == 0 or step >= self.spec.steps)

    def _scores_of(self, learner: Learner) -> Scores:
        return self.validation.score(
            learner.probabilities,
            class_weights=self.spec.weights_of_classes,
            cross_entropy_share=self.spec.cross_entropy_share,
        )

    def _validate(self, learner: Learner) -> Generator[Event, None, None]:
        self._moved(scored=self.position.step)
        if not len(self.validation):
            return
        spec = self.spec
        try:
            self.scores = self._scores_of(learner)
        except OutOfMemoryError:
            yield Note(f"{self.device.label} had no memory left for a score; training goes on without it.")
            return
        dice, iou = self.scores.dice, self.scores.iou
        score, step = _score(self.scores), self.position.step
        is_best = self.position.best_score is None or score > self.position.best_score
        if is_best:
            self._moved(best_score=score, best_step=step, unimproved=0)
            self.best, self.is_best_kept = self._model(learner), False
        else:
            self._moved(unimproved=self.position.unimproved + 1)
        row: dict[str, Any] = {
            "kind": "score",
            "step": step,
            "loss": repr(self.scores.loss),
            "seconds": f"{self.position.seconds:.1f}",
        }
        for name, d, i, n in zip(spec.class_names[1:], dice, iou, self.scores.voxels, strict=True):
            row |= {f"dice {name}": f"{d:.5f}", f"iou {name}": f"{i:.5f}", f"voxels {name}": n}
        self.rows.append(row)
        yield Validated(step, self.scores.loss, dice, iou, self.scores.voxels, is_best)

    def _keep(self, learner: Learner) -> Generator[Event, None, None]:
        """Write everything; where that fails the run goes on, and the next time it is tried again."""
        if self.folder is None:
            return
        from napari_unet3d.network.store import save_model

        try:
            self.folder.make()
            if not self.folder.has_record:
                # Somebody has removed the folder.
                self.folder.begin(self.record)
                self.is_best_kept = self.best is None
            self.folder.append(self.rows, self.extra)
            self.rows = []
            if self.best is not None and not self.is_best_kept:
                save_model(self.best, self.folder.path / BEST, overwrite=True)
                self.is_best_kept = True
            save_model(self._model(learner), self.folder.path / LAST, overwrite=True)
            self.folder.save_checkpoint(learner.state(), self.position)
        except OutputError as error:
            yield Note(f"The run could not be written and goes on in memory: {error}")
            return
        yield Checkpointed(self.position.step)

    def _model(self, learner: Learner) -> Model:
        from napari_unet3d.network.model import Model, ModelCard

        spec = self.spec
        metrics: dict[str, float] = {}
        if self.scores is not None:
            for name, dice, n in zip(spec.class_names[1:], self.scores.dice, self.scores.voxels, strict=True):
                metrics |= {} if math.isnan(dice) else {f"dice {name}": round(dice, 4)}
                metrics[f"held-out voxels of {name}"] = n
        card = ModelCard(
            network=spec.network,
            class_names=spec.class_names,
            normalization=spec.normalization,
            voxel_size=self.data.voxel_size,
            unit=self.data.unit,
            training={
                "steps": self.position.step,
                "patch": times(self.position.patch),
                "batch": spec.batch,
                "learning rate": spec.learning_rate,
                "seed": spec.seed,
                "annotated voxels": sum(volume.targets.n_voxels for volume in self.data.learnt),
                "seconds": round(self.position.seconds, 1),
            },
            metrics=metrics,
        )
        return Model(card, learner.weights())


def _score(scores: Scores) -> float:
    """Return by what models are compared: where no object is held out, nothing but the loss tells them apart."""
    return -scores.loss if scores.mean_dice is None else scores.mean_dice


def _halves(n: int) -> Iterator[int]:
    while n > 1:
        n //= 2
        yield n


def smaller_patch(patch: Shape, blocks: int) -> Shape | None:
    """Return a patch that takes about half the memory and still fits; None where there is none.

    Examples
    --------
    >>> smaller_patch((132, 132, 132), 2), smaller_patch((92, 92, 92), 2)
    ((100, 100, 108), None)
    """
    step, least = alignment(blocks), smallest_size(blocks)
    shape, wanted = list(patch), np.prod(patch, dtype=float) / 2
    while np.prod(shape, dtype=float) > wanted:
        axis = int(np.argmax(shape))
        if shape[axis] - step < least:
            break
        shape[axis] -= step
    z, y, x = shape
    return None if (z, y, x) == tuple(patch) else (z, y, x)
