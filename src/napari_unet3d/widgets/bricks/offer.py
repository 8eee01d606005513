"""A choice among things that change while a window is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from magicgui.widgets import ComboBox


class Offer(ComboBox):
    """Choose one of what is offered.

    napari asks every widget to reset its choices whenever layers come or go; these stay as they were offered last.

    Parameters
    ----------
    offered
        The first choices.
    options
        As of a ComboBox.
    """

    def __init__(self, offered: Sequence[Any], **options: Any) -> None:
        self._offered: list[Any] = list(offered)
        self._texts: Mapping[Any, str] = {}
        super().__init__(choices=lambda _: [(self._texts.get(n, str(n)), n) for n in self._offered], **options)

    def offer(self, offered: Sequence[Any], *, otherwise: Any = None, texts: Mapping[Any, str] | None = None) -> None:
        """Offer other choices.

        Parameters
        ----------
        offered
            The choices.
        otherwise
            What is chosen where the present choice is not among them; None is the first.
        texts
            What they are called, where that is not their own name.
        """
        kept, self._texts = self.value, texts or {}
        self._offered = list(offered)
        self.reset_choices()
        if self._offered:
            first = self._offered[0] if otherwise is None else otherwise
            self.value = kept if kept in self._offered else first
