"""The tab Augment: what augmentation does to the chosen image and its labels, as layers, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, PushButton, SpinBox
from pydantic import ValidationError

from napari_unet3d.core.augment.draw import PatchFrame, draw_corner
from napari_unet3d.core.augment.presets import suggested_preset
from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.errors import Unet3dError, VolumeError
from napari_unet3d.tasks.augment.patches import AugmentRequest
from napari_unet3d.tasks.specs import why_invalid
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.layers.view import shown_box
from napari_unet3d.widgets.layers.volumes import LayerVolume, is_illustration, labels_like
from napari_unet3d.widgets.panels.augment.form import AugmentForm
from napari_unet3d.widgets.panels.augment.state import AugmentState, Made, resolve
from napari_unet3d.widgets.runs.preview import Wanted
from napari_unet3d.widgets.runs.session import Session
from napari_unet3d.words import times

HERE, DRAWN = "around the view", "drawn"
_COMPARED = 9
_LARGEST, _USUAL = 300, 132
# What is made before the rest, along each axis: so much that it is there at once.
_FIRST = 132
_UPDATE_MS = 60


class AugmentPanel(Container):
    """Shows augmented patches of one image and its labels.

    Parameters
    ----------
    session
        What the panels of this window share.

    Attributes
    ----------
    form
        What may be done; its `spec` is what training takes.
    state
        What is shown.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._centre: list[int] | None = None
        self._scaling: tuple[_ScalingKey, Any] | None = None
        self._n = 1
        self.state = AugmentState()
        self._build()
        super().__init__(
            widgets=[
                self.image,
                self.labels_layer,
                panel.row(self.size, self.place, label="Patch"),
                self.form.preset,
                self._buttons,
                self._shown_too,
                self._said,
            ],
            labels=True,
        )
        panel.add(self, self.form.native)
        self.margins = (6, 6, 6, 6)
        self.native.layout().addStretch()
        self._later = panel.Later(self.update_preview, _UPDATE_MS, self.native)
        self._connect()
        self.update_state()

    def _build(self) -> None:
        session = self._session
        self.image = panel.LayerChoice(
            session.viewer,
            lambda layer: layer._type_string == "image" and not is_illustration(layer),
            label="Image",
            tooltip="The image layer that patches are cut from.",
        )
        self.labels_layer = panel.LayerChoice(
            session.viewer,
            lambda layer: layer._type_string == "labels" and not is_illustration(layer),
            takes=session.takes_as_annotation,
            label="Labels",
            tooltip="The annotation or mask that is deformed with the image (optional).",
        )
        self.size = ComboBox(
            choices=self._sizes, tooltip="Size of the patch that goes into the network, in voxels per axis."
        )
        self.size.value = _USUAL if _USUAL in self._sizes() else self._sizes()[0]
        self.place = ComboBox(
            choices=[HERE, DRAWN],
            value=HERE,
            tooltip="Where the patch is cut: in the middle of the view, or anywhere. Training cuts around annotation.",
        )
        self.form = AugmentForm(self._changed)
        self.seed = SpinBox(min=0, max=2**31 - 1, value=0, tooltip="Random seed. The same seed gives the same patch.")
        self.seed.native.setStyleSheet("min-width: 60px;")
        self.preview = panel.main_button(
            "Preview", "Show an augmented patch, its labels and the part that comes out of the network."
        )
        self.next = PushButton(
            text="Next", tooltip="Show the patch with the next seed. Training takes the seeds one after the other."
        )
        self.compare = PushButton(
            text=f"Compare {_COMPARED}", tooltip=f"Show the patches of {_COMPARED} seeds side by side."
        )
        self.box = CheckBox(
            text="output box", value=True, tooltip="Outline the part of the patch that comes out of the network."
        )
        self.arrows = CheckBox(
            text="displacement", value=False, tooltip="Draw arrows from each voxel to where it is taken from."
        )
        self.grid = CheckBox(text="grid", value=False, tooltip="Show a regular grid, deformed like the image.")
        self._problem = panel.text()
        self._state = panel.text(tone="quiet")
        self._folded = panel.text(tone="warning")
        self._buttons = panel.row(self.seed, self.preview, self.next, self.compare, label="Seed")
        self._shown_too = panel.row(self.box, self.arrows, self.grid, label="Show")
        self._said = panel.column(self._problem, self._state, self._folded, labels=False)

    def _connect(self) -> None:
        session = self._session
        self.image.changed.connect(lambda layer: setattr(session, "image", layer))
        self.labels_layer.changed.connect(lambda layer: setattr(session, "labels", layer))
        self.preview.changed.connect(lambda: self.show_preview())
        self.next.changed.connect(lambda: self.show_next())
        self.compare.changed.connect(lambda: self.show_several())
        for widget in (self.seed, self.size, self.place, self.box, self.arrows, self.grid):
            widget.changed.connect(self._changed)
        for signal, slot in (
            (session.image_changed, self._on_image),
            (session.labels_changed, self._on_labels),
            (session.model_changed, self._on_model),
            (session.preview_changed, self._on_preview),
        ):
            panel.listen(self, signal, slot)
        if session.image not in session.viewer.layers:
            session.image = self.image.value
        if session.labels not in session.viewer.layers:
            session.labels = self.labels_layer.value
        self._on_image()
        self._on_labels()

    def _sizes(self, _: Any = None) -> list[int]:
        return self._session.network.geometry.valid_cubes(_LARGEST)

    def _on_image(self) -> None:
        self.image.show_layer(self._session.image)
        self._centre = None
        with suppress(Unet3dError):
            self.form.suggest(suggested_preset(self._session.volume(channels=1).volume.voxel_size))
        self.update_state()

    def _on_labels(self) -> None:
        self.labels_layer.show_layer(self._session.labels)
        self.update_state()

    def _on_model(self) -> None:
        with self.size.changed.blocked():
            before = self.size.value
            self.size.reset_choices()
            self.size.value = before if before in self._sizes() else self._sizes()[0]

    def volumes(self) -> tuple[LayerVolume, LayerVolume | None]:
        """Return the chosen image and labels.

        Raises
        ------
        VolumeError
            If they are no volumes, or do not cover the same box.
        """
        image = self._session.volume(channels=1)
        layer = self.labels_layer.value
        if layer is None:
            return image, None
        labels = labels_like(layer, image)
        if labels.shape != image.shape:
            raise VolumeError(
                f"'{image.layer.name}' has {times(image.shape)} voxels and '{layer.name}' "
                f"{times(labels.shape)} (z, y, x); they must cover the same box."
            )
        if not labels.space.equals(image.space):
            raise VolumeError(
                f"'{image.layer.name}' and '{layer.name}' do not lie in the same place: voxels of "
                f"{times(image.volume.voxel_size)} {image.volume.unit} and "
                f"{times(labels.volume.voxel_size)} {labels.volume.unit} (z, y, x), or another position."
            )
        return image, labels

    def update_state(self) -> None:
        """Derive what is said and what can be pressed."""
        preview = self._session.last_preview
        self.state = resolve(self._problem_now(), None if preview is None else Made.of(preview))
        panel.say(self._problem, self.state.problem)
        for button in (self.preview, self.next, self.compare):
            button.enabled = self.state.can_show
        panel.say(self._state, self.state.sentence, tone="warning" if self.state.is_warning else "quiet")
        panel.say(self._folded, self.state.folded)

    def _problem_now(self) -> str:
        """Return why no patch can be shown, or nothing."""
        try:
            self.volumes()
            self.form.spec  # noqa: B018
        except Unet3dError as error:
            return str(error)
        except ValidationError as error:
            where = ", ".join(str(part).replace("_", " ") for part in error.errors()[0]["loc"])
            return f"{where}: {why_invalid(error)}".removeprefix(": ")
        return ""

    def _changed(self, *_: Any) -> None:
        self.update_state()
        if self._is_shown:
            self._later()

    @property
    def _is_shown(self) -> bool:
        preview = self._session.last_preview
        return preview is not None and bool(preview.layers) and self.preview.enabled

    def request(self, *, n: int = 1) -> AugmentRequest:
        """Return the patch, or patches, that the choices mean."""
        image, _ = self.volumes()
        network = self._session.network
        frame = PatchFrame(shape=(self.size.value,) * 3, halo=network.geometry.halo, voxel_size=image.volume.voxel_size)
        seed = self.seed.value
        centre = [(start + stop) // 2 for start, stop in shown_box(self._session.viewer, image)]
        if self._centre is None:
            self._centre = centre
        is_drawn = self.place.value == DRAWN
        corner = draw_corner(frame, image.shape, seed) if is_drawn else corner_around(self._centre, frame, image.shape)
        card = self._session.card
        normalization = Normalization(kind="background", spread=None) if card is None else card.normalization
        key, scaling = self._scaling or (None, None)
        return AugmentRequest(
            augment=self.form.spec,
            frame=frame,
            seeds=tuple(range(seed, seed + n)),
            # Of several each has a place of its own.
            corner=None if is_drawn and n > 1 else corner,
            normalization=normalization,
            scaling=scaling if key == _ScalingKey.of(image, normalization) else None,
            first=_first_box([at - start for at, start in zip(centre, corner, strict=True)], frame.shape),
        )

    def show_preview(self) -> None:
        """Show a patch in the middle of what is shown now."""
        self._centre, self._n = None, 1
        self.update_preview()

    def show_next(self) -> None:
        """Show the patch with the next seed."""
        self._n = 1
        with self.seed.changed.blocked():
            self.seed.value = int((self.seed.value + 1) % (self.seed.max + 1))
        self.update_preview()

    def show_several(self) -> None:
        """Show several patches side by side."""
        self._n = _COMPARED
        self.update_preview()

    def update_preview(self) -> None:
        """Show what the choices mean, one patch or several as before, in the layers that are there."""
        self._later.cancel()
        try:
            request, (image, labels) = self.request(n=self._n), self.volumes()
        except (Unet3dError, ValueError):
            self.update_state()
            return
        preview = self._session.preview
        preview.show(request, image, labels, Wanted(self.box.value, self.arrows.value, self.grid.value))

    def _on_preview(self) -> None:
        preview = self._session.preview
        if preview.result is not None and preview.source is not None and preview.error is None:
            key = _ScalingKey.of(preview.source, preview.result.normalization)
            self._scaling = (key, preview.result.scaling)
        self.update_state()


@dataclass(frozen=True)
class _ScalingKey:
    """What a scaling was measured on: it holds for nothing else.

    The number of the array, because comparing voxels would take longer than measuring them.
    """

    source: int
    level: int
    position: int | None
    normalization: Normalization

    @classmethod
    def of(cls, image: LayerVolume, normalization: Normalization) -> _ScalingKey:
        return cls(id(image.source), image.level, image.position, normalization)


def corner_around(centre: Sequence[int], frame: PatchFrame, volume: Shape) -> Shape:
    """Return where a patch is cut whose output lies around a voxel (z, y, x), in the volume if it fits there.

    Examples
    --------
    >>> corner_around((50, 5, 9), PatchFrame(shape=(60, 60, 60), halo=20), (100, 100, 12))
    (20, -20, -24)
    """
    corner = []
    for at, n, (start, stop) in zip(centre, volume, frame.output, strict=True):
        room = n - (stop - start)
        first = min(max(0, at - (stop - start) // 2), room) if room > 0 else room // 2
        corner.append(first - start)
    return corner[0], corner[1], corner[2]


def _first_box(centre: Sequence[int], shape: Shape) -> Box:
    """Return what is made first of a patch: around a voxel of it, so much that it is there at once."""
    box = []
    for at, n in zip(centre, shape, strict=True):
        size = min(n, _FIRST)
        start = min(max(0, at - size // 2), n - size)
        box.append((start, start + size))
    return Box(*box)
