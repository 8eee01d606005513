"""Numbers as people read them: sizes, amounts of memory, times, each with its unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


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


def per_axis(numbers: Sequence[int]) -> str:
    """Return one number where it is that of all axes (z, y, x), otherwise all three.

    Examples
    --------
    >>> per_axis((44, 44, 44)), per_axis((20, 44, 44))
    ('44', '20 x 44 x 44 (z, y, x)')
    """
    return f"{numbers[0]:,}" if len(set(numbers)) == 1 else f"{times(numbers)} (z, y, x)"


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


def times(numbers: Iterable[float]) -> str:
    """Return sizes as text.

    Examples
    --------
    >>> times((96, 192, 192)), times((0.18, 0.1, 0.1))
    ('96 x 192 x 192', '0.18 x 0.1 x 0.1')
    """
    return " x ".join(f"{n:.4g}" if isinstance(n, float) else f"{n:,}" for n in numbers)


def with_interval(value: float, interval: tuple[float, float]) -> str:
    """Return a score with the interval in which it mostly lies; NaN says that this is not known.

    Examples
    --------
    >>> with_interval(0.812, (0.74, 0.861)), with_interval(0.812, (float("nan"), float("nan")))
    ('0.81 (0.74 to 0.86)', '0.81 (interval not known)')
    """
    low, high = interval
    return f"{value:.2f} (interval not known)" if low != low else f"{value:.2f} ({low:.2f} to {high:.2f})"


def calendar_day(moment: datetime) -> str:
    """Return a day as people write it, with the year where it is another.

    Examples
    --------
    >>> calendar_day(datetime(2019, 11, 3))
    '3 Nov 2019'
    """
    year = "" if moment.year == datetime.now(moment.tzinfo).year else f" {moment.year}"
    return f"{moment.day} {_MONTHS[moment.month - 1]}{year}"
