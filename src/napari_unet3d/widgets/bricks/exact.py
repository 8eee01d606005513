"""Widgets that lose nothing: a value that a widget cannot show in full is kept until somebody changes what it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _same(value: Any) -> Any:
    return value


class Exact:
    """Edits one value with one widget.

    Parameters
    ----------
    widget
        What is seen; it may round a number, and have limits.
    show
        From the value to what the widget has.
    read
        The other way round.

    Attributes
    ----------
    value
        The value: what it was set to, or what was typed since.
    """

    def __init__(self, widget: Any, *, show: Callable[[Any], Any] = _same, read: Callable[[Any], Any] = _same) -> None:
        self.widget: Any = widget
        self._show, self._read = show, read
        self._was_set: tuple[Any, Any] | None = None
        self._default = read(self.widget.value)

    @property
    def value(self) -> Any:
        """Return the value."""
        if self._was_set is not None and self._was_set[1] == self.widget.value:
            return self._was_set[0]
        return self._read(self.widget.value)

    @value.setter
    def value(self, value: Any) -> None:
        shown = self._show(value)
        if hasattr(self.widget, "max") and not isinstance(shown, bool):
            shown = min(max(shown, self.widget.min), self.widget.max)
        self.widget.value = shown
        self._was_set = (value, self.widget.value)

    @property
    def is_shown(self) -> bool:
        """Return whether the widget shows the whole value."""
        return bool(self.value == self._read(self.widget.value))

    def reset(self) -> None:
        """Take the value again that it had at first."""
        self.value = self._default

    def forget(self) -> None:
        """Take what is shown for the whole value."""
        self._was_set = None
