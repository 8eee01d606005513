"""What is known of each object, gathered block by block, against the same on the whole array."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.objects.blocks import cut_into_blocks
from napari_unet3d.core.objects.clean_up import Cleanup, clean_up
from napari_unet3d.core.objects.table import ObjectTable

shapes = st.tuples(*[st.integers(1, 14)] * 3)


class InFiles(np.ndarray):
    """An array that is stored in files of some shape."""

    file_shape = (4, 4, 4)


@settings(max_examples=150)
@given(
    shape=shapes,
    seed=st.integers(0, 2**32 - 1),
    connectivity=st.sampled_from([6, 18, 26]),
    block_voxels=st.integers(1, 600),
    share=st.sampled_from([0.05, 0.2, 0.5]),
)
def test_components_of_blocks_are_those_of_scipy_with_their_table(shape, seed, connectivity, block_voxels, share):
    rng = np.random.default_rng(seed)
    found = (rng.random(shape) < share) * rng.integers(1, 5, shape)
    found = (2 * ((found + 1) // 2)).astype(np.uint8).view(InFiles)
    cleanup = Cleanup(low=0.5, high=0.5, min_voxels=0, connectivity=connectivity, instances=True)
    out, table = np.zeros(shape, np.uint16), ObjectTable(3)
    for _ in clean_up(found, out, cleanup, block_voxels=block_voxels, table=table):
        pass
    want, n = ndimage.label(found > 0, cleanup.structure)
    # Equal up to renaming: each number of one goes with one number of the other.
    pairs = np.unique(np.stack([want.ravel(), out.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))
    assert out.max() == n == len(table)
    slices = ndimage.find_objects(out)
    for row, place in zip(table.rows(), slices, strict=True):
        voxels = np.argwhere(out == row.number)
        assert row.voxels == len(voxels)
        assert row.centroid == pytest.approx(voxels.mean(axis=0))
        assert row.box == Box(*((s.start, s.stop) for s in place))
        counts = np.bincount(np.asarray(found)[out == row.number] // 2, minlength=3)
        assert row.label == counts.argmax()


@given(shape=st.tuples(*[st.integers(1, 50)] * 3), most=st.integers(1, 5000), file=st.tuples(*[st.integers(1, 20)] * 3))
def test_blocks_partition_the_volume_and_fit(shape, most, file):
    blocks = cut_into_blocks(shape, most, file)
    written = np.zeros(shape, int)
    for placed in blocks:
        written[placed.box.slices] += 1
        assert placed.box.n_voxels <= most
    assert (written == 1).all()
    if np.prod(np.minimum(file, shape)) <= most:
        # Each file lies in one block.
        assert all(a % f == 0 or a >= n for a, f, n in zip(blocks.block_shape, file, shape, strict=True))


def test_a_wide_volume_is_cleaned_up_in_less_memory_than_one_of_its_planes():
    shape = (64, 1500, 1500)

    class Dots:
        """Evidence that is made when it is read: a seed every 20 voxels, on long lines along x."""

        def __init__(self):
            self.shape, self.file_shape = shape, (64, 64, 64)

        def __getitem__(self, box):
            z, y, x = (np.arange(part.start, part.stop) for part in box)
            lines = (z[:, None, None] % 20 == 0) & (y[None, :, None] % 20 == 0) & (x[None, None, :] >= 0)
            return (2 * lines).astype(np.uint8)

    class Counting:
        shape, dtype, n = (64, 1500, 1500), np.dtype(np.uint16), 0

        def __setitem__(self, box, values):
            Counting.n += np.count_nonzero(values)

    tracemalloc.start()
    for _ in clean_up(Dots(), Counting(), Cleanup(min_voxels=1000, instances=True), block_voxels=64**3):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert Counting.n == 4 * 75 * 1500
    # A plane of labels alone takes 4 bytes for each voxel.
    assert peak < 16 * 64**3 + 3 * 10**6 < 4 * 1500 * 1500
