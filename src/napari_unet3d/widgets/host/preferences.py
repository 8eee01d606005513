"""What a person sets once, in napari's preferences under 3D U-Net; declared in napari.yaml."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_unet3d.small_files import read_small

PLUGIN = "napari-unet3d"
_SECTION = "workbench"


@dataclass(frozen=True)
class Preferences:
    """The preferences, checked.

    Attributes
    ----------
    models_folder
        Where models are looked for.
    projects_folder
        Where new projects are kept; None keeps them beside their image.
    cluster
        The address of a Dask scheduler, or its file, that Segment may hand its work to; None where there is none.
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
    projects_folder: Path | None = None
    cluster: str | None = None
    memory_bytes: int | None = None
    warm_start: bool = True
    idle_seconds: float = 900.0
    problem: str = ""

    @property
    def own_folder(self) -> Path:
        """Return the folder of what the user makes: runs, and projects that lie beside no image."""
        return self.models_folder.parent

    @property
    def unfinished_folder(self) -> Path:
        """Return the folder with notes of segmentations that can go on."""
        return self.own_folder / "unfinished"


def default_models_folder() -> Path:
    """Return the folder for models where nobody has chosen another."""
    return user_data_path(PLUGIN, appauthor=False) / "models"


class _Workbench(BaseModel):
    """What the file holds: the same names, defaults and limits as in napari.yaml."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    models_folder: str = ""
    projects_folder: str = ""
    cluster: str = ""
    memory_gib: float = Field(default=0.0, ge=0, le=65_536, allow_inf_nan=False)
    warm_start: bool = True
    idle_minutes: float = Field(default=15.0, ge=1, le=10_080, allow_inf_nan=False)


def read_preferences() -> Preferences:
    """Return the preferences; what of the file is not understood is the default, is said, and is kept in a copy.

    From the file that napari writes at every change. Its own `get_plugin_settings` reads the manifests of all plugins
    first, which takes longer than opening the window.
    """
    path = _file()
    content, problem = _read_file(path)
    section = content.get(_SECTION, {})
    is_section = isinstance(section, Mapping)
    found, odd = _check(section) if is_section else (_Workbench(), [_SECTION])
    odd += [str(name) for name in content if name != _SECTION]
    if odd and not problem:
        problem = f"{path} holds settings that this version does not understand ({', '.join(odd)}); {_keep_copy(path)}"
    return Preferences(
        Path(found.models_folder).expanduser() if found.models_folder else default_models_folder(),
        Path(found.projects_folder).expanduser() if found.projects_folder else None,
        os.path.expanduser(found.cluster.strip()) or None,
        int(found.memory_gib * 2**30) or None,
        found.warm_start,
        60.0 * found.idle_minutes,
        problem,
    )


def _check(section: Mapping[str, Any]) -> tuple[_Workbench, list[str]]:
    """Return what can be understood, and the names of what cannot: damaged, or of a newer version."""
    odd = [str(name) for name in section if name not in _Workbench.model_fields]
    try:
        return _Workbench.model_validate(section), odd
    except ValidationError as error:
        wrong = list(dict.fromkeys(str(entry["loc"][0]) for entry in error.errors()))
    return _Workbench.model_validate({name: section[name] for name in section if name not in wrong}), [*wrong, *odd]


def _file() -> Path | None:
    from napari import settings

    # napari keeps the settings of a plugin beside its own, and has no public name for that folder.
    own = getattr(settings, "_CFG_PATH", None)
    return Path(own).parent / f"{PLUGIN}.yaml" if own else None


def _read_file(path: Path | None) -> tuple[dict[str, Any], str]:
    """Return what the file says, and why it cannot be read: napari puts defaults in its place without a word."""
    import yaml

    if path is None or not os.path.isfile(path):
        return {}, ""
    try:
        content = yaml.safe_load(read_small(path).decode("utf-8")) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        return {}, f"{path} cannot be read ({_first_line(error)}); {_keep_copy(path)}"
    if not isinstance(content, dict):
        return {}, f"{path} holds a {type(content).__name__}, not settings; {_keep_copy(path)}"
    return content, ""


def _keep_copy(path: Path | None) -> str:
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
