"""Writing OME-Zarr 0.5 box by box: a group with the metadata, and the array "0".

Each chunk carries a checksum, and each chunk is written even where it is empty, which an attribute says: so
that a chunk that was lost or damaged later is noticed by the reader and never taken for background.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from yaozarrs import v05
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore

from napari_unet3d import atomic
from napari_unet3d.errors import OutputError, shown
from napari_unet3d.volumes.arrays import Slices
from napari_unet3d.volumes.outputs.base import Output, OutputSpec, gone

ALL_CHUNKS = "napari_unet3d_all_chunks_written"
_CHUNK_SIZE = 128
_UNITS = {"um": "micrometer", "nm": "nanometer", "mm": "millimeter"}
# Beside what OME-Zarr says.
MADE_BY = "napari-unet3d"
# Okabe and Ito's colours, which most people with a colour deficiency tell apart.
_COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


class ZarrOutput(Output):
    """An OME-Zarr 0.5 image or label image; channels are stored first, as OME-Zarr demands."""

    def _begin(self, path: Path) -> None:
        path.mkdir()
        z, y, x, *c = self.shape
        stored = (*c, z, y, x)
        group = zarr.create_group(
            LocalStore(path),
            zarr_format=3,
            attributes={"ome": describe(self._spec), **({MADE_BY: self._spec.made_by} if self._spec.made_by else {})},
        )
        self._array: Any = group.create_array(
            "0",
            shape=stored,
            chunks=_chunk_shape(self.shape),
            dtype=self.dtype,
            compressors=[ZstdCodec(level=3, checksum=True)],
            fill_value=0,
            dimension_names=["c", "z", "y", "x"][-len(stored) :],
            attributes={ALL_CHUNKS: True},
            config={"write_empty_chunks": True},
        )
        self._count_chunks()

    def _resume(self, path: Path) -> None:
        for stray in (path / "0").rglob("*.partial"):
            # What zarr was writing when its process was killed.
            stray.unlink(missing_ok=True)
        self._array = open_array(path, mode="r+").with_config({"write_empty_chunks": True})
        self._count_chunks()

    def _count_chunks(self) -> None:
        counts = [-(-size // chunk) for size, chunk in zip(self._array.shape, self._array.chunks, strict=True)]
        self._has_chunk = np.zeros(counts, bool)

    @property
    def writing_bytes(self) -> int:
        """Return the bytes of the chunks that zarr decodes and encodes at the same time, and of their copies."""
        return _bytes_at_once(self._array.shape, self._array.chunks, self.dtype)

    def _write(self, box: Slices, values: npt.NDArray[Any]) -> None:
        stored = values if len(box) == 3 else np.moveaxis(values, 3, 0)
        where = _stored(box)
        for part in _rows(where, self._array.chunks):
            self._array[part] = stored[_within(part, where)]
        self._mark(box)

    def _mark(self, box: Slices) -> None:
        touched = (
            slice(part.start // chunk, -(-part.stop // chunk))
            for part, chunk in zip(_stored(box), self._array.chunks, strict=True)
        )
        self._has_chunk[tuple(touched)] = True

    def _read(self, box: Slices) -> npt.NDArray[Any]:
        return read_box(self._array, box)

    def _finish(self) -> None:
        folder = self._partial / "0"
        # zarr makes a folder again that was moved away in the meantime, and says nothing.
        lost = not (self._partial / "zarr.json").is_file() or not (folder / "zarr.json").is_file()
        for index, box in _chunks(self._array):
            if (folder / self._array.metadata.encode_chunk_key(index)).is_file():
                continue
            if lost or self._has_chunk[index]:
                raise OutputError(gone(self._spec.target, self._partial))
            self._array[box] = 0
        atomic.sync_tree(self._partial)

    def _abandon(self) -> None:
        """Nothing is held open between writes."""


def open_array(path: Path, *, mode: Literal["r", "r+"] = "r") -> Any:
    """Return the array of a folder that was begun here."""
    return zarr.open_array(LocalStore(path / "0", read_only=mode == "r"), mode=mode, zarr_format=3)


def read_box(array: Any, box: Slices) -> npt.NDArray[Any]:
    """Return a box (z, y, x[, c]) of an array that is stored with its channels first."""
    where = _stored(box)
    values = np.empty([part.stop - part.start for part in where], array.dtype)
    for part in _rows(where, array.chunks):
        values[_within(part, where)] = array[part]
    return values if len(box) == 3 else np.moveaxis(values, 0, 3)


def _rows(box: Slices, chunks: tuple[int, ...]) -> Iterator[Slices]:
    """Cut a box into rows of chunks along x: zarr holds all the chunks that it is asked for, decoded, at once."""
    for row in product(*(_cuts(part, size) for part, size in zip(box[:-1], chunks[:-1], strict=True))):
        yield (*row, box[-1])


def _cuts(part: slice, size: int) -> list[slice]:
    starts = range(part.start // size * size, part.stop, size)
    return [slice(max(part.start, at), min(part.stop, at + size)) for at in starts]


def _within(part: Slices, whole: Slices) -> Slices:
    """Return where a part of a box lies in the array that holds the box."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(part, whole, strict=True))


def _stored(box: Slices) -> Slices:
    return box if len(box) == 3 else (box[3], *box[:3])


def _chunk_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a chunk of a volume (z, y, x[, c]), as it is stored."""
    z, y, x, *c = (min(size, _CHUNK_SIZE) for size in shape)
    return (1, z, y, x) if c else (z, y, x)


def writing_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the `writing_bytes` of an output of that shape before there is one."""
    z, y, x, *c = shape
    return _bytes_at_once((*c, z, y, x), _chunk_shape(shape), dtype)


def _bytes_at_once(shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    n_chunks = -(-shape[-1] // chunks[-1])
    return int(2 * math.prod(chunks) * dtype.itemsize * min(n_chunks, int(zarr.config.get("async.concurrency", 10))))


def describe(spec: OutputSpec) -> dict[str, Any]:
    """Return the OME-Zarr 0.5 metadata of an output, ready for JSON."""
    axes: list[Any] = [v05.SpaceAxis(name=axis, unit=_UNITS.get(spec.unit)) for axis in "zyx"]
    scale, translation = list(spec.voxel_size), list(spec.translate)
    if len(spec.shape) == 4:
        axes.insert(0, v05.ChannelAxis(name="c"))
        scale.insert(0, 1.0)
        translation.insert(0, 0.0)
    transforms: list[Any] = [v05.ScaleTransformation(scale=scale)]
    if any(translation):
        transforms.append(v05.TranslationTransformation(translation=translation))
    multiscale = v05.Multiscale(
        name=shown(spec.target.stem),
        axes=axes,
        datasets=[v05.Dataset(path="0", coordinateTransformations=transforms)],
    )
    image: v05.Image = v05.Image(multiscales=[multiscale])
    if spec.kind == "labels":
        image = v05.LabelImage(multiscales=[multiscale], image_label=_image_label(spec.class_names))
    document: dict[str, Any] = image.model_dump(mode="json", by_alias=True, exclude_none=True)
    # The model of a property knows its label value alone and drops the rest, which OME-Zarr leaves free.
    for entry in document.get("image-label", {}).get("properties", []):
        entry["class"] = spec.class_names[entry["label-value"]]
    for entry in document.get("image-label", {}).get("colors", []):
        entry["label-value"] = int(entry["label-value"])
    return document


def _image_label(class_names: tuple[str, ...]) -> v05.ImageLabel:
    if not class_names:
        return v05.ImageLabel(version="0.5")
    colors = [v05.LabelColor(label_value=0, rgba=[0, 0, 0, 0])]
    for value in range(1, len(class_names)):
        rgb = _COLORS[(value - 1) % len(_COLORS)]
        colors.append(v05.LabelColor(label_value=value, rgba=[*rgb, 255]))
    properties = [v05.LabelProperty(label_value=value) for value in range(len(class_names))]
    return v05.ImageLabel(version="0.5", colors=colors, properties=properties)


def _chunks(array: Any) -> Iterator[tuple[tuple[int, ...], Slices]]:
    """Yield the index and the box of each chunk."""
    counts = [-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True)]
    for index in product(*map(range, counts)):
        starts = [at * chunk for at, chunk in zip(index, array.chunks, strict=True)]
        stops = [min(a + chunk, size) for a, chunk, size in zip(starts, array.chunks, array.shape, strict=True)]
        yield index, tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
