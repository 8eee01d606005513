"""The projects that were worked on last, newest first: a small file that may be lost."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from napari_unet3d import atomic
from napari_unet3d.errors import OutputError, ProjectError
from napari_unet3d.small_files import read_json
from napari_unet3d.tasks.projects.folder import Project

_MOST = 12


def remember_project(file: Path, project: Project) -> None:
    """Put a project first; where the file cannot be written, nothing is kept."""
    paths = [str(project.path), *(path for path in _listed(file) if path != str(project.path))]
    with suppress(OSError, OutputError):
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(file, _as_json(paths[:_MOST]), overwrite=True)


def recent_projects(file: Path) -> list[Project]:
    """Return the projects of a file that are still there, newest first."""
    found = []
    for path in _listed(file):
        with suppress(ProjectError):
            found.append(Project.open(Path(path)))
    return found


def _as_json(paths: list[str]) -> str:
    import json

    return json.dumps(paths, indent=2) + "\n"


def _listed(file: Path) -> list[str]:
    with suppress(OSError, ValueError):
        content = read_json(file)
        if isinstance(content, list):
            return [path for path in content if isinstance(path, str)]
    return []
