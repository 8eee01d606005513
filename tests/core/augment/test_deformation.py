"""The map of a patch into a volume, against plain formulas and SciPy's splines."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from napari_unet3d.core.augment.deformation import Deformation
from napari_unet3d.core.boxes import Box
from tests.support.augmenting import deformations


def grid(shape):
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3).astype(float)


def test_a_quarter_turn_turns_about_the_middle_of_the_voxels_and_not_beside_it():
    turned = Deformation(shape=(1, 4, 4), centre=(0, 1.5, 1.5), matrix=[[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    np.testing.assert_array_equal(turned.places([[0, 0, 0], [0, 3, 1]]), [[0, 0, 3], [0, 1, 0]])


@given(deformations(elastic=True))
@settings(deadline=None)
def test_the_displacement_is_the_cubic_spline_through_the_nodes(deformation):
    points = grid(deformation.shape)
    lines = np.array(deformation.nodes.shape[:3])
    at = points / np.maximum(1, np.array(deformation.shape) - 1) * (lines - 1)
    for axis in range(3):
        expected = map_coordinates(deformation.nodes[..., axis], at.T, order=3, mode="mirror")
        np.testing.assert_allclose(deformation.displacements(points)[:, axis], expected, atol=1e-9)


def test_the_displacement_passes_through_its_nodes_and_is_smooth_twice():
    nodes = np.random.default_rng(0).normal(0, 3, (4, 4, 4, 3))
    deformation = Deformation(shape=(31, 31, 31), centre=(15, 15, 15), nodes=nodes)
    np.testing.assert_allclose(deformation.displacements([[10, 20, 30]])[0], nodes[1, 2, 3], atol=1e-9)
    # Second differences, of steps h, on both sides of a line of the grid.
    h = 1e-3
    line = deformation.displacements([[15, 15, 10 + k * h] for k in range(-3, 4)])
    second = np.diff(line, 2, axis=0) / h**2
    assert np.abs(np.diff(second, axis=0)).max() < 0.05 * np.abs(second).max()


@given(deformations(), st.data())
@settings(deadline=None)
def test_the_source_box_holds_all_voxels_that_are_needed(deformation, data):
    bounds = [sorted((data.draw(st.integers(0, n - 1)), data.draw(st.integers(1, n)))) for n in deformation.shape]
    box = Box(*((a, max(b, a + 1)) for a, b in bounds))
    points = np.array(list(itertools.product(*(range(a, b) for a, b in box))), float)
    for z, y, x in deformation.shifts:
        points[points[:, 0] == z] += (0, y, x)
    places = deformation.places(points)
    for axis, (low, high) in enumerate(deformation.source_box(box)):
        assert low <= places[:, axis].min()
        assert places[:, axis].max() <= high - 1


def test_the_share_that_is_folded_is_that_of_negative_determinants():
    nodes = np.random.default_rng(1).normal(0, 9, (4, 4, 4, 3))
    deformation = Deformation(shape=(25, 25, 25), centre=(12, 12, 12), nodes=nodes)
    rng, h = np.random.default_rng(0), 1e-4
    points = rng.uniform(0, 24, (20_000, 3))
    jacobian = np.stack(
        [
            (deformation.displacements(points + h * e) - deformation.displacements(points - h * e)) / (2 * h)
            for e in np.eye(3)
        ],
        axis=-1,
    )
    share = np.mean(np.linalg.det(np.eye(3) + jacobian) <= 0)
    assert share > 0.05
    assert deformation.folded() == pytest.approx(share, abs=0.02)
    assert Deformation(shape=(25, 25, 25), centre=(12, 12, 12), nodes=nodes / 100).folded() == 0
    assert Deformation(shape=(25, 25, 25), centre=(12, 12, 12)).folded() == 0


@given(deformations())
@settings(deadline=None, max_examples=30)
def test_a_deformation_replays_from_its_json(deformation):
    again = Deformation.model_validate_json(deformation.model_dump_json())
    assert again == deformation
    points = grid(deformation.shape)
    np.testing.assert_array_equal(again.places(points), deformation.places(points))


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (0, 4, 4)},
        {"centre": (1.0, float("nan"), 1.0)},
        {"matrix": np.eye(2)},
        {"matrix": np.full((3, 3), np.inf)},
        {"nodes": np.zeros((1, 2, 2, 3))},
        {"nodes": np.zeros((2, 2, 2))},
        {"folds": 3},
    ],
)
def test_what_is_no_map_is_refused(wrong):
    with pytest.raises(ValidationError):
        Deformation(**{"shape": (4, 4, 4), "centre": (1.5, 1.5, 1.5), **wrong})


def test_a_map_is_the_same_whatever_the_memory_order_of_its_matrix():
    rng = np.random.default_rng(0)
    for _ in range(50):
        matrix, centre = rng.normal(size=(3, 3)), tuple(rng.normal(size=3))
        given = Deformation(shape=(30, 21, 12), centre=centre, matrix=np.asfortranarray(matrix))
        replayed = Deformation.model_validate_json(given.model_dump_json())
        assert given.offset.tobytes() == replayed.offset.tobytes()


@pytest.mark.parametrize("lines", [5, 9, 64])
def test_the_share_that_is_folded_takes_little_memory_with_any_number_of_lines(lines):
    nodes = np.random.default_rng(0).normal(0, 200 / lines / 4, (lines, lines, lines, 3))
    deformation = Deformation(shape=(220, 220, 220), centre=(0, 0, 0), nodes=nodes)
    tracemalloc.start()
    share = deformation.folded()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < share < 0.5
    assert peak < 100e6


@pytest.mark.parametrize("lines", [3, 5, 8])
@pytest.mark.parametrize("seed", range(5))
def test_the_source_box_is_hardly_larger_than_what_is_needed(lines, seed):
    # What is read too much is read from disk, for every patch.
    rng = np.random.default_rng(seed)
    matrix = Rotation.random(random_state=rng).as_matrix()
    nodes = rng.normal(0, 6, (lines, lines, lines, 3))
    deformation = Deformation(shape=(66, 66, 66), centre=(0, 0, 0), matrix=matrix, nodes=nodes)
    points = np.indices((66, 66, 66)).reshape(3, -1).T
    places = deformation.places(points)
    needed = np.ceil(places.max(axis=0)) - np.floor(places.min(axis=0))
    found, turned = (
        np.array(each.source_box(Box.whole((66, 66, 66))).shape)
        for each in (deformation, Deformation(shape=(66, 66, 66), centre=(0, 0, 0), matrix=matrix))
    )
    assert (found >= needed).all()
    # The displacement to either side, by somewhat more than it is.
    assert (found - turned <= 2 * 1.6 * np.abs(deformation.displacements(points)).max() + 3).all()
