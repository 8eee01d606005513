"""What is painted is on the disk, chunk by chunk, and nothing else is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet3d.errors import OutputError, VolumeError
from napari_unet3d.tasks.projects.annotation import KeptAnnotation
from napari_unet3d.volumes import read_volume

PLACE = {"voxel_size": (0.2, 0.1, 0.1), "translate": (0.0, 1.0, 2.0), "unit": "um"}


def create(folder, shape, dtype=np.uint8) -> KeptAnnotation:
    return KeptAnnotation.create(folder / f"{len(list(folder.iterdir()))}.ome.zarr", shape, dtype, **PLACE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("annotations")


def strokes(labels, rng, n):
    for _ in range(n):
        z, y, x = (int(rng.integers(0, size)) for size in labels.shape[-3:])
        labels[..., z : z + 1, y : y + 9, x : x + 9] = rng.integers(0, 4)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([(3, 40, 50), (33, 130, 20), (17, 129, 140), (2, 20, 33, 40)]),
    st.sampled_from(["uint8", "int32", "int64", "uint16"]),
    st.integers(0, 2**32 - 1),
)
def test_what_was_saved_is_read_again_whatever_was_painted_and_erased(folder, shape, dtype, seed):
    rng = np.random.default_rng(seed)
    store, labels = create(folder, shape, dtype), np.zeros(shape, dtype)
    for _ in range(3):
        strokes(labels, rng, 4)
        assert store.save(labels) == np.count_nonzero(labels)
    again = KeptAnnotation(store.path)
    found = again.load()
    assert found.dtype == labels.dtype
    np.testing.assert_array_equal(found, labels)
    # It goes on from what was read.
    strokes(found, rng, 4)
    again.save(found)
    np.testing.assert_array_equal(KeptAnnotation(store.path).load(), found)
    found[:] = 0
    assert again.save(found) == 0
    assert not KeptAnnotation(store.path).load().any()


def test_it_is_stored_as_zarr_itself_would_store_it(tmp_path):
    for dtype in ("uint8", "int32"):
        labels = np.zeros((20, 30, 140), dtype)
        labels[3, 4, 5:138] = 3
        store = create(tmp_path, labels.shape, dtype)
        store.save(labels)
        peer = zarr.create_array(
            tmp_path / f"peer-{dtype}",
            data=labels,
            chunks=(16, 30, 128),
            compressors=[zarr.codecs.ZstdCodec(level=3, checksum=True)],
            dimension_names=["z", "y", "x"],
            zarr_format=3,
        )
        chunks = sorted(path.relative_to(store.path / "0") for path in (store.path / "0").rglob("c/*/*/*"))
        found = zarr.open_array(store.path / "0", mode="r")
        assert found.metadata == peer.metadata
        peer_chunks = {path.relative_to(tmp_path / f"peer-{dtype}"): path.read_bytes() for path in _files(peer)}
        assert {chunk: (store.path / "0" / chunk).read_bytes() for chunk in chunks} == peer_chunks


def _files(array):
    return sorted(Path(array.store.root).rglob("c/*/*/*"))


def test_only_chunks_that_have_changed_are_written(tmp_path):
    labels = np.zeros((40, 200, 200), np.uint8)
    store = create(tmp_path, labels.shape)
    labels[3, 5:9, 5:9] = labels[20, 150:160, 5:9] = 1
    store.save(labels)
    files = {path: path.stat().st_mtime_ns for path in (store.path / "0").rglob("*") if path.is_file()}
    assert len(files) == 3  # two chunks, and what the array is
    labels[20, 150, 6] = 2
    again = KeptAnnotation(store.path)
    again.load()
    again.save(labels)
    changed = [path for path, at in files.items() if path.stat().st_mtime_ns != at]
    assert [path.relative_to(store.path).as_posix() for path in changed] == ["0/c/1/1/0"]


def test_any_program_that_knows_ome_zarr_can_open_it(tmp_path):
    labels = np.zeros((20, 30, 40), np.uint8)
    labels[4, 5, 6] = 2
    store = create(tmp_path, labels.shape)
    store.save(labels)
    yaozarrs.validate_zarr_store(store.path)
    volume = read_volume(store.path, kind="labels")
    assert volume.voxel_size == (0.2, 0.1, 0.1)
    assert volume.translate == (0.0, 1.0, 2.0)
    np.testing.assert_array_equal(np.asarray(volume.data[...]), labels)


def test_a_damaged_chunk_is_refused_and_not_read_as_something_else(tmp_path):
    labels = np.ones((4, 30, 40), np.uint8)
    store = create(tmp_path, labels.shape)
    store.save(labels)
    chunk = store.path / "0/c/0/0/0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(VolumeError, match="cannot be read"):
        KeptAnnotation(store.path).load()


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="cannot be opened"):
        KeptAnnotation(tmp_path / "none.ome.zarr")


def test_nothing_is_left_where_it_cannot_be_made(tmp_path):
    with pytest.raises(OutputError):
        KeptAnnotation.create(tmp_path / "none" / "a.ome.zarr", (2, 3, 4), np.uint8, **PLACE)
    assert not list(tmp_path.iterdir())
