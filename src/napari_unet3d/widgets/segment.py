"""The tab Segment: one image, one model, and a layer that fills."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from magicgui.widgets import Container, ProgressBar, PushButton

from napari_unet3d.core.tiling import TilePlan, plan_tiles
from napari_unet3d.errors import Unet3dError
from napari_unet3d.network.devices import Device, free_memory
from napari_unet3d.network.model import check_channels
from napari_unet3d.tasks.shares import share_memory
from napari_unet3d.widgets import panel
from napari_unet3d.widgets.job_saving import ask_where, save_segment_job
from napari_unet3d.widgets.layers import LayerVolume, is_illustration
from napari_unet3d.widgets.model_choice import ModelChoice
from napari_unet3d.widgets.notices import notify, notify_error, tell
from napari_unet3d.widgets.plan_text import describe_plan, describe_progress, voxel_size_warning
from napari_unet3d.widgets.results import Choices, check_room
from napari_unet3d.widgets.segment_form import SegmentForm
from napari_unet3d.widgets.segmentation import Segmentation
from napari_unet3d.widgets.session import Session
from napari_unet3d.widgets.view import shown_box

_REPLAN_MS = 150
_STOP_NOW_AFTER = 1.0
_HOST = Device("cpu", "this machine")


class SegmentPanel(Container):
    """Segment one image layer with one model.

    Parameters
    ----------
    session
        What the panels of this window share.

    Attributes
    ----------
    form
        The choices for the run.
    plan
        What Start would do, or None where it could not start.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.plan: TilePlan | None = None
        self._followed: Segmentation | None = None
        self._notified: Segmentation | None = None
        self._cancelled_at = 0.0
        self._build()
        super().__init__(
            widgets=[self.image, self._image_facts, self.model, self.form, self._below], layout="vertical", labels=True
        )
        self.margins = (6, 6, 6, 6)
        self.native.layout().addStretch()
        self._later = panel.Later(self.update_plan, _REPLAN_MS, self.native)
        self._enable_later = panel.Later(self.update_state, int(1000 * _STOP_NOW_AFTER) + 50, self.native)
        self._connect()
        self._follow_segmentation()
        self.update_plan()

    def _build(self) -> None:
        session = self._session
        self.image = panel.LayerChoice(
            session.viewer,
            lambda layer: layer._type_string == "image" and not is_illustration(layer),
            label="Image",
            tooltip="The image layer that is segmented. Any plugin may have opened it.",
        )
        self._image_facts = panel.text(tone="quiet")
        self.model = ModelChoice(session)
        self.form = SegmentForm(session, self._replan)
        self._warning = panel.text(tone="warning")
        self._plan_text = panel.text(tooltip="What Start will do. All tiles together give the bytes of a single pass.")
        self.start = panel.main_button("Start", "Segment: a new layer appears and fills, the tiles in view first.")
        self.cancel = PushButton(text="Cancel", tooltip="Stop after the present tile. What is done is kept.")
        self.anew = PushButton(text="Start anew", tooltip="Begin again in a new layer.", visible=False)
        self.progress = ProgressBar(min=0, max=1, value=0, visible=False)
        self._state = panel.text()
        self._below = panel.column(
            self._warning,
            self._plan_text,
            panel.row(self.start, self.anew, self.cancel),
            self.progress,
            self._state,
            labels=False,
        )

    def _connect(self) -> None:
        session = self._session
        self.image.changed.connect(lambda layer: setattr(session, "image", layer))
        self.start.changed.connect(lambda: self._start())
        self.anew.changed.connect(lambda: self._start(anew=True))
        self.cancel.changed.connect(lambda: self._cancel())
        self.form.save_job.changed.connect(lambda: self._on_save_job())
        dims = session.viewer.dims.events
        for signal, slot in (
            (session.image_changed, self._on_image),
            (session.model_changed, self._on_model),
            (session.devices_changed, self._on_devices),
            (session.failed, self._on_failure),
            (session.segmentation_changed, self._follow_segmentation),
            (dims.current_step, self._on_view),
            (dims.ndisplay, self._on_view),
            (session.viewer.scene.camera.events, self._on_view),
        ):
            panel.listen(self, signal, slot)
        if session.image is None:
            session.image = self.image.value
        self._on_image()
        self._on_model()
        self._on_devices()

    def _replan(self) -> None:
        self._later()

    def choices(self) -> Choices:
        """Return all that Start needs besides the image, with the memory that the plan was made for.

        Raises
        ------
        Unet3dError
            If something is missing; the message says what.
        """
        model, card = self.model.require()
        spec = self.form.spec
        device = self._session.device(spec.device)
        if spec.memory_bytes is None and device is not None and (memory := self._session.memory(device)) is not None:
            # What is shown is what runs, although the memory may have changed by then.
            spec = spec.model_copy(update={"memory_bytes": max(1, memory.usable)})
        return Choices(
            model,
            card,
            spec,
            self.form.shown_class,
            self.form.result_path,
            self.form.is_view,
            self._session.weights_sha256,
        )

    def update_plan(self) -> None:
        """Plan anew what Start would do, and show it or why it could not."""
        session = self._session
        self.plan, warning, sentence = None, "", ""
        try:
            volume = session.volume()
            choices = self.choices()
            self._check(volume, choices)
            device = session.device(choices.spec.device)
            if device is None:
                session.warm()
                sentence = "The worker is being asked which devices there are."
            else:
                # What lies on disk is read by the worker, which then shares the memory of the run.
                is_read_there = volume.on_disk is not None and not device.is_gpu
                memory = choices.spec.memory_bytes
                self.plan = plan_tiles(
                    volume.shape,
                    choices.card.network,
                    memory=memory,
                    region=choices.spec.region,
                    bytes_per_value=device.bytes_per_value,
                    reading_bytes=share_memory(volume.volume.data, None, memory) if is_read_there and memory else 0,
                )
                sentence = describe_plan(self.plan, device)
            warning = voxel_size_warning(volume.volume, choices.card)
        except Unet3dError as error:
            sentence = str(error)
        panel.say(self._plan_text, session.problem or sentence)
        panel.say(self._warning, warning)
        self.update_state()

    def _check(self, volume: LayerVolume, choices: Choices) -> None:
        check_channels(choices.card.network, volume.volume.n_channels)
        check_room(choices, volume.shape, free_memory(_HOST))

    def update_state(self, *_: Any) -> None:
        """Derive from the session alone what can be pressed and what is said."""
        run = self._session.segmentation
        active = run is not None and run.is_active
        can_go_on = run is not None and run.state in ("stopped", "failed") and self._is_same(run)
        ready = self.plan is not None and not self._session.problem
        self.start.text = f"Go on ({run.share:.0%} done)" if can_go_on and run is not None else "Start"
        self.start.enabled = not active and (ready or can_go_on)
        self.anew.visible = can_go_on and not active
        self.anew.enabled = ready
        is_stopping = run is not None and run.state == "stopping"
        # A double click on Cancel shall not be a Stop now.
        self.cancel.enabled = active and not (is_stopping and time.monotonic() - self._cancelled_at < _STOP_NOW_AFTER)
        self.cancel.text = "Stop now" if is_stopping else "Cancel"
        self.progress.visible = active
        if run is not None:
            self.progress.max = max(1, run.n_tiles)
            self.progress.value = min(run.n_done, self.progress.max)
        panel.say(self._state, "" if run is None else describe_progress(run))

    def _is_same(self, run: Segmentation) -> bool:
        """Return whether Start would do what a stopped run had begun."""
        if run.layer not in self._session.viewer.layers:
            return False
        try:
            return run.is_of(self._session.volume()) and self.choices().goes_on_with(run.choices)
        except Unet3dError:
            return False

    def _start(self, *, anew: bool = False) -> None:
        session = self._session
        run = session.segmentation
        try:
            volume, choices = session.volume(), self.choices()
            if run is not None and not anew and run.state in ("stopped", "failed") and self._is_same(run):
                run.start(shown_box(session.viewer, volume), memory_bytes=choices.spec.memory_bytes)
                return
            self._check(volume, choices)
            session.release(choices.path)
            run = Segmentation(session.viewer, session.engine, volume, choices)
        except Unet3dError as error:
            notify_error(error)
            return
        session.begin(run)
        run.start(shown_box(session.viewer, volume))

    def _on_save_job(self) -> None:
        chosen = self.image.value
        if path := ask_where(self.native, "segment" if chosen is None else f"segment {chosen.name}"):
            self.save_job(path)

    def save_job(self, path: Path) -> None:
        """Write what Start would do to a file for `napari-unet3d run`."""
        try:
            volume, choices = self._session.volume(), self.choices()
            check_channels(choices.card.network, volume.volume.n_channels)
            tell(save_segment_job(path, volume, choices, self.form.portable_spec))
        except Unet3dError as error:
            notify_error(error)

    def _cancel(self) -> None:
        run = self._session.segmentation
        if run is None:
            return
        if run.state == "stopping":
            run.stop_now()
        else:
            self._cancelled_at = time.monotonic()
            run.cancel()
            self._enable_later()

    def _follow_segmentation(self) -> None:
        run = self._session.segmentation
        if run is not None and run is not self._followed:
            self._followed = run
            panel.listen(self, run.changed, self._on_run)
            panel.listen(self, run.noted, self._on_note)
        self.update_state()

    def _on_failure(self, error: Unet3dError) -> None:
        notify_error(error)

    def _on_note(self, sentence: str) -> None:
        notify(sentence)

    def _on_run(self) -> None:
        self.update_state()
        run = self._session.segmentation
        if run is None or run.is_active:
            self._notified = None
        elif run is not self._notified:
            self._notified = run
            self._session.forget_memory()
            self._later()
            if run.error is not None:
                notify_error(run.error)

    def _on_image(self) -> None:
        self.image.show(self._session.image)
        self.form.update_levels()
        panel.say(self._image_facts, self._session.image_line)
        self._later()

    def _on_model(self) -> None:
        self.form.update_classes()
        self._later()

    def _on_devices(self) -> None:
        self.form.update_devices()
        self._later()

    def _on_view(self, *_: Any) -> None:
        if self.form.is_view or (self._session.image is not None and self._session.image.ndim > 3):
            self._later()
