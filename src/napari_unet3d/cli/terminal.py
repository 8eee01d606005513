"""All that the command prints goes through here: as plain text, to a terminal that may go away.

Class names, paths and notes come from files. Nothing of them is taken for markup, or for an order to the terminal. When
the terminal has gone, or the reader of a pipe, the work goes on: what stops it is a signal.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from napari_unet3d.errors import OutputError, shown, visible

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

# A terminal that was closed, a pipe that nobody reads, a descriptor that was closed before the start.
_GONE = (errno.EIO, errno.EPIPE, errno.EBADF, errno.ENXIO)


def say(text: str, *, to_error: bool = False) -> None:
    """Print a line, to standard error if it is no result.

    Raises
    ------
    OutputError
        If a result cannot be written where it was sent, such as to a full disk.
    """
    _write(sys.stderr if to_error else sys.stdout, visible(text) + "\n", must_arrive=not to_error)


def say_notes(notes: tuple[str, ...]) -> None:
    """Print what the user should know of the input."""
    for text in notes:
        say(f"note: {text}", to_error=True)


def say_error(error: Exception, *, with_trace: bool) -> None:
    """Print an error that a user can act on, as one line."""
    if with_trace:
        say("".join(traceback.format_exception(error)).rstrip(), to_error=True)
    say(f"error: {error}", to_error=True)


def say_unforeseen(error: BaseException, *, with_trace: bool) -> None:
    """Print an error that nobody has foreseen, as one line, and keep what is known of it in a log file."""
    trace = "".join(traceback.format_exception(error))
    if with_trace:
        say(trace.rstrip(), to_error=True)
    reason = " ".join(str(error).split())
    what = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    say(f"error: an unexpected error ({what}). {_keep_trace(trace)}", to_error=True)


def _keep_trace(trace: str) -> str:
    from napari_unet3d.logs import log_file

    try:
        log = log_file(f"command-{os.getpid()}.log")
        words = " ".join(map(shown, sys.argv[1:]))
        Path(log).write_text(f"{words}\n{trace}", encoding="utf-8", errors="backslashreplace")
    except OSError as failure:
        return f"Details could not be written to a log file ({failure.strerror}); --debug shows them here."
    return f"Details are in {shown(log)}; --debug shows them here."


def say_for_libraries() -> None:
    """Let what libraries warn of go through here too: they repeat what stands in a file."""
    logging.lastResort = _Log(logging.WARNING)
    warnings.showwarning = _warn


class _Log(logging.Handler):
    """Prints what a library logs and nobody else takes."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), to_error=True)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"{category.__name__}: {message}", to_error=True)


class Screen:
    """A progress bar, where there is a terminal, with lines above it; open it with `with`.

    Parameters
    ----------
    columns
        Of rich; texts in them are without markup.
    """

    def __init__(self, *columns: ProgressColumn) -> None:
        from rich.console import Console
        from rich.progress import Progress

        outlet: Any = _Outlet(sys.stderr)
        console = Console(file=outlet, markup=False, highlight=False, emoji=False)
        self.bar: Progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        from rich.text import Text

        self.bar.console.print(Text(visible(text)), soft_wrap=True)


class _Outlet:
    """A stream that rich can write to, and that never raises because nobody reads it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        _write(self._stream, text, must_arrive=False)
        return len(text)

    def flush(self) -> None:
        _write(self._stream, "", must_arrive=False)


def _write(stream: TextIO, text: str, *, must_arrive: bool) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError as error:
        _let_go(stream)
        if must_arrive and error.errno not in _GONE:
            raise OutputError(f"The answer cannot be printed: {error.strerror}.") from error
    except (ValueError, AttributeError):  # closed, or not there at all, as under pythonw
        return


def _let_go(stream: TextIO) -> None:
    """Send what a stream still holds, and all that follows, to nowhere: Python flushes it when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
