"""Training, as a task: an explicit loop that yields what happened after every step.

Every step is a safe point to stop: whoever closes the generator gets a checkpoint and the last model in the run folder,
and a run that goes on from there ends with the same bytes as one that was never stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet3d.core.annotation import Meanings
from napari_unet3d.core.augment import PatchFrame
from napari_unet3d.core.geometry import Shape, alignment, halo, reach, smallest_size, training_bytes
from napari_unet3d.core.normalize import measure, sample_voxels
from napari_unet3d.core.patches import AnnotatedSource, AnnotatedVolume
from napari_unet3d.core.sampler import PatchSampler
from napari_unet3d.core.targets import Targets, read_targets
from napari_unet3d.core.tiling import Readable
from napari_unet3d.core.validation import Split, hold_boxes_out, hold_nothing_out, hold_out
from napari_unet3d.errors import OutOfMemoryError, OutputError, SpecError, TrainingError
from napari_unet3d.tasks.events import (
    Checkpointed,
    Event,
    HeldOut,
    Note,
    Previewed,
    Progress,
    Started,
    StepDone,
    Validated,
)
from napari_unet3d.tasks.live import LivePreview, Watcher
from napari_unet3d.tasks.run_folder import BEST, LAST, Position, RunFolder, RunRecord
from napari_unet3d.tasks.train_spec import TrainSpec, differences
from napari_unet3d.tasks.validate import Scores, ValidationSet
from napari_unet3d.volumes.volume import times

if TYPE_CHECKING:
    from napari_unet3d.network.devices import Device
    from napari_unet3d.network.model import Model
    from napari_unet3d.network.training import Learner

MAX_SMALLER_PATCHES = 3
_FINGERPRINT_VOXELS = 1 << 20
_PATCHES_AHEAD = 4
_STEPS_OF_SPEED = 20
_SECONDS_BETWEEN_CHECKPOINTS = 60.0


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """An image with its annotation.

    Attributes
    ----------
    image
        (z, y, x) or (z, y, x, c).
    labels
        (z, y, x).
    meanings
        What the values of the labels mean; the same classes for all pairs.
    origin
        Where the labels' first voxel lies in the image.
    voxel_size, unit
        Of the image.
    """

    image: Readable
    labels: Readable
    meanings: Meanings
    origin: Shape = (0, 0, 0)
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unit: str = "um"


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
    from napari_unet3d.network.devices import select_device, usable_memory

    if not pairs:
        raise SpecError("There is nothing to train on: no image with labels was passed.")
    device = select_device(spec.device)
    yield Progress("reading the annotation", 0, 1)
    annotated = [_annotated(pair, spec) for pair in pairs]
    for note in dict.fromkeys(note for volume in annotated for note in volume.scaling.notes):
        yield Note(note)
    for note in _doubts(spec, [volume.targets for volume in annotated]):
        yield Note(note)
    split = _split(spec, [volume.targets for volume in annotated])
    yield Note(split.note)
    for number, box in split.boxes:
        yield HeldOut(number, box, split.held_out[number].within([box]).n_voxels)
    held = [_with(volume, targets) for volume, targets in zip(annotated, split.held_out, strict=True)]
    validation = ValidationSet(held, spec.network, usable_memory(device) // 2)
    learnt = [_with(volume, targets) for volume, targets in zip(annotated, split.training, strict=True)]
    record = RunRecord(
        spec=spec,
        data=tuple(map(_fingerprint, annotated)),
        start=None if start is None else _weights_hash(start.weights),
        held_out=tuple(f"{number}: {box}" for number, box in split.boxes),
    )
    found = _begin(folder, record, resume, force)
    run = _Run(spec, device, learnt, validation, pairs[0], start, folder, threads, record)
    if live is not None:
        seen = annotated[live.pair]
        run.watcher = Watcher(live, seen.image, seen.scaling, spec.network)
    if found is not None:
        run.restore(*found)
        yield Note(f"The run goes on after step {run.position.step:,}.")
    return (yield from run.steps())


class _Run:
    """The state of a training run."""

    def __init__(
        self,
        spec: TrainSpec,
        device: Device,
        volumes: Sequence[AnnotatedVolume],
        validation: ValidationSet,
        first: TrainingPair,
        start: Model | None,
        folder: RunFolder | None,
        threads: int,
        record: RunRecord,
    ) -> None:
        self.spec, self.device, self.validation = spec, device, validation
        self.volumes, self.first, self.folder, self.threads = volumes, first, folder, threads
        self.start = start
        self.position = Position(patch=spec.patch)
        self.scores: Scores | None = None
        self.best: Model | None = None
        self.restored: Any = None
        self.record = record
        self.is_best_kept = True
        self.watcher: Watcher | None = None
        self.rows: list[dict[str, Any]] = []
        self.waited = 0.0
        self.extra = tuple(f"{what} {name}" for name in spec.class_names[1:] for what in ("dice", "iou", "voxels"))

    def restore(self, state: Any, position: Position) -> None:
        self.restored, self.position = state, position

    def steps(self) -> Generator[Event, None, TrainResult]:
        yield Progress("preparing", 0, 1)
        yield from self._fit_memory()
        learner = self._learner()
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
        is_kept = self.folder is not None and (self.folder.path / BEST).is_dir()
        if self.best is None and self.folder is not None and is_kept:
            from napari_unet3d.network.store import load_model

            self.best = load_model(self.folder.path / BEST)
        best_step = self.position.best_step if self.best is not None else self.position.step
        return TrainResult(self.best or last, last, self.position.step, self.scores, best_step)

    def _fit_memory(self) -> Generator[Event, None, None]:
        """Take smaller patches where those of the spec would not fit into what is free now."""
        from napari_unet3d.network.devices import usable_memory

        free, patch = usable_memory(self.device), self.position.patch
        while self._bytes(patch) > free and (smaller := smaller_patch(patch, self.spec.network.blocks)) is not None:
            patch = smaller
        if patch != self.position.patch:
            needed = self._bytes(self.position.patch)
            yield Note(
                f"A patch of {times(self.position.patch)} voxels takes {needed / 2**30:.1f} GiB and "
                f"{free / 2**30:.1f} GiB may be used; smaller patches of {times(patch)} voxels are taken."
            )
            self.position = self.position.model_copy(update={"patch": patch})

    def _learner(self) -> Learner:
        from napari_unet3d.network.training import Learner

        spec = self.spec
        learner = Learner(
            spec.network,
            None if self.start is None else _transferred(self.start, spec),
            self.device,
            class_weights=spec.weights_of_classes,
            cross_entropy_share=spec.cross_entropy_share,
            clip_norm=spec.clip_norm,
            averaging=spec.averaging,
            seed=spec.seed,
        )
        if self.restored is not None:
            learner.restore(self.restored)
            self.restored = None
        return learner

    def _loop(self, learner: Learner) -> Generator[Event, None, None]:
        spec, shape = self.spec, self.position.patch
        frame = PatchFrame(shape=shape, halo=halo(spec.network.blocks), voxel_size=self.volumes[0].voxel_size)
        source = AnnotatedSource(self.volumes, spec.augment, frame)
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
                    if self.watcher is not None and (box := self.watcher.look(learner.probabilities)) is not None:
                        yield Previewed(number + 1, box)
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

    def _bytes(self, patch: Shape) -> int:
        spec = self.spec
        each = self.device.bytes_per_value
        return training_bytes(patch, spec.network, batch=spec.batch, bytes_per_value=each)

    def _moved(self, **update: Any) -> None:
        self.position = self.position.model_copy(update=update)

    def _is_due(self) -> bool:
        """Return whether this is a step after which is scored, and it was not yet."""
        step = self.position.step
        return step > self.position.scored and (step % self.spec.validate_every == 0 or step >= self.spec.steps)

    def _validate(self, learner: Learner) -> Generator[Event, None, None]:
        self._moved(scored=self.position.step)
        if not len(self.validation):
            return
        spec = self.spec
        self.scores = self.validation.score(
            learner.probabilities,
            class_weights=spec.weights_of_classes,
            cross_entropy_share=spec.cross_entropy_share,
        )
        dice = tuple(part.dice for part in self.scores.overlaps)
        iou = tuple(part.iou for part in self.scores.overlaps)
        score, step = self.scores.mean_dice, self.position.step
        if score is None:
            # No object is held out, so nothing but the loss tells models apart.
            score = -self.scores.loss
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
            if not self.folder.has_run:
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
            for name, part, n in zip(spec.class_names[1:], self.scores.overlaps, self.scores.voxels, strict=True):
                metrics |= {f"dice {name}": round(part.dice, 4), f"held-out voxels of {name}": n}
        card = ModelCard(
            network=spec.network,
            class_names=spec.class_names,
            normalization=spec.normalization,
            voxel_size=self.first.voxel_size,
            unit=self.first.unit,
            training={
                "steps": self.position.step,
                "patch": times(self.position.patch),
                "batch": spec.batch,
                "learning rate": spec.learning_rate,
                "seed": spec.seed,
                "annotated voxels": sum(volume.targets.n_voxels for volume in self.volumes),
                "seconds": round(self.position.seconds, 1),
            },
            metrics=metrics,
        )
        return Model(card, learner.weights())


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


def _annotated(pair: TrainingPair, spec: TrainSpec) -> AnnotatedVolume:
    if pair.meanings.class_names != spec.class_names:
        raise SpecError(
            f"The classes of the labels, {', '.join(pair.meanings.class_names)}, are not those of the run, "
            f"{', '.join(spec.class_names)}."
        )
    channels = pair.image.shape[3] if len(pair.image.shape) == 4 else 1
    if channels != spec.network.channels:
        raise SpecError(f"The image has {channels} channels and the network takes {spec.network.channels}.")
    z, y, x = pair.image.shape[:3]
    targets = read_targets(pair.labels, pair.meanings, volume=(z, y, x), origin=pair.origin)
    return AnnotatedVolume(pair.image, targets, measure(spec.normalization, pair.image), pair.voxel_size)


def _with(volume: AnnotatedVolume, targets: Targets) -> AnnotatedVolume:
    return AnnotatedVolume(volume.image, targets, volume.scaling, volume.voxel_size)


def _doubts(spec: TrainSpec, volumes: Sequence[Targets]) -> list[str]:
    counts = np.sum([targets.counts for targets in volumes], axis=0)
    missing = [name for name, n in zip(spec.class_names, counts, strict=True) if not n]
    if len(missing) == len(spec.class_names) - 1:
        (there,) = set(spec.class_names) - set(missing)
        return [f"Only {there} is annotated; a network learns a class by what is not of it, so annotate others too."]
    return [f"No voxel of {', '.join(missing)} is annotated; it cannot be learnt."] if missing else []


def _split(spec: TrainSpec, volumes: Sequence[Targets]) -> Split:
    gap = reach(spec.network.blocks)
    if spec.validation == "none":
        return hold_nothing_out(volumes, "Nothing is held out, as was asked for; how good the model is is not known.")
    if spec.validation == "auto":
        return hold_out(volumes, gap)
    for part in spec.validation:
        if part.pair >= len(volumes):
            raise SpecError(f"There is no pair {part.pair + 1} to hold a box out of; there are {len(volumes)}.")
    return hold_boxes_out(volumes, [(part.pair, part.box) for part in spec.validation], gap)


def _begin(
    folder: RunFolder | None, record: RunRecord, resume: bool, force: bool
) -> tuple[dict[str, Any], Position] | None:
    """Begin a run in a folder, or return where the one there stands."""
    if folder is None:
        return None
    if not resume:
        if folder.has_run:
            raise OutputError(f"{folder.path} holds a run already; go on with it (--resume), or choose another folder.")
        folder.begin(record)
        return None
    old = folder.record()
    changed = differences(old.spec, record.spec, but=("device",))
    if old.data != record.data:
        changed.append("the images or their annotation are others")
    if old.start != record.start:
        changed.append("it starts from another model")
    if changed and not force:
        raise TrainingError(
            f"The run in {folder.path} was begun differently: {'; '.join(changed)}. Go on as it was begun, or force it "
            "(--force), or start a new run in another folder."
        )
    if changed:
        folder.begin(record)
    found = folder.load_checkpoint()
    folder.forget_after(0 if found is None else found[1].step)
    return found


def _fingerprint(volume: AnnotatedVolume) -> str:
    """Return what tells data apart: of the annotation all of it, of the image a sample."""
    digest = hashlib.sha256()
    digest.update(repr((volume.image.shape, volume.targets.shape, volume.voxel_size)).encode())
    for z in volume.targets.planes:
        plane = volume.targets.plane(z)
        digest.update(repr((z, plane.y, plane.x, plane.classes.shape)).encode())
        digest.update(plane.classes.tobytes())
    digest.update(np.ascontiguousarray(sample_voxels(volume.image, _FINGERPRINT_VOXELS)).tobytes())
    return digest.hexdigest()


def _weights_hash(weights: Any) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()


def _transferred(start: Model, spec: TrainSpec) -> dict[str, Any]:
    """Return weights to start with: those of a model, with a row of the last layer for every class that it knows."""
    theirs, ours = start.spec, spec.network
    for name in ("blocks", "filters", "channels"):
        if getattr(theirs, name) != getattr(ours, name):
            raise SpecError(
                f"The model to start from has {getattr(theirs, name)} {name} and the network {getattr(ours, name)}; "
                "they must be the same."
            )
    weights = {name: np.array(array) for name, array in start.weights.items()}
    old_names = start.card.class_names
    if old_names == spec.class_names:
        return weights
    kernel, bias = weights["output_logits/kernel"], weights["output_logits/bias"]
    rng = np.random.default_rng([spec.seed, 0])
    fresh = rng.normal(0, np.sqrt(2 / kernel.shape[-2]), (*kernel.shape[:-1], ours.classes)).astype(np.float32)
    fresh_bias = np.zeros(ours.classes, np.float32)
    for index, name in enumerate(spec.class_names):
        if name in old_names:
            fresh[..., index], fresh_bias[index] = kernel[..., old_names.index(name)], bias[old_names.index(name)]
    return {**weights, "output_logits/kernel": fresh, "output_logits/bias": fresh_bias}
