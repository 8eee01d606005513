"""Where a result goes: into a layer alone, or into a file too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from magicgui.widgets import Container, PushButton

from napari_unet3d.errors import shown
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.host.files import ask_save_path
from napari_unet3d.widgets.host.plain import disable_markup

_MEMORY = "in memory"


class ResultPlace(Container):
    """Edits which file a result is written to.

    Parameters
    ----------
    on_change
        Called when it was changed.
    name
        Returns the name that the dialog proposes.
    """

    def __init__(self, on_change: Callable[[], None], name: Callable[[], str]) -> None:
        self._on_change, self._name = on_change, name
        self._chosen: Path | None = None
        self._proposed: Path | None = None
        self._is_kept_in_memory = False
        self._text = panel.text(_MEMORY, tone="quiet")
        self.save_to = PushButton(
            text="Save to...", tooltip="Write the result to a file while it is computed. Good for large results."
        )
        self.keep = PushButton(
            text="In memory", tooltip="Write no file. Save result... does so afterwards.", visible=False
        )
        super().__init__(
            widgets=[self._text, self.save_to, self.keep], layout="horizontal", labels=False, label="Result"
        )
        self.margins = (0, 0, 0, 0)
        self.native.layout().setSpacing(4)
        self.native.layout().setStretch(0, 1)
        self.save_to.changed.connect(lambda: self._ask())
        self.keep.changed.connect(lambda: self._keep())
        self._show()

    @property
    def value(self) -> Path | None:
        """Return the file, or None where the result stays in memory."""
        return self._chosen if self._chosen is not None else self._proposed

    @value.setter
    def value(self, path: Path | None) -> None:
        self._chosen, self._is_kept_in_memory = None if path is None else path.absolute(), False
        self._changed()

    def propose(self, path: Path | None) -> bool:
        """Take a file that suits a large result, unless somebody has chosen; return whether that changed anything."""
        if self._is_kept_in_memory or self._chosen is not None:
            path = None
        if _without_number(path) == _without_number(self._proposed):
            return False
        self._proposed = path
        self._show()
        return True

    def _ask(self) -> None:
        if path := ask_save_path(self.native, "Save the result to", self._name()):
            self.value = path

    def _keep(self) -> None:
        self._chosen = self._proposed = None
        self._is_kept_in_memory = True
        self._changed()

    def _changed(self) -> None:
        self._show()
        self._on_change()

    def _show(self) -> None:
        path = self.value
        why = ", as it is large" if self._chosen is None and path is not None else ""
        panel.say(self._text, _MEMORY if path is None else f"{shown(path.name)}{why}")
        self._text.tooltip = disable_markup("" if path is None else shown(path))
        self.keep.visible = path is not None


def _without_number(path: Path | None) -> str:
    """Return a proposed path without the number that keeps it from replacing another result."""
    return "" if path is None else str(path.with_suffix("")).rstrip(" 0123456789")
