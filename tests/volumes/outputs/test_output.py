"""What is written is what is read, and an output is there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from itertools import product

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from yaozarrs import validate_zarr_store

from napari_unet3d import atomic
from napari_unet3d.errors import OutputError, VolumeError
from napari_unet3d.processes import host, process_start
from napari_unet3d.volumes import create_output, read_volume
from napari_unet3d.volumes.outputs.base import DTYPES
from napari_unet3d.volumes.outputs.creating import open_output, output_spec, writing_bytes
from napari_unet3d.volumes.outputs.watching import BeingWritten

NAMES = ("out.tif", "out.ome.tif", "out.zarr")
UM = {"voxel_size": (0.3, 0.1, 0.1), "unit": "um"}


def _numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def _written(path, values, **options):
    options = {**UM, "kind": "image" if values.ndim == 4 or values.dtype.kind == "f" else "labels", **options}
    with create_output(path, values.shape, values.dtype, **options) as output:
        output[...] = values
        return output.commit()


sizes = st.floats(1e-3, 1e3, allow_nan=False)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    channels=st.sampled_from([(), (2,), (3,)]),
    dtype=st.sampled_from(DTYPES),
    voxel_size=st.tuples(sizes, sizes, sizes),
    translate=st.tuples(st.just(0.0) | sizes, st.just(0.0) | sizes, st.just(0.0) | sizes),
    unit=st.sampled_from(["um", "nm", "mm", "pixel"]),
)
def test_a_volume_comes_back_with_its_numbers_and_its_place(
    tmp_path_factory, name, shape, channels, dtype, voxel_size, translate, unit
):
    values = _numbers((*shape, *channels), dtype)
    place = tmp_path_factory.mktemp("out") / name
    path = _written(place, values, kind="image", voxel_size=voxel_size, translate=translate, unit=unit)
    volume = read_volume(path)
    assert volume.dtype == dtype
    assert np.array_equal(volume.data[...], values)
    if unit == "pixel" and not name.endswith(".zarr"):
        return  # a TIFF in pixels has no size: what it says is noted, and other readers take it for 1
    assert volume.voxel_size == pytest.approx(voxel_size, rel=1e-6)
    assert volume.unit == unit
    assert volume.translate == pytest.approx(translate, rel=1e-6)


@st.composite
def _partitions(draw, size):
    cuts = sorted(draw(st.sets(st.integers(1, size - 1), max_size=3)))
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, size], strict=True)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [(), (2,)])
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_boxes_that_partition_the_volume_give_the_volume_in_any_order(tmp_path_factory, name, channels, data):
    values = _numbers((6, 7, 8, *channels), "float32")
    boxes = data.draw(st.permutations(list(product(*(data.draw(_partitions(size)) for size in (6, 7, 8))))))
    place = tmp_path_factory.mktemp("out") / name
    with create_output(place, values.shape, "float32", kind="image", **UM) as output:
        for box in boxes:
            output[box] = values[box]
            assert np.array_equal(output[box], values[box])
        output.commit()
    assert np.array_equal(read_volume(place).data[...], values)


@pytest.mark.parametrize("name", NAMES)
def test_a_box_across_chunks_and_one_channel_of_it_are_written_and_read_back(tmp_path, name):
    values = np.zeros((140, 135, 130, 2), np.uint8)
    values[120:139, 100:133, 3:129, 1] = 7
    with create_output(tmp_path / name, values.shape, np.uint8, kind="image", **UM) as output:
        output[120:139, 100:133, 3:129, 1:2] = 7
        assert np.array_equal(output[110:, 90:, :, :], values[110:, 90:])
        output.commit()
    assert np.array_equal(read_volume(tmp_path / name).data[...], values)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_never_written_is_zero(tmp_path, name):
    with create_output(tmp_path / name, (4, 5, 6), np.uint16, **UM) as output:
        output[1:2, 2:3, 3:4] = 9
        path = output.commit()
    found = read_volume(path).data[...]
    assert found[1, 2, 3] == 9
    assert np.count_nonzero(found) == 1


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_without_a_commit(tmp_path, name):
    with create_output(tmp_path / name, (4, 5, 6), np.uint8, **UM) as output:
        output[0:1] = 1
        assert [path.name.startswith(f".{name}.partial-{os.getpid()}") for path in tmp_path.iterdir()] == [True]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), create_output(tmp_path / name, (4, 5, 6), np.uint8, **UM) as output:
        raise KeyError("a fault in the work")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        output[0:1] = 1


@pytest.mark.parametrize("name", NAMES)
def test_the_old_output_is_kept_until_the_new_one_is_complete(tmp_path, name):
    old = _written(tmp_path / name, np.full((2, 3, 4), 1, np.uint8))
    with pytest.raises(OutputError, match="exists already; choose another name, or allow overwriting"):
        create_output(old, (2, 3, 4), np.uint8, **UM)
    with create_output(old, (2, 3, 5), np.uint8, overwrite=True, **UM) as output:
        output[...] = 2
        assert (read_volume(old).data[...] == 1).all()
        output.commit()
    assert (read_volume(old).data[...] == 2).all()
    with create_output(old, (2, 3, 5), np.uint8, overwrite=True, **UM) as output:
        output[...] = 3
    assert (read_volume(old).data[...] == 2).all()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_a_target_that_appears_during_the_work_is_not_replaced_and_the_result_is_kept(tmp_path, name):
    with create_output(tmp_path / name, (2, 3, 4), np.uint8, **UM) as output:
        output[...] = 3
        (tmp_path / name).write_text("somebody else's")
        (tmp_path / name.replace("out", "out-1")).write_text("of an earlier time")
        with pytest.raises(OutputError, match=r"exists already.* The finished result is .*out-2"):
            output.commit()
    assert (tmp_path / name).read_text() == "somebody else's"
    beside = name.replace("out", "out-2")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, name.replace("out", "out-1"), beside])
    assert (read_volume(tmp_path / beside).data[...] == 3).all()


_KILLED = """
import os, signal, sys
from napari_unet3d.volumes import create_output
output = create_output(sys.argv[1], (4, 5, 6), "uint8", voxel_size=(1, 1, 1), unit="um")
output[0:2] = 1
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", NAMES)
def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path, name):
    subprocess.run([sys.executable, "-c", _KILLED, tmp_path / name], check=False)
    assert [path.name.startswith(f".{name}.partial-") for path in tmp_path.iterdir()] == [True]
    (tmp_path / ".other.tif.partial-999999999").write_text("of another target, and its process is gone as well")
    number = f"{os.getppid()}.{process_start(os.getppid())}"
    (tmp_path / f".other.tif.partial-{os.getppid()}.7-{host()}").write_text("its number has gone to another process")
    (tmp_path / f".other.tif.partial-{number}-{host()}").write_text("of a process that lives")
    (tmp_path / f".{name}.partial-1-another-host").write_text("its process cannot be seen from here")
    _written(tmp_path / name, np.ones((2, 3, 4), np.uint8))
    kept = [f".other.tif.partial-{number}-{host()}", f".{name}.partial-1-another-host", name]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_can_be_used_again_although_removing_what_was_begun_failed(tmp_path, monkeypatch, name):
    def fails(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched, create_output(tmp_path / name, (2, 3, 4), np.uint8, **UM):
        patched.setattr(atomic, "remove", fails)
    assert [path.name.startswith(f".{name}.partial-") for path in tmp_path.iterdir()] == [True]
    _written(tmp_path / name, np.ones((2, 3, 4), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_with_one_target_are_told_apart_when_the_second_begins(tmp_path, name):
    words = [sys.executable, "-c", _WAITS, tmp_path / name]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "begun\n"
        with pytest.raises(OutputError, match=f"is being written already, by process {first.pid}"):
            create_output(tmp_path / name, (4, 5, 6), np.uint8, **UM)
        first.communicate("\n")
    assert (read_volume(tmp_path / name).data[...] == 1).all()


_WAITS = """
import sys
from napari_unet3d.volumes import create_output
with create_output(sys.argv[1], (4, 5, 6), "uint8", voxel_size=(1, 1, 1), unit="um") as output:
    output[...] = 1
    print("begun", flush=True)
    sys.stdin.readline()
    output.commit()
"""


def test_an_old_version_that_had_stepped_aside_when_the_process_died_comes_back(tmp_path):
    _written(tmp_path / "out.zarr", np.ones((2, 3, 4), np.uint8))
    (tmp_path / "out.zarr").rename(tmp_path / ".out.zarr.replaced-999999999")
    with pytest.raises(OutputError, match="exists already"):
        create_output(tmp_path / "out.zarr", (2, 3, 4), np.uint8, **UM)
    assert (read_volume(tmp_path / "out.zarr").data[...] == 1).all()


def test_one_target_is_written_once_at_a_time(tmp_path):
    with create_output(tmp_path / "out.tif", (2, 3, 4), np.uint8, **UM) as output:
        with pytest.raises(OutputError, match="is being written already"):
            create_output(tmp_path / "out.tif", (2, 3, 4), np.uint8, **UM)
        output[...] = 4
        output.commit()
    assert (read_volume(tmp_path / "out.tif").data[...] == 4).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.png", "'?.png'? is not a format that can be written; end the name in .tif, .ome.tif or .zarr"),
        ("out", "no suffix is not a format"),
        ("missing/out.tif", "The folder .*missing does not exist; create it"),
        ("file/out.tif", "The folder .*file does not exist"),
        ("x" * 250 + ".tif", "the name is too long"),
    ],
)
def test_a_place_that_cannot_be_written_gives_one_clear_error(tmp_path, name, words):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=words):
        create_output(tmp_path / name, (2, 3, 4), np.uint8, overwrite=True, **UM)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_no_zarr_is_never_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.docx").write_text("years of work")
    with pytest.raises(OutputError, match="is a folder but not a Zarr"):
        create_output(tmp_path / name, (2, 3, 4), np.uint8, overwrite=True, **UM)
    assert (tmp_path / name / "thesis.docx").read_text() == "years of work"


_AS_NOBODY = """
import os, sys
from napari_unet3d.errors import OutputError, VolumeError
from napari_unet3d.processes import host, process_start
from napari_unet3d.volumes import create_output
from napari_unet3d.volumes.outputs import tiff as tiff_output
from napari_unet3d.volumes.outputs import zarr as zarr_output
os.setgid(65534)
os.setuid(65534)
try:
    create_output(sys.argv[1], (4, 5, 6), "uint8", voxel_size=(1, 1, 1), unit="um")
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_not_writable_gives_one_clear_error(tmp_path, name, as_nobody):
    place = tmp_path / "closed"
    place.mkdir()
    place.chmod(0o555)
    assert "is not writable for you" in as_nobody(_AS_NOBODY, place / name)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (3, 4)},
        {"shape": (0, 4, 5)},
        {"voxel_size": (0, 1, 1)},
        {"voxel_size": (1, float("nan"), 1)},
        {"dtype": "float32"},
        {"shape": (2, 3, 4, 5)},
        {"kind": "mask"},
    ],
)
def test_a_mistake_in_code_is_a_value_error(tmp_path, wrong):
    arguments = {"shape": (2, 3, 4), "dtype": "uint8", **UM, **wrong}
    with pytest.raises(ValueError, match=r"shape|voxel size|kind"):
        create_output(tmp_path / "out.tif", **arguments)


def test_numbers_that_do_not_fit_are_refused_and_not_wrapped(tmp_path):
    with create_output(tmp_path / "out.tif", (2, 3, 4), np.uint8, **UM) as output:
        output[0:1] = np.ones((1, 3, 4), np.int64)
        with pytest.raises(ValueError, match="do not fit uint8"):
            output[0:1] = np.full((1, 3, 4), 256)
        with pytest.raises(ValueError, match="shape"):
            output[0:1] = np.ones((2, 3, 4), np.uint8)
        with pytest.raises(TypeError, match="box of slices"):
            output[0] = 1
    with pytest.raises(OutputError, match="cannot hold float64; the types that work are uint8"):
        create_output(tmp_path / "out.tif", (2, 3, 4), np.float64, kind="image", **UM)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif"])
def test_a_tiff_that_does_not_fit_on_the_disk_is_refused_before_the_first_box(small_disk, name):
    with pytest.raises(OutputError, match=r"does not fit on the disk: 8,000,000 bytes are needed and [\d,]+ bytes are"):
        create_output(small_disk / name, (200, 200, 200), np.uint8, **UM)
    assert list(small_disk.iterdir()) == []


def test_a_zarr_that_fills_the_disk_stops_with_the_bytes_and_leaves_nothing(small_disk):
    noise = _numbers((128, 128, 128), np.uint8)
    with (
        create_output(small_disk / "out.zarr", (512, 128, 128), np.uint8, **UM) as output,
        pytest.raises(OutputError, match=r"8,388,608 bytes are needed and [\d,]+ bytes are free"),
    ):
        output[:128] = noise
    assert list(small_disk.iterdir()) == []


_SMALL_FILES = """
import resource, sys
from napari_unet3d.errors import OutputError, VolumeError
from napari_unet3d.processes import host, process_start
from napari_unet3d.volumes import create_output
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    create_output(sys.argv[1], (200, 200, 200), "uint8", voxel_size=(1, 1, 1), unit="um")
except OutputError as error:
    print(error)
"""


def test_a_file_larger_than_the_file_system_takes_is_refused_with_what_works(tmp_path):
    pytest.importorskip("resource")
    command = [sys.executable, "-c", _SMALL_FILES, tmp_path / "out.tif"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "needs 8,000,000 bytes, more than a file may have" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_read_of_a_box_takes_the_memory_of_the_box(tmp_path):
    with create_output(tmp_path / "out.tif", (300, 300, 300), np.uint16, **UM) as output:
        path = output.commit()
    tracemalloc.start()
    try:
        assert read_volume(path).data[100:120, 50:100, 50:100].shape == (20, 50, 50)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * 2**20


def test_where_nothing_can_be_reserved_the_free_space_is_compared(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with open(tmp_path / "file", "wb") as file:
        atomic.preallocate(file.fileno(), 1000, tmp_path)
        with pytest.raises(OSError, match="No space left") as caught:
            atomic.preallocate(file.fileno(), 2**60, tmp_path)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif"])
def test_more_than_4_gib_can_be_written(tmp_path, name):
    if shutil.disk_usage(tmp_path).free < 3 * 2**32:
        pytest.skip("there is no room for 4 GiB here")
    shape = (2200, 1000, 1000)
    with create_output(tmp_path / name, shape, np.uint16, **UM) as output:
        output[2199:, 990:, 990:] = 5
        path = output.commit()
    assert path.stat().st_size > 2**32
    volume = read_volume(path)
    assert volume.shape == shape
    assert (volume.data[2199, 990:, 990:] == 5).all()
    assert not volume.data[2198:, :990].any()
    path.unlink()


def test_imagej_reads_the_plain_tiff_and_ome_the_others(tmp_path):
    for name, dtype, is_imagej in (
        ("a.tif", "uint8", True),
        ("b.tiff", "float32", True),
        ("c.tif", "uint32", False),
        ("d.ome.tif", "uint8", False),
    ):
        values = _numbers((3, 4, 5), dtype)
        path = _written(tmp_path / name, values)
        with tifffile.TiffFile(path) as tif:
            assert (tif.is_imagej, tif.is_ome) == (is_imagej, not is_imagej)
            assert np.array_equal(tif.asarray(), values)
            if is_imagej:
                assert (tif.imagej_metadata["unit"], tif.imagej_metadata["spacing"]) == ("um", 0.3)


def test_labels_in_a_zarr_follow_ome_zarr_with_their_classes(tmp_path):
    values = _numbers((3, 4, 5), np.uint8) % 3
    path = _written(tmp_path / "labels.zarr", values, class_names=("background", "axon", "soma"))
    node = validate_zarr_store(str(path))
    assert node is not None
    group = zarr.open(path)
    assert np.array_equal(group["0"][...], values)
    label = group.attrs["ome"]["image-label"]
    assert [entry["class"] for entry in label["properties"]] == ["background", "axon", "soma"]
    assert [entry["label-value"] for entry in label["colors"]] == [0, 1, 2]
    assert np.array_equal(read_volume(path).data[...], values)


def test_probabilities_in_a_zarr_have_their_channels_first_and_follow_ome_zarr(tmp_path):
    values = _numbers((3, 4, 5, 2), np.float32)
    path = _written(tmp_path / "probabilities.zarr", values, translate=(1, 2, 3))
    validate_zarr_store(str(path))
    array = zarr.open(path)["0"]
    assert array.metadata.dimension_names == ("c", "z", "y", "x")
    assert np.array_equal(array[...], values.transpose(3, 0, 1, 2))
    assert read_volume(path).n_channels == 2


def test_every_chunk_is_written_in_128_cubes_with_a_checksum(tmp_path):
    with create_output(tmp_path / "out.zarr", (130, 20, 300), np.uint8, **UM) as output:
        path = output.commit()
    array = zarr.open(path)["0"]
    assert array.chunks == (128, 20, 128)
    assert array.nchunks_initialized == array.nchunks == 6
    assert any(codec.checksum for codec in array.compressors)


def test_a_folder_that_is_moved_away_in_mid_run_is_noticed(tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    with create_output(folder / "x.zarr", (130, 8, 8), "uint8", voxel_size=(1, 1, 1), unit="um") as output:
        output[0:128, 0:8, 0:8] = np.ones((128, 8, 8), np.uint8)
        folder.rename(tmp_path / "there")
        output[128:130, 0:8, 0:8] = np.ones((2, 8, 8), np.uint8)
        with pytest.raises(OutputError, match=r"no longer there|still there"):
            output.commit()


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".zarr"])
def test_what_one_thread_writes_another_may_read_meanwhile(tmp_path, suffix):
    """As a window does that shows a result while it grows."""
    values = np.random.default_rng(0).integers(0, 255, (24, 61, 67), np.uint8)
    path = tmp_path / f"shared{suffix}"
    with create_output(path, values.shape, "uint8", voxel_size=(1, 1, 1), unit="um") as output:
        has_ended = threading.Event()

        def look():
            while not has_ended.is_set():
                output[3:9, 5:60, 2:50]

        reader = threading.Thread(target=look)
        reader.start()
        for z in range(0, 24, 4):
            for x in range(0, 67, 16):
                output[z : z + 4, 0:61, x : x + 16] = values[z : z + 4, :, x : x + 16]
        has_ended.set()
        reader.join()
        np.testing.assert_array_equal(output[0:24, 0:61, 0:67], values)


def spec_of(path, shape, dtype="uint8", **options):
    return output_spec(path, shape, dtype, **UM, **options)


@pytest.mark.parametrize("name", NAMES)
def test_what_one_process_has_begun_another_one_goes_on_with_and_it_is_seen_meanwhile(tmp_path, name):
    values = _numbers((140, 9, 150), "uint8")
    spec = spec_of(tmp_path / name, values.shape)
    hidden = atomic.claim_partial(spec.target)
    seen = BeingWritten(spec, hidden)
    assert not seen[:, :, :].any()
    with open_output(spec, hidden) as first:
        first[0:7, 0:9, 0:150] = values[0:7]
        np.testing.assert_array_equal(seen[3], values[3])
        assert not seen[9].any()
    assert not spec.target.exists()
    np.testing.assert_array_equal(seen[0:7], values[0:7])
    with open_output(spec, hidden, goes_on=True) as second:
        second.expect((slice(0, 7), slice(0, 9), slice(0, 150)))
        second[7:140] = values[7:]
        np.testing.assert_array_equal(second[2:9], values[2:9])
        assert second.commit() == spec.target
    seen.finish()
    np.testing.assert_array_equal(seen[:, :, :], values)
    np.testing.assert_array_equal(read_volume(spec.target).data[:, :, :], values)
    atomic.release_partial(hidden)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    atomic.remove(spec.target)
    seen.give_up()
    with pytest.raises(VolumeError, match="cannot be read any more"):
        seen[0]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_given_up_does_not_show_what_another_one_writes_under_its_name(tmp_path, name):
    spec = spec_of(tmp_path / name, (4, 9, 10))
    hidden = atomic.claim_partial(spec.target)
    seen = BeingWritten(spec, hidden)
    with open_output(spec, hidden) as output:
        output[:, :, :] = np.ones((4, 9, 10), np.uint8)
    assert seen[0].all()
    seen.give_up()
    assert not seen[0].any()
    atomic.release_partial(hidden)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_begun_and_is_gone_is_not_taken_for_empty(tmp_path, name):
    spec = spec_of(tmp_path / name, (140, 9, 10))
    hidden = atomic.claim_partial(spec.target)
    with pytest.raises(OutputError, match="no longer there"):
        open_output(spec, hidden, goes_on=True)
    with open_output(spec, hidden) as first:
        first[0:7] = np.ones((7, 9, 10), np.uint8)
    if name.endswith(".zarr"):
        shutil.rmtree(hidden / "0" / "c")
        with open_output(spec, hidden, goes_on=True) as second:
            second.expect((slice(0, 7),))
            with pytest.raises(OutputError, match="no longer there"):
                second.commit()
    # Begun anew it is empty again.
    with open_output(spec, hidden) as anew:
        assert not anew[:, :, :].any()
    atomic.release_partial(hidden)
    assert list(tmp_path.iterdir()) == []


def test_what_zarr_left_of_a_killed_process_does_not_stay(tmp_path):
    spec = spec_of(tmp_path / "out.zarr", (4, 5, 6))
    hidden = atomic.claim_partial(spec.target)
    with open_output(spec, hidden) as first:
        first[:, :, :] = np.ones((4, 5, 6), np.uint8)
    (hidden / "0" / "c" / "0" / "0" / "0.12ab.partial").write_bytes(b"half")
    with open_output(spec, hidden, goes_on=True) as second:
        second.commit()
    assert not list(spec.target.rglob("*.partial"))
    atomic.release_partial(hidden)


def test_what_others_are_writing_stays_until_all_is_done(tmp_path):
    spec = output_spec(tmp_path / "a.zarr", (4, 5, 6), "uint8", **UM)
    hidden = atomic.claim_partial(spec.target)
    with open_output(spec, hidden) as first:
        first[:, :, :] = np.ones((4, 5, 6), np.uint8)
        stray = hidden / "0" / "c" / "0" / "0" / "0.12ab.partial"
        stray.write_bytes(b"half")
        with open_output(spec, hidden, goes_on=True, is_shared=True):
            assert stray.exists()
        first.commit()
    assert not list(spec.target.rglob("*.partial"))


def test_what_writing_takes_is_known_before(tmp_path):
    for name in NAMES:
        for shape, kind in (((300, 40, 200), "labels"), ((30, 300, 20, 3), "image")):
            with create_output(tmp_path / name, shape, "uint8", kind=kind, **UM) as output:
                assert writing_bytes(tmp_path / name, shape, "uint8") == output.writing_bytes
