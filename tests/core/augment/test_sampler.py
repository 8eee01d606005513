"""The sampler of ready patches: one order for a seed, bounded memory, errors that reach who waits."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_unet3d.core.augment.draw import PatchFrame, draw_corner
from napari_unet3d.core.augment.presets import PRESETS
from napari_unet3d.core.augment.sampler import PatchSampler, PatchSource

FRAME = PatchFrame(shape=(20, 20, 20), halo=4)
IMAGE = np.random.default_rng(0).integers(0, 4000, (40, 40, 40)).astype(np.uint16)
LABELS = (IMAGE > 3000).astype(np.uint8)
SOURCE = PatchSource(IMAGE, LABELS, PRESETS["isotropic light microscopy"], FRAME)


def taken(n, **choices):
    with PatchSampler(SOURCE, **choices) as patches:
        return [next(patches) for _ in range(n)]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_order_is_that_of_the_seeds_whatever_the_number_of_threads(threads):
    for number, patch in enumerate(taken(9, seed=5, threads=threads, ahead=3)):
        alone = SOURCE.patch(5 + number, threads=2)
        assert patch.sample == alone.sample
        assert patch.image.tobytes() == alone.image.tobytes()
        assert patch.labels.tobytes() == alone.labels.tobytes()


def test_it_goes_on_where_it_stopped():
    whole = taken(6, seed=0, threads=2)
    with PatchSampler(SOURCE, seed=0, threads=2) as patches:
        first = [next(patches) for _ in range(2)]
        place = patches.next_seed
    rest = taken(4, seed=place, threads=1)
    assert [patch.sample.seed for patch in first + rest] == [patch.sample.seed for patch in whole]
    assert rest[-1].image.tobytes() == whole[-1].image.tobytes()


def test_no_more_patches_are_made_than_there_is_room_for():
    asked, may_go_on = [], threading.Event()

    def corner(seed):
        asked.append(seed)
        return draw_corner(FRAME, IMAGE.shape, seed)

    source = PatchSource(IMAGE, LABELS, SOURCE.spec, FRAME, corner=corner)
    with PatchSampler(source, threads=2, ahead=3) as patches:
        for _ in range(5):
            next(patches)
            assert len(asked) <= patches.next_seed + 3
        may_go_on.set()
    assert max(asked) < 5 + 3


def test_an_error_in_a_thread_reaches_who_waits_and_the_threads_end():
    def corner(seed):
        if seed == 2:
            raise OSError("the disk is gone")
        return (0, 0, 0)

    with PatchSampler(PatchSource(IMAGE, LABELS, SOURCE.spec, FRAME, corner=corner)) as patches:
        assert [next(patches).sample.seed for _ in range(2)] == [0, 1]
        with pytest.raises(OSError, match="disk is gone"):
            next(patches)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("unet3d-patches")]


def test_after_an_error_that_is_survived_it_stands_where_it_was():
    class Failing:
        def patch(self, seed, *, threads=1):
            if seed == 2:
                raise ValueError("no")
            return seed

    with PatchSampler(Failing(), seed=0, threads=2) as patches:
        assert [next(patches), next(patches)] == [0, 1]
        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                next(patches)
            assert patches.next_seed == 2
