"""Numbers as people read them: sizes, amounts of memory, times, each with its unit."""

from __future__ import annotations

from napari_unet3d.volumes.volume import times

__all__ = ["amount", "duration", "times"]


def amount(n_bytes: float) -> str:
    """Return an amount of memory with its unit.

    Examples
    --------
    >>> [amount(n) for n in (900, 56 << 20, 3 << 29, 3 << 42)]
    ['900 B', '56 MiB', '1.5 GiB', '12.0 TiB']
    """
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if n_bytes >= 1 << power:
            value = n_bytes / (1 << power)
            return f"{value:,.1f} {unit}" if power >= 30 else f"{value:,.0f} {unit}"
    return f"{n_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Return a time with its unit.

    Examples
    --------
    >>> [duration(n) for n in (0.2, 38, 170, 9000, 200000)]
    ['0.2 s', '38 s', '3 min', '2.5 h', '2.3 days']
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    if seconds < 100_000:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"
