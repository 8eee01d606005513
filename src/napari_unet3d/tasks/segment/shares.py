"""How much of the memory of a run is for reading its volume and writing its result.

Neighbouring tiles need the same strips, slices and chunks, so readers keep the last ones decoded. What they may keep
is a part of what the run was given; what is decoded and encoded at once comes on top, and so do the libraries.
"""

from __future__ import annotations

from typing import Any

# Of what a run was given, the part that decoded pieces may take; and what is worth keeping at most.
_SHARE = 8
_MOST_KEPT = 256 * 2**20
# A piece as it lies on disk, as it is decoded, as an array, and as the part of it that was asked for.
_COPIES = 4
# Threads, buffers and what allocators hold back, measured with volumes of every format
# (tests/tasks/segment/test_memory.py).
_LIBRARIES = 32 * 2**20


def share_memory(volume: Any, sink: Any, memory: int) -> int:
    """Tell the reader of a volume what it may keep; return the bytes that reading and writing take at the most.

    Parameters
    ----------
    volume
        What is read: an array in memory, which takes nothing, or one on disk.
    sink
        What is written to, likewise.
    memory
        Bytes that the run may use.
    """
    piece, writing = int(getattr(volume, "piece_bytes", 0)), int(getattr(sink, "writing_bytes", 0))
    kept = max(piece, min(memory // _SHARE, _MOST_KEPT)) if piece else 0
    if piece:
        volume.keep_at_most(kept)
    # Where little was given, half of it is for the network: a run that takes a little more beats one that cannot be.
    others = min(writing + _LIBRARIES, memory // 2) if piece or writing else 0
    return kept + _COPIES * piece + others
