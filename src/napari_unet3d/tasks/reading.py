"""How much of the memory of a run is for reading its volume.

Neighbouring tiles need the same strips, slices and chunks, so readers keep the last ones decoded. What they may keep
is a part of what the run was given, and what they have to decode at once comes on top.
"""

from __future__ import annotations

from napari_unet3d.core.tiling import Readable

# Of what a run was given, the part that decoded pieces may take; and what is worth keeping at most.
_SHARE = 8
_MOST_KEPT = 256 * 2**20
# A piece as it lies on disk, as it is decoded, and as an array of its numbers.
_COPIES = 3


def share_memory(volume: Readable | None, memory: int) -> int:
    """Tell the reader of a volume what it may keep; return the bytes that reading takes at the most.

    Parameters
    ----------
    volume
        What is read; None, and an array in memory, take nothing.
    memory
        Bytes that the run may use.
    """
    piece = getattr(volume, "piece_bytes", 0)
    if not piece:
        return 0
    kept = max(piece, min(memory // _SHARE, _MOST_KEPT))
    keep_at_most = getattr(volume, "keep_at_most", None)
    if keep_at_most is not None:
        keep_at_most(kept)
    return int(kept + _COPIES * piece)
