"""Whose fault an error is: a library met a damaged file, or this program made a mistake.

Libraries raise `TypeError`, `AttributeError` and `KeyError` for damaged files too. If such an error was raised by a
line of this program it is a mistake, and is never called a damaged file.
"""

from __future__ import annotations

_OURS = "napari_unet3d"


def is_mistake(error: BaseException) -> bool:
    """Return whether an error is one of programming, raised by a line of this program."""
    if not isinstance(error, AttributeError | TypeError | LookupError | NameError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] == _OURS
