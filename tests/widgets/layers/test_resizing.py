"""Another voxel size: everything on the image goes with it, and the picture stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_unet3d.widgets.layers.resizing import resize_voxels

sizes = st.floats(0.01, 100).map(lambda size: float(f"{size:.3g}"))


def window(scale, unit, ndim=3):
    viewer = ViewerModel()
    values = np.random.default_rng(0).random((2,) * (ndim - 3) + (60, 50, 40))
    keywords = {"scale": (1.0,) * (ndim - 3) + tuple(scale), "units": ("pixel",) * (ndim - 3) + (unit,) * 3}
    image = viewer.add_image(values, translate=(0,) * (ndim - 3) + (5, 6, 7), **keywords)
    moved = image.data_to_world((0,) * (ndim - 3) + (20, 10, 4))
    region = viewer.add_labels(np.zeros((*values.shape[:-3], 9, 8, 7), int), translate=moved, **keywords)
    return viewer, image, region


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(sizes, sizes, sizes),
    st.tuples(sizes, sizes, sizes),
    st.sampled_from(["um", "nm", "pixel"]),
    st.integers(0, 59),
    st.sampled_from([3, 4]),
)
def test_the_slice_the_view_and_what_lies_on_the_image_stay(old, new, unit, z, ndim):
    viewer, image, region = window(old, "pixel", ndim)
    extra = (0,) * (ndim - 3)
    viewer.dims.set_point(ndim - 3, image.data_to_world((*extra, z, 0, 0))[-3])
    looked_at = image.world_to_data((*extra, *viewer.scene.camera.center))[-2:]
    width = viewer.scene.camera.zoom * image.scale[-1]
    resize_voxels(viewer, image, (*(1,) * (ndim - 3), *new), ("pixel",) * (ndim - 3) + (unit,) * 3)
    assert tuple(image.scale[-3:]) == new
    assert {str(u) for u in region.units[-3:]} == {str(u) for u in image.units[-3:]}
    for layer in (image, region):
        np.testing.assert_allclose(layer.scale, image.scale)
    assert round(float(image._data_slice.point[-3])) == z
    shown = np.asarray(image._slice.image.raw)
    np.testing.assert_array_equal(shown, np.asarray(image.data[(*extra, z)] if ndim == 4 else image.data[z]))
    at = image.world_to_data(region.data_to_world((0,) * ndim))
    np.testing.assert_allclose(at, (*extra, 20, 10, 4), atol=1e-6)
    np.testing.assert_allclose(image.world_to_data((*extra, *viewer.scene.camera.center))[-2:], looked_at, rtol=1e-6)
    assert viewer.scene.camera.zoom * image.scale[-1] == pytest.approx(width)


def test_what_has_a_grid_of_its_own_stays_as_it_is():
    viewer, image, _ = window((1, 1, 1), "pixel")
    other = viewer.add_image(np.zeros((9, 9, 9)), scale=(2, 2, 2))
    resize_voxels(viewer, image, (3, 1, 1), ("um",) * 3)
    assert tuple(other.scale) == (2, 2, 2)
