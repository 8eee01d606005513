"""Which axis is which, and what to pass where a file does not say."""

from __future__ import annotations

import pytest

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes.axes import Pick, name_axes


@pytest.mark.parametrize(
    ("shape", "found", "wanted", "named"),
    [
        ((5, 6, 7), "zyx", None, "zyx"),
        ((5, 6, 7), "?yx", None, "zyx"),
        ((1, 5, 1, 6, 7), "tzcyx", None, "1z1yx"),
        ((5, 2, 6, 7), "zcyx", None, "zcyx"),
        ((1, 6, 7), "zyx", None, "zyx"),
        ((5, 6, 7), "tyx", "zyx", "zyx"),
        ((5, 6, 7, 3), "zyxs", "zyxc", "zyxc"),
        ((1, 5, 6, 7), "tcyx", "tzyx", "1zyx"),
        ((1, 5, 6, 7), "tcyx", "zyx", "1zyx"),
        ((7, 6, 5), "zyx", "xyz", "xyz"),
    ],
)
def test_the_axes_of_a_volume_are_named(shape, found, wanted, named):
    assert name_axes("a.tif", shape, found, Pick(wanted)) == named


@pytest.mark.parametrize(
    ("shape", "found", "wanted", "words"),
    [
        ((6, 7), "yx", None, "one 2D image.*y = 6, x = 7.*stack"),
        ((6, 7, 3), "yxs", None, "2D colour image"),
        ((5, 6, 7, 3), "zyxs", None, "colour.*colour samples = 3.*--axes zyxc"),
        ((4, 5, 6, 7), "tzyx", None, "several points in time.*time = 4"),
        ((4, 6, 7), "tyx", None, "time = 4.*--axes zyx"),
        ((3, 6, 7), "cyx", None, "channel = 3.*--axes zyx"),
        ((4, 5, 6, 7), "?zyx", None, "unnamed = 4.*--axes czyx"),
        ((4, 5, 6, 7), "????", None, "unnamed = 4.*--axes czyx"),
        ((5, 6, 7, 2), "????", None, "unnamed = 5.*--axes zyxc"),
        ((2, 3, 5, 6, 7), "?????", None, "--axes tczyx"),
        ((64, 80, 3), "yxs", None, "2D colour image.*--axes zyx"),
        ((4, 5, 6, 7), "zyxc", "zyx", "names 3 axes, but a.tif has 4"),
        ((4, 5, 6), "zyx", "zzy", "needs z, y and x once each"),
        ((4, 5, 6), "zyx", "abc", "needs z, y and x once each"),
        ((4, 5, 6, 7), "zyxc", "tzyx", "several points in time"),
        ((4, 0, 6), "zyx", None, "empty axis y"),
    ],
)
def test_what_is_no_volume_is_refused_with_its_axes_and_what_to_pass(shape, found, wanted, words):
    with pytest.raises(VolumeError, match=words):
        name_axes("a.tif", shape, found, Pick(wanted))
