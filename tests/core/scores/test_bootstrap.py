"""Intervals of scores: laws, and whether they hold what they say."""

from __future__ import annotations

import math

import numpy as np

from napari_unet3d.core.scores.bootstrap import COVERAGE, RESAMPLES, interval, resample


def share(sums):
    return [float(sums["hits"] / sums["all"])]


def test_blocks_that_are_alike_leave_no_doubt():
    drawn = resample({"hits": np.full(9, 3.0), "all": np.full(9, 4.0)}, share)
    assert interval(drawn[:, 0]) == (0.75, 0.75)


def test_the_same_blocks_give_the_same_interval_every_time():
    blocks = {"hits": np.arange(9.0), "all": np.full(9, 9.0)}
    assert np.array_equal(resample(blocks, share), resample(blocks, share))
    assert len(resample(blocks, share)) == RESAMPLES


def test_draws_without_a_score_are_left_out_and_none_gives_no_interval():
    assert interval(np.array([0.5, np.nan, 0.5])) == (0.5, 0.5)
    assert all(map(math.isnan, interval(np.array([np.nan]))))


def test_about_nine_in_ten_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    held = []
    for _ in range(150):
        # Voxels of a block are alike: its share of hits is its own, the mean of all shares is 0.7.
        hits = rng.binomial(100, rng.beta(7, 3, 40)).astype(float)
        low, high = interval(resample({"hits": hits, "all": np.full(40, 100.0)}, share)[:, 0])
        held.append(low <= 0.7 <= high)
    assert abs(np.mean(held) - COVERAGE) < 0.08
