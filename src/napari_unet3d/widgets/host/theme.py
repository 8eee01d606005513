"""napari's theme: whether it is a dark one, and when it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Brighter backgrounds than this, of 255, are light.
_MIDDLE = 127


def is_dark() -> bool:
    """Return whether text is bright on something dark."""
    from napari.settings import get_settings
    from napari.utils.theme import get_theme

    red, green, blue = get_theme(get_settings().appearance.theme).background.as_rgb_tuple()[:3]
    return bool((red + green + blue) / 3 <= _MIDDLE)


def listen_to_theme(call: Callable[..., Any]) -> None:
    """Call a function whenever another theme is chosen, for as long as the program runs."""
    from napari.settings import get_settings

    get_settings().appearance.events.theme.connect(call)
