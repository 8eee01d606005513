"""The tab Augment: what augmentation does to the chosen image and its labels, as layers, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, PushButton, SpinBox
from pydantic import ValidationError

from napari_unet3d.core.annotation.survey import draw_painted
from napari_unet3d.core.augment.choices import AugmentSpec
from napari_unet3d.core.augment.draw import PatchFrame, draw_corner
from napari_unet3d.core.augment.presets import suggested_preset
from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.errors import Unet3dError, VolumeError
from napari_unet3d.tasks.augment.patches import PATCH, AugmentRequest
from napari_unet3d.tasks.specs import why_invalid
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.bricks.offer import Offer
from napari_unet3d.widgets.layers.view import look_at, restore_view, shown_box, view_of
from napari_unet3d.widgets.layers.volumes import LayerVolume, is_illustration, labels_like
from napari_unet3d.widgets.panels.augment.form import OTHER, AugmentForm
from napari_unet3d.widgets.panels.augment.state import AugmentState, Made, resolve
from napari_unet3d.widgets.runs.preview import Wanted
from napari_unet3d.widgets.runs.session import Session
from napari_unet3d.words import times

HERE, AROUND, DRAWN = "around the view", "around annotation", "anywhere"
# The size that Train has, among those that can be chosen.
AS_TRAINED = 0
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
        self._trained: TrainSpec | None = None
        self._is_following = False
        self._view: Any = None
        self._is_looked_at = True
        self.state = AugmentState()
        self._build()
        super().__init__(
            widgets=[
                self.image,
                self.labels_layer,
                panel.row(self.size, self.place, label="Patch"),
                self.form.preset,
                self._buttons,
                self.remove_all,
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
        self.size = Offer([], tooltip="Size of the patch that goes into the network, in voxels per axis.")
        self._offer_sizes(_USUAL)
        self.place = ComboBox(
            choices=[HERE, AROUND, DRAWN],
            value=HERE,
            tooltip="Where the patch is cut: in the middle of the view, around something painted as in training, or "
            "anywhere.",
        )
        self.form = AugmentForm(self._on_form)
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
        self.remove_all = PushButton(
            text="Remove preview",
            tooltip="Take the layers of the preview away, and look at where you were.",
            visible=False,
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
        self.remove_all.changed.connect(lambda: self.remove_preview())
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

    def follow_training(self, spec: TrainSpec | None) -> None:
        """Show what Train would do: its patch, its changes unless they were set here, and where it cuts.

        Parameters
        ----------
        spec
            What Start in Train would do; None where it could not start.
        """
        if spec is None or spec == self._trained:
            return
        is_first, self._trained = self._trained is None, spec
        self._is_following = True
        try:
            self._offer_sizes(AS_TRAINED if is_first else self.size.value)
            if is_first:
                self.place.value = AROUND
            if self._session.augment is None:
                self.form.spec = spec.augment
        finally:
            self._is_following = False

    def _sizes(self) -> list[int]:
        cubes = self._session.network.geometry.valid_cubes(_LARGEST)
        return cubes if self._trained is None else [AS_TRAINED, *cubes]

    def _offer_sizes(self, wanted: int) -> None:
        sizes = self._sizes()
        texts = {} if self._trained is None else {AS_TRAINED: f"Train: {times(self._trained.patch)}"}
        with self.size.changed.blocked():
            self.size.offer(sizes, texts=texts)
            self.size.value = wanted if wanted in sizes else sizes[0]

    @property
    def _patch(self) -> tuple[Shape, Shape]:
        """Return the shape of a patch, and what the network consumes of it on each side."""
        if self.size.value == AS_TRAINED and self._trained is not None:
            return self._trained.patch, self._trained.network.geometry.halo
        n = int(self.size.value)
        return (n, n, n), self._session.network.geometry.halo

    def _on_image(self) -> None:
        self.image.show_layer(self._session.image)
        self._centre = None
        with suppress(Unet3dError):
            volume = self._session.volume(channels=1).volume
            self.form.show_voxel_size(min(volume.voxel_size), volume.unit)
            if self._trained is None and self._session.augment is None:
                self._suggest(suggested_preset(volume.voxel_size))
        self.update_state()

    def _suggest(self, preset: str) -> None:
        self._is_following = True
        try:
            self.form.suggest(preset)
        finally:
            self._is_following = False

    def _on_labels(self) -> None:
        self.labels_layer.show_layer(self._session.labels)
        self.update_state()

    def _on_model(self) -> None:
        self._offer_sizes(self.size.value)

    def volumes(self) -> tuple[LayerVolume, LayerVolume | None]:
        """Return the chosen image and labels.

        Raises
        ------
        VolumeError
            If they are no volumes, or do not cover the same box.
        """
        layer = self.labels_layer.value
        image = self._session.volume(channels=1, beside=layer)
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
        is_preset = self.form.preset.value != OTHER
        self.state = resolve(self._problem_now(), None if preview is None else Made.of(preview), is_preset=is_preset)
        self.remove_all.visible = preview is not None and bool(preview.layers)
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

    def _on_form(self) -> None:
        """Take what was set here, which is what Train takes."""
        with suppress(ValidationError):  # which is said
            if not self._is_following and self.form.spec != self._taken:
                self._session.augment = self.form.spec
        self._changed()

    def _changed(self, *_: Any) -> None:
        self.update_state()
        if self._is_shown:
            self._later()

    @property
    def _taken(self) -> AugmentSpec | None:
        """Return the changes that Train makes now, as far as it is known."""
        if self._session.augment is not None:
            return self._session.augment
        return None if self._trained is None else self._trained.augment

    @property
    def _is_shown(self) -> bool:
        preview = self._session.last_preview
        return preview is not None and bool(preview.layers) and self.preview.enabled

    def request(self, *, n: int = 1) -> AugmentRequest:
        """Return the patch, or patches, that the choices mean."""
        image, _ = self.volumes()
        shape, halo = self._patch
        frame = PatchFrame(shape=shape, halo=halo, voxel_size=image.volume.voxel_size)
        seed = self.seed.value
        centre = [(start + stop) // 2 for start, stop in shown_box(self._session.viewer, image)]
        if self._centre is None:
            self._centre = centre
        is_drawn = self.place.value == DRAWN
        around = self._painted_voxel(seed) if self.place.value == AROUND else None
        around = around or self._centre
        corner = draw_corner(frame, image.shape, seed) if is_drawn else corner_around(around, frame, image.shape)
        if around is not self._centre:
            centre = list(around)
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

    def _painted_voxel(self, seed: int) -> Sequence[int] | None:
        """Return a painted voxel (z, y, x) for a seed, or None where nothing is known to be painted."""
        layer = self.labels_layer.value
        labels = self.volumes()[1]
        if layer is None or labels is None or labels.on_disk is not None:
            return None
        known = self._session.annotation.of(layer)
        return draw_painted(labels.volume.data, known.survey, known.meanings, seed)

    def remove_preview(self) -> None:
        """Take the layers away, and look at where the person was before the patches were compared."""
        preview, viewer = self._session.last_preview, self._session.viewer
        if preview is None:
            return
        preview.cancel()
        for layer in preview.layers.values():
            viewer.layers.remove(layer)
        self._look_back()
        self.update_state()

    def _look_back(self) -> None:
        if self._view is not None:
            restore_view(self._session.viewer, self._view)
            self._view = None

    def show_preview(self) -> None:
        """Show a patch in the middle of what is shown now."""
        self._look_back()
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
        self._view = self._view or view_of(self._session.viewer)
        self._is_looked_at = False
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
            if self._n > 1 and not self._is_looked_at and preview.state == "done" and PATCH in preview.layers:
                self._is_looked_at = True
                look_at(self._session.viewer, preview.layers[PATCH])
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
