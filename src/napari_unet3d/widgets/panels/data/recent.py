"""The projects that were worked on last, as buttons: where a new window begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.widgets import Container, PushButton

from napari_unet3d.errors import visible
from napari_unet3d.tasks.projects.folder import Project
from napari_unet3d.tasks.projects.record import ImageRecord
from napari_unet3d.volumes.paths import image_file
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.words import calendar_day

if TYPE_CHECKING:
    from napari_unet3d.widgets.runs.session import Session

_SHOWN = 3


class RecentProjects(Container):
    """A button for each project whose image is still there.

    Parameters
    ----------
    session
        What the panels of this window share.
    open_image
        Opens the image of a project, and goes on with it.
    found
        Called when it is known which there are: they are looked for in a thread, as their disks may be slow.
    """

    def __init__(
        self, session: Session, open_image: Callable[[Project], None], found: Callable[[], None] | None = None
    ) -> None:
        self.buttons: list[PushButton] = []
        self._open_image, self._found = open_image, found
        super().__init__(widgets=[], labels=False, label="")
        self.margins = (0, 0, 0, 0)
        self._looking = panel.Aside(self.native)
        self._looking(_there, session.project.recent, take=self._on_found)

    def _on_found(self, projects: list[Project]) -> None:
        self.buttons = [_button(project, self._open_image) for project in projects]
        self.extend(self.buttons)
        if self._found is not None:
            self._found()

    @property
    def has_any(self) -> bool:
        """Return whether there is one."""
        return bool(self.buttons)


def describe_annotation(project: Project) -> str:
    """Return what was painted last in a project, and when."""
    latest = project.record.latest
    return "this image" if latest is None else f"your annotation of {calendar_day(latest.saved.astimezone())}"


def _button(project: Project, open_image: Callable[[Project], None]) -> PushButton:
    latest = project.record.latest
    day = "" if latest is None else f", {calendar_day(latest.saved.astimezone())}"
    button = PushButton(
        text=visible(f"Go on with {_name(project.record.image)}{day}"),
        tooltip=visible(f"Open {project.record.image.path} and {describe_annotation(project)}."),
    )
    button.changed.connect(lambda *_: open_image(project))
    return button


def _name(image: ImageRecord) -> str:
    return Path(image.path).name or image.name


def _there(recent: Callable[[], list[Project]]) -> list[Project]:
    return [project for project in recent() if _is_there(project)][:_SHOWN]


def _is_there(project: Project) -> bool:
    image = project.record.image
    if not image.path or project.record.latest is None:
        return False
    return image_file(image.path) is not None or (project.path.parent / Path(image.path).name).exists()
