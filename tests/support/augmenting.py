"""Deformations and volumes of all kinds, for the laws of augmentation."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_unet3d.core.augment.deformation import Deformation

MODES = ("reflect", "nearest", "constant")


@st.composite
def deformations(draw, *, elastic=None, largest=24):
    """Draw a map of a small patch: turned or not, displaced or not, in and around a volume of about its size.

    Some are flat and long, so that a row has several segments.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(*[st.integers(1, largest)] * 3) | st.tuples(*[st.integers(1, 3)] * 2, st.integers(60, 200)))
    matrix = np.eye(3)
    if draw(st.booleans()):
        matrix = Rotation.random(random_state=rng).as_matrix() * rng.uniform(0.6, 1.5, 3)
    nodes = None
    if draw(st.booleans()) if elastic is None else elastic:
        nodes = rng.normal(0, 3, (*rng.integers(2, 6, 3), 3))
    shifts = tuple((z, *map(int, rng.integers(-4, 5, 2))) for z in range(0, shape[0], 3)) if draw(st.booleans()) else ()
    return Deformation(shape=shape, centre=tuple(rng.uniform(-8, 30, 3)), matrix=matrix, nodes=nodes, shifts=shifts)


@st.composite
def volumes(draw, dtypes=("uint8", "uint16", "float32", "int16", "float64")):
    """Draw a volume of noise, (z, y, x) or (z, y, x, c)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(*[st.integers(1, 24)] * 3)) + draw(st.sampled_from([(), (), (2,)]))
    return rng.integers(0, 251, shape).astype(draw(st.sampled_from(dtypes)))


def places(deformation):
    """Return where all voxels of the patch come from (n, 3), with the shifts of planes."""
    points = np.stack(np.meshgrid(*map(np.arange, deformation.shape), indexing="ij"), -1).reshape(-1, 3).astype(float)
    plane = points[:, 0].copy()
    for z, y, x in deformation.shifts:
        points[plane == z] += (0, y, x)
    return deformation.places(points)
