"""Which files are the slices of a stack, and in which order: from their names alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet3d.errors import VolumeError
from napari_unet3d.volumes.slices.numbering import order_slices

SIX = range(6)
PREFIXES = st.sampled_from(["z", "slice_", "img ", "2024-05-01_pos7_", "Scan(2)_ch1_", "µ"])
SUFFIXES = st.sampled_from([".tif", ".TIFF", "_raw.png", "_x20.tif"])


def _shuffled(names):
    names = list(names)
    random.Random(len(names)).shuffle(names)
    return names


@given(PREFIXES, SUFFIXES, st.integers(0, 5), st.integers(0, 99), st.integers(1, 4), st.integers(2, 30))
def test_one_number_that_runs_on_gives_the_order_however_it_is_written(prefix, suffix, width, first, step, n):
    names = [f"{prefix}{first + step * k:0{width}d}{suffix}" for k in range(n)]
    assert order_slices(_shuffled(names), "s") == order_slices(names, "s")
    assert order_slices(_shuffled(names), "s").names == tuple(names)


@given(st.lists(st.integers(1, 50), min_size=5, max_size=5), st.booleans())
def test_a_time_stamp_beside_the_index_does_not_count(gaps, is_first):
    stamps = [1_614_592_000 + sum(gaps[:k]) for k in SIX]
    names = [f"{stamps[k]}_z{k:03d}.tif" if is_first else f"z{k:03d}_{stamps[k]}.tif" for k in SIX]
    assert order_slices(_shuffled(names), "s").names == tuple(names)


@given(st.integers(-12, -1), st.integers(0, 12), st.booleans(), st.sampled_from(["z", "pos_", "2024-05-01_z"]))
def test_positions_on_both_sides_of_0_are_numbers(first, last, has_plus, prefix):
    written = [f"{prefix}{z:{'+' if has_plus else ''}d}.tif" for z in range(first, last + 1)]
    assert order_slices(_shuffled(written), "s").names == tuple(written)


def test_suffixes_in_another_case_are_of_one_stack():
    names = [f"z{k}.{'TIF' if k % 2 else 'tif'}" for k in SIX]
    assert order_slices(_shuffled(names), "s").names == tuple(names)


def test_many_copies_of_one_name_may_be_the_slices_and_are_refused():
    with pytest.raises(VolumeError, match=r"img.tif and 4 files that are copies of it.*rename them"):
        order_slices(["img.tif", *(f"img ({k}).tif" for k in range(1, 5))], "s")


@given(st.sampled_from(["_mask", "b", " copy of a", "[1]", "_0"]))
def test_a_star_is_a_number_if_any_name_fits_so(suffix):
    slices = [f"z{k}.tif" for k in SIX]
    names = [*slices, *(f"z{k}{suffix}.tif" for k in SIX)]
    assert order_slices(_shuffled(names), "s", "z*.tif").names == tuple(slices)
    assert order_slices(_shuffled(names), "s", f"z*{suffix}.tif").names == tuple(names[6:])


@pytest.mark.parametrize("step", [0.5, 0.9, 0.25, 1.5])
def test_positions_in_decimals_are_numbers(step):
    names = [f"z{8.5 + step * k:.2f}um.tif" for k in SIX]
    assert order_slices(_shuffled(names), "s").names == tuple(names)


@pytest.mark.parametrize(
    "copy", ["z3 (1).tif", "z3(2).tif", "z3 - Copy.tif", "z3_copy.tif", "z3 copy 2.tif", "z3 - Kopie.tif"]
)
def test_what_a_file_manager_has_copied_is_left_out_and_said(copy):
    found = order_slices(_shuffled([*(f"z{k}.tif" for k in SIX), copy]), "s")
    assert found.names == tuple(f"z{k}.tif" for k in SIX)
    assert found.notes == (f"Left out (1 copies, by their names): {copy}.",)


@pytest.mark.parametrize("stray", ["MIP.tif", "MAX_z.tif", "overview.png", "z3_mask.tif", "z.tif"])
def test_a_single_file_of_another_name_is_left_out_and_said(stray):
    found = order_slices(_shuffled([*(f"z{k}.tif" for k in SIX), stray]), "s")
    assert found.names == tuple(f"z{k}.tif" for k in SIX)
    assert stray in found.notes[0]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            [f"{c}_{k:03d}.tif" for c in ("DAPI", "GFP") for k in SIX],
            r"several stacks.*DAPI_\*.tif \(6 files\).*s:DAPI_\*.tif",
        ),
        ([f"z{k}{end}" for k in SIX for end in (".tif", "_mask.tif")], "masks beside their image"),
        ([f"z{k}{end}" for k in SIX for end in (".tif", ".png")], "several stacks"),
        ([f"t{t}_z{k}.tif" for t in (0, 1) for k in SIX], "choose one channel or point in time.*such as s:t0_z"),
        ([f"z{k}_c{c}.tif" for k in SIX for c in (0, 1)], r"several stacks, or channels.*such as s:z\*_c0.tif"),
        ([f"z{k}.tif" for k in (0, 1, 2, 4, 5)] + ["MIP.tif"], "lacks slices: 3"),
        ([f"z{k}.tif" for k in (0, 10, 20, 40)], "lacks slices: 30"),
        (["z1.tif", "z01.tif"], "a slice twice"),
        ([f"a{k}_b{5 - k}.tif" for k in SIX], "count in two ways that do not agree"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_with_what_there_is(names, words):
    with pytest.raises(VolumeError, match=words):
        order_slices(_shuffled(names), "s")


def test_a_pattern_chooses_one_of_several():
    names = [f"{c}_{k:03d}.tif" for c in ("DAPI", "GFP") for k in SIX]
    assert order_slices(_shuffled(names), "s", "GFP_*.tif").names == tuple(names[6:])
    with pytest.raises(VolumeError, match=r"no slice called 'RFP_\*'; its names are like: .*DAPI_\*.tif"):
        order_slices(names, "s", "RFP_*")


def test_names_without_a_pattern_keep_their_order_and_that_is_said():
    found = order_slices(["b.tif", "a.tif"], "s")
    assert found.names == ("a.tif", "b.tif")
    assert "no pattern in common" in found.notes[0]
