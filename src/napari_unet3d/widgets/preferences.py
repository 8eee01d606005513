"""What a person sets once, in napari's preferences under 3D U-Net; declared in napari.yaml."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

PLUGIN = "napari-unet3d"
_SECTION = "workbench"


@dataclass(frozen=True)
class Preferences:
    """The preferences, checked.

    Attributes
    ----------
    models_folder
        Where models are looked for.
    memory_bytes
        What a run may use; None is a share of what is free.
    warm_start
        Start the worker when the workbench opens.
    idle_seconds
        The worker ends after so long without work.
    problem
        What of the file was not understood, as a sentence; the defaults stand in for it.
    """

    models_folder: Path
    memory_bytes: int | None = None
    warm_start: bool = True
    idle_seconds: float = 900.0
    problem: str = ""


def default_models_folder() -> Path:
    """Return the folder for models where nobody has chosen another."""
    return user_data_path(PLUGIN, appauthor=False) / "models"


def read_preferences() -> Preferences:
    """Return the preferences; what of the file is not understood is the default, is said, and is kept in a copy."""
    from napari.settings import get_plugin_settings

    path = _file()
    written, problem = _written(path)
    try:
        settings = get_plugin_settings(PLUGIN)
        found = getattr(settings, _SECTION)
        values = {name: getattr(found, name) for name in ("models_folder", "memory_gib", "warm_start", "idle_minutes")}
    except Exception as error:  # noqa: BLE001 - napari reads the user's file here, and asserts what it hopes to find
        reason = f"napari cannot read the preferences of plugins ({_first_line(error)}); the defaults are used."
        return Preferences(default_models_folder(), problem=problem or reason)
    if not problem and (odd := _odd(written, values, settings.env_settings.get(_SECTION, {}))):
        problem = f"{path} holds what this version does not understand ({', '.join(odd)}); {_kept(path)}"
    return Preferences(
        Path(values["models_folder"]).expanduser() if values["models_folder"] else default_models_folder(),
        int(values["memory_gib"] * 2**30) or None,
        bool(values["warm_start"]),
        60.0 * float(values["idle_minutes"]),
        problem,
    )


def _odd(written: Mapping[str, Any], values: Mapping[str, Any], overridden: Mapping[str, Any]) -> list[str]:
    """Return what of a file napari has not taken: it drops it without a word, and from the file when it next saves."""
    sections = [str(name) for name in written if name != _SECTION]
    own = written.get(_SECTION, {})
    if not isinstance(own, Mapping):
        return [_SECTION, *sections]
    named = [name for name in own if name not in overridden and (name not in values or values[name] != own[name])]
    return [*map(str, named), *sections]


def _file() -> Path | None:
    from napari import settings

    # napari keeps the settings of a plugin beside its own, and has no public name for that folder.
    own = getattr(settings, "_CFG_PATH", None)
    return Path(own).parent / f"{PLUGIN}.yaml" if own else None


def _written(path: Path | None) -> tuple[dict[str, Any], str]:
    """Return what the file says, and why it cannot be read: napari puts defaults in its place without a word."""
    import yaml

    if path is None or not path.is_file():
        return {}, ""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        return {}, f"{path} cannot be read ({_first_line(error)}); {_kept(path)}"
    if not isinstance(content, dict):
        return {}, f"{path} holds no settings but a {type(content).__name__}; {_kept(path)}"
    return content, ""


def _kept(path: Path | None) -> str:
    if path is None:
        return "the defaults are used instead."
    backup = path.with_suffix(".backup.yaml")
    try:
        shutil.copyfile(path, backup)
    except OSError as error:
        return f"the defaults are used instead, and it could not be copied ({error})."
    return f"the defaults are used instead, and a copy is kept as {backup.name}."


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
