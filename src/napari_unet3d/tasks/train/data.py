"""What a network learns from: images with their annotation, parted into what is learnt and what is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_unet3d.core.annotation.patches import AnnotatedVolume
from napari_unet3d.core.annotation.targets import Targets
from napari_unet3d.core.annotation.validation import Split, hold_boxes_out, hold_nothing_out, hold_out
from napari_unet3d.core.normalize import Normalization, measure, sample_voxels, settled
from napari_unet3d.errors import SpecError
from napari_unet3d.tasks.events import HeldOut
from napari_unet3d.tasks.train.annotation import Annotation, Painted, TrainingPair, read_annotation
from napari_unet3d.tasks.train.spec import TrainSpec

_SAMPLED_VOXELS = 1 << 20


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Pairs that were read and parted.

    Attributes
    ----------
    pairs
        As they were passed.
    volumes
        With all their annotation.
    learnt, held_out
        The same volumes with what is learnt from, and with what is scored on.
    boxes
        Where what is held out lies.
    notes
        What the user should know.
    normalization
        How the images are scaled, settled.
    fingerprints
        What tells the pairs from other ones.
    voxel_size, unit
        Of the first image.
    """

    pairs: tuple[TrainingPair, ...]
    volumes: tuple[AnnotatedVolume, ...]
    learnt: tuple[AnnotatedVolume, ...]
    held_out: tuple[AnnotatedVolume, ...]
    boxes: tuple[HeldOut, ...]
    notes: tuple[str, ...]
    normalization: Normalization
    fingerprints: tuple[str, ...]
    voxel_size: tuple[float, float, float]
    unit: str


def read_training_data(pairs: Annotation | Sequence[TrainingPair], spec: TrainSpec) -> TrainingData:
    """Read the annotation of all pairs, unless it was read already, and hold a part of it out.

    Parameters
    ----------
    pairs
        What is learnt from.
    spec
        The choices for the run.

    Raises
    ------
    SpecError, VolumeError
        If the annotation does not suit: with what is wrong, and the values found.
    """
    annotation = pairs if isinstance(pairs, Annotation) else read_annotation(pairs)
    pairs, targets = annotation.pairs, annotation.targets
    normalization = settled(spec.normalization, [pair.image for pair in pairs])
    volumes = tuple(_annotated(pair, found, spec, normalization) for pair, found in zip(pairs, targets, strict=True))
    images = [_image_fingerprint(volume) for volume in volumes]
    split = _split(spec, targets, images)
    notes = [note for pair in pairs for note in pair.notes]
    notes += [note for volume in volumes for note in volume.scaling.notes]
    boxes = []
    for number, box in split.boxes:
        same = [held for held, image in zip(split.held_out, images, strict=True) if image == images[number]]
        boxes.append(HeldOut(number, box, sum(held.within([box]).n_voxels for held in same)))
    return TrainingData(
        pairs=pairs,
        volumes=volumes,
        learnt=tuple(replace(volume, targets=part) for volume, part in zip(volumes, split.training, strict=True)),
        held_out=tuple(replace(volume, targets=part) for volume, part in zip(volumes, split.held_out, strict=True)),
        boxes=tuple(boxes),
        notes=tuple(dict.fromkeys([*notes, *_painted(spec, targets).doubts, split.note, *_unscored(spec, split)])),
        normalization=normalization,
        fingerprints=tuple(_fingerprint(volume, image) for volume, image in zip(volumes, images, strict=True)),
        voxel_size=pairs[0].voxel_size,
        unit=pairs[0].unit,
    )


def _annotated(pair: TrainingPair, targets: Targets, spec: TrainSpec, normalization: Normalization) -> AnnotatedVolume:
    if pair.meanings.class_names != spec.class_names:
        raise SpecError(
            f"The classes of the labels, {', '.join(pair.meanings.class_names)}, are not those of the run, "
            f"{', '.join(spec.class_names)}."
        )
    if pair.channels != spec.network.channels:
        raise SpecError(f"The image has {pair.channels} channels and the network takes {spec.network.channels}.")
    return AnnotatedVolume(pair.image, targets, measure(normalization, pair.image), pair.voxel_size)


def _painted(spec: TrainSpec, volumes: Sequence[Targets]) -> Painted:
    counts = np.sum([targets.counts for targets in volumes], axis=0)
    return Painted(spec.class_names, tuple(counts.tolist()))


def _unscored(spec: TrainSpec, split: Split) -> list[str]:
    """Return why classes get no score, as one sentence, where some get none although something is held out."""
    if not split.n_held_out:
        return []
    counts = np.sum([targets.counts for targets in split.held_out], axis=0)
    there = [name for name, n in zip(spec.class_names, counts, strict=True) if n]
    if len(there) == 1:
        return [
            f"There will be no score: only {there[0]} is annotated in what is held out, and a network that finds "
            "nothing else would be perfect there. Annotate other classes too, or hold something else out."
        ]
    missing = [name for name, n in zip(spec.class_names, counts, strict=True) if not n]
    return [f"There will be no score of {', '.join(missing)}: none is held out."] if missing else []


def _split(spec: TrainSpec, volumes: Sequence[Targets], images: Sequence[str]) -> Split:
    gap = spec.network.geometry.reach
    if spec.validation == "none":
        return hold_nothing_out(volumes, "Nothing is held out, as you asked, so there is no score of the model.")
    if spec.validation == "auto":
        return hold_out(volumes, gap, images)
    for part in spec.validation:
        if part.pair >= len(volumes):
            raise SpecError(f"There is no pair {part.pair + 1} to hold a box out of; there are {len(volumes)}.")
    return hold_boxes_out(volumes, [(part.pair, part.box) for part in spec.validation], gap, images)


def _image_fingerprint(volume: AnnotatedVolume) -> str:
    """Return what tells images apart, from a sample of their voxels."""
    digest = hashlib.sha256(repr(volume.image.shape).encode())
    digest.update(np.ascontiguousarray(sample_voxels(volume.image, _SAMPLED_VOXELS)).tobytes())
    return digest.hexdigest()


def _fingerprint(volume: AnnotatedVolume, image: str) -> str:
    """Return what tells an image with all of its annotation apart."""
    digest = hashlib.sha256(repr((image, volume.voxel_size, volume.targets.shape)).encode())
    for z in volume.targets.planes:
        plane = volume.targets.plane(z)
        digest.update(repr((z, plane.y, plane.x, plane.classes.shape)).encode())
        digest.update(plane.classes.tobytes())
    return digest.hexdigest()
