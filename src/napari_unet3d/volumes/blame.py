"""Where an error comes from: a library that met a damaged file, or a mistake of this program.

Libraries raise `TypeError` and `AttributeError` for damaged files too. Only if such an error was raised inside the
library is the file to blame; a mistake of this program is never called a damaged file.
"""

from __future__ import annotations


def raised_in(error: BaseException, *packages: str) -> bool:
    """Return whether an error was raised inside one of some packages."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in packages
