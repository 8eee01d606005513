"""One augmented patch as files: the image, its labels, and the record of what was done, with which it is made again."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from napari_unet3d import atomic
from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.augment.draw import Sample
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import Scaling, ScalingNumbers
from napari_unet3d.errors import OutputError, SpecError, VolumeError, shown
from napari_unet3d.small_files import read_small
from napari_unet3d.stopping import defer_signals
from napari_unet3d.tasks.augment.patches import (
    PATCH,
    PATCH_LABELS,
    AugmentRequest,
    AugmentResult,
    augment,
    check_shapes,
    source_of,
)
from napari_unet3d.tasks.events import Event
from napari_unet3d.tasks.segment.files import check_apart
from napari_unet3d.tasks.specs import Spec
from napari_unet3d.volumes import Volume, create_output


class AugmentRecord(Spec):
    """What was written into files, so that it can be made once more.

    Attributes
    ----------
    image, labels
        The volumes.
    shape, dtype
        Of the image, (z, y, x) or (z, y, x, c).
    scaling
        The numbers of a `Scaling`.
    sample
        What was done.
    """

    format: Literal[1] = 1
    image: str
    labels: str | None = None
    shape: tuple[int, ...]
    dtype: str
    scaling: ScalingNumbers
    sample: Sample


def augment_files(
    image: Volume, labels: Volume | None, request: AugmentRequest, path: Path, *, overwrite: bool = False
) -> Generator[Event, None, AugmentResult]:
    """Write one patch: its image to `path`, its labels and the record of what was done beside it.

    Parameters
    ----------
    image, labels
        From `read_volume`.
    request
        Which patch; one seed.
    path
        `.tif`, `.ome.tif` or `.zarr`; see `paths_beside` for the others.
    overwrite
        Replace what is there.

    Raises
    ------
    OutputError
        If something exists or cannot be written.
    Unet3dError
        As `augment`.
    """
    if labels is not None and labels.dtype.kind == "f":
        raise VolumeError(f"The labels are {labels.dtype} numbers; whole numbers are needed.")
    voxels = None if labels is None else labels.data
    check_shapes(image.data, voxels)
    labels_path, record_path = paths_beside(path)
    for volume in (image, labels):
        for target in (path, labels_path, record_path):
            if volume is not None:
                check_apart(volume, target)
    if labels is None and os.path.lexists(labels_path):
        raise OutputError(
            f"{shown(labels_path)} lies there, from an earlier patch, and would be taken for the labels of this one. "
            "Remove it, or pass --labels."
        )
    if os.path.lexists(record_path) and not overwrite:
        raise OutputError(atomic.exists_already(record_path))
    # Where the patch lies is known before anything is read.
    drawn = request.replay or source_of(request, image.data, None, Scaling((), ())).sample(request.seeds[0])
    frame, inner = drawn.frame, drawn.frame.output
    channels = image.data.shape[3:]
    with ExitStack() as stack:
        outputs: dict[str, Any] = {}
        for name, target, box, dtype in (
            (PATCH, path, Box.whole(frame.shape), "float32"),
            (PATCH_LABELS, labels_path, inner, "" if labels is None else labels.dtype.name),
        ):
            if dtype:
                output = create_output(
                    target,
                    (*box.shape, *(channels if name == PATCH else ())),
                    dtype,
                    voxel_size=image.voxel_size,
                    unit=image.unit,
                    translate=_translate(image, box.shifted(drawn.corner)),
                    kind="image" if name == PATCH else "labels",
                    overwrite=overwrite,
                )
                outputs[name] = stack.enter_context(output)
        result = yield from augment(request, image.data, voxels, outputs)
        record = AugmentRecord(
            image=image.path,
            labels=None if labels is None else labels.path,
            shape=tuple(image.data.shape),
            dtype=image.dtype.name,
            scaling=result.scaling,
            sample=result.samples[0],
        )
        with defer_signals():
            # They belong together.
            for output in outputs.values():
                output.commit()
            atomic.write_text(record_path, record.model_dump_json(), overwrite=overwrite)
    return result


def paths_beside(path: Path) -> tuple[Path, Path]:
    """Return where the labels and the record of a patch go: NAME-labels with its suffix, and NAME.json.

    Examples
    --------
    >>> [str(beside) for beside in paths_beside(Path("patch.ome.tif"))]
    ['patch-labels.ome.tif', 'patch.json']
    """
    n = len(path.stem) - 4 if path.stem.lower().endswith(".ome") else len(path.stem)
    name, suffix = path.name[:n], path.name[n:]
    return path.with_name(f"{name}-labels{suffix}"), path.with_name(f"{name}.json")


def read_record(path: Path) -> AugmentRecord:
    """Return a record that `augment_files` wrote.

    Raises
    ------
    SpecError
        If it is none.
    """
    record: AugmentRecord = _parse(path, AugmentRecord)
    return record


def read_choices(path: Path) -> AugmentSpec:
    """Return what may be done, from the JSON of an `AugmentSpec`.

    Raises
    ------
    SpecError
        If it is none.
    """
    choices: AugmentSpec = _parse(path, AugmentSpec)
    return choices


def _parse(path: Path, kind: Any) -> Any:
    try:
        return kind.model_validate_json(read_small(path))
    except OSError as error:
        raise SpecError(f"{shown(path)} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SpecError(
            f"{shown(path)} is no {_KINDS[kind]}: {where + ': ' if where else ''}{first['msg']}."
        ) from error


_KINDS: dict[Any, str] = {AugmentRecord: "record of an augmented patch", AugmentSpec: "choice of augmentations"}


def _translate(image: Volume, box: Box) -> tuple[float, float, float]:
    z, y, x = (
        position + start * size
        for position, (start, _), size in zip(image.translate, box, image.voxel_size, strict=True)
    )
    return z, y, x
