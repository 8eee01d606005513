"""Writing OME-Zarr 0.5 box by box: a group with the metadata, and the array "0".

Each chunk carries a checksum, and each chunk is written even where it is empty, which an attribute says: so
that a chunk that was lost or damaged later is noticed by the reader and never taken for background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
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
from napari_unet3d.volumes.outputs.pyramid import Factors, fill_level, plan_levels
from napari_unet3d.volumes.outputs.zarr_layout import Layout, bytes_at_once, lay_out

ALL_CHUNKS = "napari_unet3d_all_chunks_written"
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
        self._open(create_array(group, "0", stored, self.dtype, lay_out(stored, self.dtype, self._spec.blocks)))

    def _resume(self, path: Path) -> None:
        if not self._is_shared:
            _remove_strays(path)
        self._open(open_array(path, mode="r+").with_config({"write_empty_chunks": True}))

    def _open(self, array: Any) -> None:
        self._array = array
        self._layout = Layout(array.chunks, array.shards)
        counts = [-(-size // step) for size, step in zip(array.shape, self._layout.files, strict=True)]
        self._has_file = np.zeros(counts, bool)
        self._not_synced: set[tuple[int, ...]] = set()

    @property
    def writing_bytes(self) -> int:
        """Return the bytes of the chunks that zarr decodes and encodes at the same time, and of their copies."""
        return bytes_at_once(self._array.shape, self._layout, self.dtype)

    @property
    def file_shape(self) -> tuple[int, int, int]:
        """Return the shape (z, y, x) of a chunk, or of a shard where there are some."""
        z, y, x = self._layout.files[-3:]
        return z, y, x

    def _write(self, box: Slices, values: npt.NDArray[Any]) -> None:
        stored = values if len(box) == 3 else np.moveaxis(values, 3, 0)
        where = _stored(box)
        for part in _rows(where, self._layout):
            self._array[part] = stored[_within(part, where)]
        self._mark(box)
        self._not_synced.update(product(*(range(part.start, part.stop) for part in self._files_of(box))))

    def _files_of(self, box: Slices) -> Slices:
        """Return which files hold a box, as an index into the grid of them."""
        return tuple(
            slice(part.start // step, -(-part.stop // step))
            for part, step in zip(_stored(box), self._layout.files, strict=True)
        )

    def _mark(self, box: Slices) -> None:
        self._has_file[self._files_of(box)] = True

    def _file(self, index: tuple[int, ...]) -> Path:
        return self._partial / "0" / str(self._array.metadata.encode_chunk_key(index))

    def _make_levels(self) -> Iterator[tuple[int, int]]:
        self._fill_missing()
        levels = plan_levels(self.shape[:3], self._spec.voxel_size)
        for stray in (found for found in self._partial.iterdir() if found.name.isdecimal() and found.name != "0"):
            # What an earlier process had begun.
            atomic.remove(stray)
        group = zarr.open_group(LocalStore(self._partial), mode="r+", zarr_format=3)
        arrays = [self._array]
        for number, factors in enumerate(levels, start=1):
            space = (-(-size // n) for size, n in zip(self.shape[:3], factors, strict=True))
            stored = (*self._array.shape[:-3], *space)
            layout = lay_out(stored, self.dtype, self.file_shape)
            arrays.append(create_array(group, str(number), stored, self.dtype, layout))
        total = sum(sum(1 for _ in files_of(array)) for array in arrays[1:])
        done = 0
        for source, target in pairwise(arrays):
            for _ in fill_level(source, target, is_labels=self._spec.kind == "labels"):
                done += 1
                yield done, total
        if levels:
            group.attrs["ome"] = describe(self._spec, levels)

    def _sync(self) -> None:
        atomic.sync_files([self._file(index) for index in self._not_synced], self._partial)
        self._not_synced.clear()

    def _read(self, box: Slices) -> npt.NDArray[Any]:
        return read_box(self._array, box)

    def _finish(self) -> None:
        self._fill_missing()
        _remove_strays(self._partial)
        atomic.sync_tree(self._partial)

    def _fill_missing(self) -> None:
        """Write what was never written, which is 0.

        Raises
        ------
        OutputError
            If something that was written is not there any more.
        """
        # zarr makes a folder again that was moved away in the meantime, and says nothing.
        lost = any(not (folder / "zarr.json").is_file() for folder in (self._partial, self._partial / "0"))
        for index, box in files_of(self._array):
            if self._file(index).is_file():
                continue
            if lost or self._has_file[index]:
                raise OutputError(gone(self._spec.target, self._partial))
            self._array[box] = 0
            self._has_file[index] = True

    def _abandon(self) -> None:
        """Nothing is held open between writes."""


def _remove_strays(path: Path) -> None:
    """Remove what zarr was writing when a process was killed."""
    for stray in (path / "0").rglob("*.partial"):
        stray.unlink(missing_ok=True)


def create_array(group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], layout: Layout) -> Any:
    """Create an array in the group of an image; every chunk of it will be written, and says so.

    Parameters
    ----------
    group
        Of zarr.
    name
        Of the array.
    shape, dtype, layout
        As it is stored, ([c, ]z, y, x).
    """
    return group.create_array(
        name,
        shape=shape,
        chunks=layout.chunks,
        shards=layout.shards,
        dtype=dtype,
        compressors=[ZstdCodec(level=3, checksum=True)],
        fill_value=0,
        dimension_names=["c", "z", "y", "x"][-len(shape) :],
        attributes={ALL_CHUNKS: True},
        config={"write_empty_chunks": True},
    )


def open_array(path: Path, *, mode: Literal["r", "r+"] = "r") -> Any:
    """Return the array of a folder that was begun here."""
    return zarr.open_array(LocalStore(path / "0", read_only=mode == "r"), mode=mode, zarr_format=3)


def read_box(array: Any, box: Slices) -> npt.NDArray[Any]:
    """Return a box (z, y, x[, c]) of an array that is stored with its channels first."""
    where = _stored(box)
    values = np.empty([part.stop - part.start for part in where], array.dtype)
    for part in _rows(where, Layout(array.chunks, None)):
        values[_within(part, where)] = array[part]
    return values if len(box) == 3 else np.moveaxis(values, 0, 3)


def _rows(box: Slices, layout: Layout) -> Iterator[Slices]:
    """Cut a box into rows of chunks, or single shards: zarr holds all that it is asked for, decoded, at once."""
    cuts = [_cuts(part, size) for part, size in zip(box, layout.files, strict=True)]
    if layout.shards is None:
        cuts[-1] = [box[-1]]
    yield from product(*cuts)


def _cuts(part: slice, size: int) -> list[slice]:
    starts = range(part.start // size * size, part.stop, size)
    return [slice(max(part.start, at), min(part.stop, at + size)) for at in starts]


def _within(part: Slices, whole: Slices) -> Slices:
    """Return where a part of a box lies in the array that holds the box."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(part, whole, strict=True))


def _stored(box: Slices) -> Slices:
    return box if len(box) == 3 else (box[3], *box[:3])


def writing_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the `writing_bytes` of an output of that shape before there is one; shards take no more than chunks do."""
    z, y, x, *c = shape
    stored = (*c, z, y, x)
    return bytes_at_once(stored, lay_out(stored, dtype, None), dtype)


def describe(spec: OutputSpec, levels: Sequence[Factors] = ()) -> dict[str, Any]:
    """Return the OME-Zarr 0.5 metadata of an output, ready for JSON; `levels` are its smaller copies."""
    axes: list[Any] = [v05.SpaceAxis(name=axis, unit=_UNITS.get(spec.unit)) for axis in "zyx"]
    if len(spec.shape) == 4:
        axes.insert(0, v05.ChannelAxis(name="c"))
    multiscale = v05.Multiscale(
        name=shown(spec.target.stem),
        axes=axes,
        datasets=[
            v05.Dataset(path=str(number), coordinateTransformations=_transforms(spec, factors))
            for number, factors in enumerate(((1, 1, 1), *levels))
        ],
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


def _transforms(spec: OutputSpec, factors: Factors) -> list[Any]:
    """Return how a copy lies in space: the middle of its first voxel is the middle of those that it stands for."""
    scale = [size * n for size, n in zip(spec.voxel_size, factors, strict=True)]
    middle = ((n - 1) / 2 * size for size, n in zip(spec.voxel_size, factors, strict=True))
    translation = [offset + more for offset, more in zip(spec.translate, middle, strict=True)]
    if len(spec.shape) == 4:
        scale.insert(0, 1.0)
        translation.insert(0, 0.0)
    transforms: list[Any] = [v05.ScaleTransformation(scale=scale)]
    if any(translation):
        transforms.append(v05.TranslationTransformation(translation=translation))
    return transforms


def _image_label(class_names: tuple[str, ...]) -> v05.ImageLabel:
    if not class_names:
        return v05.ImageLabel(version="0.5")
    colors = [v05.LabelColor(label_value=0, rgba=[0, 0, 0, 0])]
    for value in range(1, len(class_names)):
        rgb = _COLORS[(value - 1) % len(_COLORS)]
        colors.append(v05.LabelColor(label_value=value, rgba=[*rgb, 255]))
    properties = [v05.LabelProperty(label_value=value) for value in range(len(class_names))]
    return v05.ImageLabel(version="0.5", colors=colors, properties=properties)


def files_of(array: Any) -> Iterator[tuple[tuple[int, ...], Slices]]:
    """Yield the index and the box of each chunk, or of each shard where there are some."""
    files = array.shards or array.chunks
    counts = [-(-size // step) for size, step in zip(array.shape, files, strict=True)]
    for index in product(*map(range, counts)):
        starts = [at * step for at, step in zip(index, files, strict=True)]
        stops = [min(start + step, size) for start, step, size in zip(starts, files, array.shape, strict=True)]
        yield index, tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
