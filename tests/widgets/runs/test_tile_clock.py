from __future__ import annotations

import pytest

from napari_unet3d.core.boxes import Box
from napari_unet3d.tasks.events import Started, TileDone
from napari_unet3d.widgets.runs.tile_clock import TileClock


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def started(total, seconds):
    return Started(total, (1, 1, 1), "here", 1, seconds)


def done(n, total, left):
    return TileDone(Box((0, 1), (0, 1), (0, 1)), n, total, left)


def test_the_time_that_is_left_is_known_at_once_and_goes_down_within_a_tile():
    hand = Hand()
    clock = TileClock(hand)
    clock.begin(started(4, 10.0))
    assert (clock.seconds_left, clock.within) == (40.0, 0.0)
    hand.now += 5
    assert (clock.seconds_left, clock.within) == (35.0, 0.5)
    hand.now += 100
    # It is late: nearly done, and the other tiles are as they were.
    assert clock.seconds_left == pytest.approx(30.5)
    assert clock.within == pytest.approx(0.95)
    clock.tile_done(done(1, 4, 60.0))
    assert clock.seconds_left == 60.0
    hand.now += 10
    assert (clock.seconds_left, clock.within) == (50.0, 0.5)


def test_without_a_known_speed_nothing_is_said_before_the_first_tile():
    clock = TileClock(Hand())
    clock.begin(started(4, None))
    assert (clock.seconds_left, clock.within, clock.is_running) == (None, 0.0, False)
    clock.tile_done(done(1, 4, 30.0))
    assert (clock.seconds_left, clock.is_running) == (30.0, True)


def test_at_the_end_nothing_is_left():
    clock = TileClock(Hand())
    clock.begin(started(1, 10.0))
    clock.tile_done(done(1, 1, 0.0))
    assert (clock.seconds_left, clock.within, clock.is_running) == (0.0, 0.0, False)
