"""How long a run still takes, between one piece of news and the next: a person wants to see that it moves."""

from __future__ import annotations

import time
from collections.abc import Callable

from napari_unet3d.tasks.events import Started, TileDone

# A tile that takes longer than expected is nearly done, for as long as it takes.
_NEARLY = 0.95


class TileClock:
    """Goes on within a tile.

    Parameters
    ----------
    now
        What tells the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._tile_seconds: float | None = None
        self._n_left = 0

    @property
    def is_running(self) -> bool:
        """Return whether tiles are left and it is known how long one takes."""
        return self._tile_seconds is not None and self._n_left > 0

    @property
    def within(self) -> float:
        """Return how much of the present tile is done, in [0, 1); an estimate."""
        if self._tile_seconds is None or not self._n_left:
            return 0.0
        return min(_NEARLY, (self._now() - self._since) / max(self._tile_seconds, 1e-9))

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds that are left, or None where that is not known."""
        if self._tile_seconds is None:
            return None
        return self._tile_seconds * max(0.0, self._n_left - self.within)

    def begin(self, plan: Started) -> None:
        """Note what is to be done, and how long a tile is expected to take."""
        self._since, self._n_left, self._tile_seconds = self._now(), plan.total, plan.tile_seconds

    def tile_done(self, tile: TileDone) -> None:
        """Note that a tile is done."""
        self._since, self._n_left = self._now(), tile.total - tile.done
        if self._n_left:
            self._tile_seconds = tile.seconds_left / self._n_left
