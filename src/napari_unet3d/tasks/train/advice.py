"""What a run says at its end: whether more steps would help."""

from __future__ import annotations

from collections.abc import Sequence

# A difference of scores that is worth another run.
_WORTH = 0.01
# So many scores tell a course from a swing.
_FEWEST = 6


def advice(ranks: Sequence[tuple[int, float]]) -> str | None:
    """Return whether to train on, as sentences, or None where the scores do not tell.

    Parameters
    ----------
    ranks
        After which step, and the score by which models are compared, in order.

    Examples
    --------
    >>> advice([(step, step / 1000) for step in range(100, 1000, 100)])
    'The score was still rising at the end, from 0.60 to 0.90 in the last third. More steps should help.'
    >>> advice([(step, 0.8) for step in range(100, 1000, 100)])
    'The score has not risen since step 100. More annotation should help more than more steps.'
    >>> advice([(100, 0.5), (200, 0.6)]) is None
    True
    """
    if len(ranks) < _FEWEST:
        return None
    third = len(ranks) // 3
    before, end = (max(rank for _, rank in part) for part in (ranks[:-third], ranks[-third:]))
    if end - before > _WORTH:
        return (
            f"The score was still rising at the end, from {before:.2f} to {end:.2f} in the last third. "
            "More steps should help."
        )
    reached = next(step for step, rank in ranks if rank >= max(before, end) - _WORTH)
    if reached > ranks[len(ranks) // 2][0]:
        return None
    return f"The score has not risen since step {reached:,}. More annotation should help more than more steps."
