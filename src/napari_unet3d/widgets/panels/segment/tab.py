"""The tab Segment: one image, one model, and a layer that fills."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from magicgui.widgets import Container, ProgressBar, PushButton

from napari_unet3d.core.tiles.plan import TilePlan
from napari_unet3d.errors import Unet3dError, shown
from napari_unet3d.network.machine.devices import Device, free_memory
from napari_unet3d.network.model import check_channels
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.host.files import ask_save_path, confirm, confirm_replacing
from napari_unet3d.widgets.host.keys import CORRECT, START
from napari_unet3d.widgets.host.notices import notify, notify_error, tell
from napari_unet3d.widgets.layers.view import shown_box
from napari_unet3d.widgets.layers.volumes import (
    LayerVolume,
    is_illustration,
    layer_volume,
)
from napari_unet3d.widgets.panels.segment.form import SegmentForm
from napari_unet3d.widgets.panels.segment.going_on import GoingOn
from napari_unet3d.widgets.panels.segment.model_choice import ModelChoice
from napari_unet3d.widgets.panels.segment.objects import ObjectsPart
from napari_unet3d.widgets.panels.segment.state import (
    Machine,
    Planned,
    RunFacts,
    SegmentState,
    resolve,
    resolve_plan,
)
from napari_unet3d.widgets.runs.annotating import correct_annotation
from napari_unet3d.widgets.runs.job_saving import ask_where, save_segment_job
from napari_unet3d.widgets.runs.results import (
    Choices,
    beside_bytes,
    check_cluster,
    check_path,
    check_room,
    find_begun,
    propose_path,
)
from napari_unet3d.widgets.runs.segmentation import Segmentation
from napari_unet3d.widgets.runs.session import Session

_REPLAN_MS = 150
_PREVIEW_MS = 60
_STOP_NOW_AFTER = 1.0
# Seconds: a person who waits longer for the first tile thinks that nothing happens.
_FIRST_RESULT = 10.0
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
    state
        What is shown.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._planned, self.state = Planned(), SegmentState()
        self._followed: Segmentation | None = None
        self._notified: Segmentation | None = None
        self._saved_run: Segmentation | None = None
        self._cancelled_at = 0.0
        self._begins_when_asked = False
        self._build()
        super().__init__(
            widgets=[self.image, self._image_facts, self.unfinished, self.model, self.form, self._below],
            layout="vertical",
            labels=True,
        )
        self.margins = (6, 6, 6, 6)
        self.native.layout().addStretch()
        self._later = panel.Later(self.update_plan, _REPLAN_MS, self.native)
        self._preview_later = panel.Later(self._preview, _PREVIEW_MS, self.native)
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
            tooltip="The image layer to segment. It may come from any plugin.",
        )
        self._image_facts = panel.text(tone="quiet")
        self.model = ModelChoice(session)
        self.form = SegmentForm(session, self._replan)
        self.unfinished = GoingOn(session, self.form, self._begin_what_is_set)
        self._warning = panel.text(tone="warning")
        self._plan_text = panel.text(tooltip="What Start will do. All tiles together give the bytes of a single pass.")
        self.start = panel.main_button("Start", START.hint("Segment into a new layer, the tiles in view first."))
        self.cancel = PushButton(text="Cancel", tooltip="Stop after the present tile and keep what is done.")
        self.anew = PushButton(text="Start again", tooltip="Start from the beginning in a new layer.", visible=False)
        self.progress = ProgressBar(min=0, max=1000, value=0, visible=False)
        self._state = panel.text()
        self.save = PushButton(
            text="Save result...",
            tooltip="Save the result as OME-TIFF or OME-Zarr, with its voxel size.",
            visible=False,
        )
        self.correct = PushButton(
            text="Correct here",
            tooltip=CORRECT.hint(
                "Copy the result in the middle of the view into the annotation, where nothing is painted yet. "
                "Paint over what is wrong, and train on."
            ),
            visible=False,
        )
        self._saved = panel.text()
        self.objects = ObjectsPart(session)
        self._below = panel.column(
            self._warning,
            self._plan_text,
            panel.row(self.start, self.anew, self.cancel),
            self.progress,
            self._state,
            panel.row(self.save, self.correct),
            self._saved,
            self.objects,
            labels=False,
        )

    def _connect(self) -> None:
        session = self._session
        self.image.changed.connect(lambda layer: setattr(session, "image", layer))
        self.start.changed.connect(lambda: self._start())
        self.anew.changed.connect(lambda: self._start(anew=True))
        self.cancel.changed.connect(lambda: self._cancel())
        self.form.save_job.changed.connect(lambda: self._on_save_job())
        self.save.changed.connect(lambda: self._on_save())
        self.correct.changed.connect(lambda: self.correct_here())
        self.form.emphasis.changed.connect(lambda _: self._preview_later())
        dims = session.viewer.dims.events
        for signal, slot in (
            (session.image_changed, self._on_image),
            (session.model_changed, self._on_model),
            (session.devices_changed, self._on_devices),
            (session.failed, self._on_failure),
            (session.saving.changed, self._on_saving),
            (session.segmentation_changed, self._follow_segmentation),
            (session.unfinished_changed, self._show_unfinished),
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
        self._on_saving()

    def _replan(self) -> None:
        # What was to begin is not what is set any more.
        self._begins_when_asked = False
        self._later()

    def choices(self) -> Choices:
        """Return all that Start needs besides the image, with the memory that the plan was made for.

        Raises
        ------
        Unet3dError
            If something is missing; the message says what.
        """
        model, card = self.model.require()
        # What a cluster has is not known here.
        spec = self.form.spec if self.form.cluster else self._for_this_machine(self.form.spec)
        return Choices(
            model,
            card,
            spec,
            self.form.shown_class,
            self.form.place.value,
            self.form.is_view,
            self._session.weights_sha256,
            self.form.cluster,
        )

    def _for_this_machine(self, spec: PredictSpec) -> PredictSpec:
        device = self._session.device(spec.device)
        if spec.memory_bytes is None:
            spec = spec.model_copy(update={"memory_bytes": self._session.preferences.memory_bytes})
        if spec.memory_bytes is None and device is not None and (memory := self._session.memory(device)) is not None:
            # What is shown is what runs, although the memory may have changed by then.
            spec = spec.model_copy(update={"memory_bytes": max(1, memory.usable)})
        if spec.first_result is None:
            spec = spec.model_copy(update={"first_result": _FIRST_RESULT})
        return spec

    @property
    def plan(self) -> TilePlan | None:
        """Return what Start would do, or None where it could not start."""
        return self.state.plan

    def update_plan(self) -> None:
        """Plan again what Start would do, and show it or why it could not."""
        session = self._session
        try:
            volume, choices = session.volume(), self.choices()
            if self.form.place.propose(propose_path(volume, choices)):
                choices = self.choices()
            begun = find_begun(volume, choices)
            said = " ".join(filter(None, [check_path(volume, choices), begun.sentence]))
            check_cluster(volume, choices)
            planned = resolve_plan(volume.volume, choices, self._machine(volume, choices), session.problem, said)
            self._planned = replace(planned, begun=begun.share if begun.can_go_on else 0.0)
        except Unet3dError as error:
            self._planned = Planned(sentence=session.problem or str(error))
        if self._planned.is_asking:
            session.warm()
        self.update_state()

    def _machine(self, volume: LayerVolume, choices: Choices) -> Machine:
        device = self._session.device(choices.spec.device, choices.spec.precision)
        beside = 0 if device is None else beside_bytes(volume, choices, device)
        return Machine(device, self._session.devices, free_memory(_HOST), beside)

    def update_state(self, *_: Any) -> None:
        """Derive what is shown from what Start would do and how far the run is."""
        run, facts = self._session.segmentation, None
        if run is not None:
            is_same = run.state in ("stopped", "failed") and self._is_same(run)
            is_just_cancelled = time.monotonic() - self._cancelled_at < _STOP_NOW_AFTER
            facts = RunFacts.of(run, is_same=is_same, is_just_cancelled=is_just_cancelled)
        self.state = resolve(self._planned, facts, self._session.problem)
        self._show(self.state)

    def _show(self, state: SegmentState) -> None:
        panel.say(self._plan_text, state.planned.sentence)
        panel.say(self._warning, state.planned.warning)
        self.start.text, self.start.enabled = state.start, state.can_start
        self.anew.visible, self.anew.enabled = state.has_anew, state.can_begin_anew
        self.cancel.text, self.cancel.enabled = state.cancel, state.can_cancel
        self.progress.visible = state.is_active
        self.progress.value = round(self.progress.max * state.fraction)
        panel.say(self._state, state.progress)
        self.save.visible, self.correct.visible = state.can_save, state.can_correct
        # What comes next after a result is to keep it.
        is_save_next = state.is_save_next and self._session.segmentation is not self._saved_run
        panel.highlight(self.save, is_save_next)
        panel.highlight(self.start, not is_save_next)
        self.save.enabled = not self._session.saving.is_active
        self.objects.show_run(self._session.segmentation)

    def _preview(self) -> None:
        """Show what the slider does around what is looked at; while a run goes on, there is none."""
        session = self._session
        if session.is_busy:
            return
        try:
            volume, choices = session.volume(), self.choices()
            check_channels(choices.card.network, volume.volume.n_channels)
        except Unet3dError:
            return
        run = session.segmentation
        result = run.layer if run is not None and run.is_of(volume) and run.layer in session.viewer.layers else None
        at = [(start + stop) // 2 for start, stop in shown_box(session.viewer, volume)]
        session.emphasis.show(volume, choices, at, result)

    def _end_preview(self) -> None:
        if (shown := self._session.last_emphasis) is not None:
            shown.remove()

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
                # Somebody may have written there since it was stopped.
                if choices.path is not None and not confirm_replacing(self.native, choices.path):
                    return
                run.start(shown_box(session.viewer, volume), memory_bytes=choices.spec.memory_bytes)
                return
            check_channels(choices.card.network, volume.volume.n_channels)
            check_room(choices, volume.shape, free_memory(_HOST))
            self._end_preview()
            check_path(volume, choices)
            check_cluster(volume, choices)
            if choices.path is not None and not confirm_replacing(self.native, choices.path):
                return
            begun = find_begun(volume, choices)
            goes_on = begun.can_go_on and not anew
            if begun.share and not goes_on and not self._may_begin_again(choices.path, begun.share):
                return
            notes_in = session.preferences.unfinished_folder
            run = Segmentation(session.viewer, session.engine, volume, choices, goes_on=goes_on, notes_in=notes_in)
        except Unet3dError as error:
            notify_error(error)
            return
        # Only now nobody says no any more.
        session.release(choices.path)
        session.begin(run)
        run.start(shown_box(session.viewer, volume))

    def _show_unfinished(self) -> None:
        self.unfinished.show_unfinished()

    def _begin_what_is_set(self) -> None:
        self.update_plan()
        # The worker may have to be asked first which devices there are.
        self._begins_when_asked = self._planned.is_asking
        if self.state.can_start:
            self._start()

    def _may_begin_again(self, path: Path | None, share: float) -> bool:
        name = shown(path.name) if path else ""
        question = f"A run into {name} was stopped when {share:.0%} was done. Throw that away and begin again?"
        return confirm(self.native, question, "With the choices that it had, Start goes on with it.", "Begin again")

    def correct_here(self) -> None:
        """Copy the result in the middle of the view into the annotation, to be corrected there."""
        run = self._session.segmentation
        if run is not None:
            correct_annotation(self._session, run.layer, run.choices.card.class_names)

    def _on_save(self) -> None:
        run = self._session.segmentation
        if run is None:
            return
        path = ask_save_path(self.native, "Save the result", run.layer.name)
        if path is None or not confirm_replacing(self.native, path):
            return
        try:
            self._session.saving.save(layer_volume(run.layer), path)
        except Unet3dError as error:
            notify_error(error)

    def _on_saving(self) -> None:
        run, saving = self._session.segmentation, self._session.saving
        told = saving.told(None if run is None else run.layer)
        if told.sentence and not saving.is_active and told.error is None:
            self._saved_run = run
        panel.say(self._saved, told.sentence, tone="plain" if told.error is None else "warning")
        self.update_state()

    def _on_save_job(self) -> None:
        chosen = self.image.value
        if path := ask_where(self.native, "segment" if chosen is None else f"segment {chosen.name}"):
            self.save_job(path)

    def save_job(self, path: Path) -> None:
        """Write what Start would do to a file that is computed later."""
        try:
            volume, choices = self._session.volume(), self.choices()
            check_channels(choices.card.network, volume.volume.n_channels)
            tell(save_segment_job(path, volume, choices, self.form.spec))
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
            panel.listen(self, run.told, self._on_told)
        self.update_state()

    def _on_failure(self, error: Unet3dError) -> None:
        notify_error(error)

    def _on_told(self, sentence: str) -> None:
        tell(sentence)

    def _on_note(self, sentence: str) -> None:
        notify(sentence)

    def _on_run(self) -> None:
        self.update_state()
        run = self._session.segmentation
        if run is None or run.is_active:
            self._notified = None
        elif run is not self._notified:
            self._notified = run
            self._session.look_for_unfinished()
            self._session.forget_memory()
            self._later()
            if run.error is not None:
                notify_error(run.error)

    def _on_image(self) -> None:
        self.image.show_layer(self._session.image)
        self._show_unfinished()
        self._end_preview()
        self.form.update_volume()
        panel.say(self._image_facts, self._session.image_line)
        self._later()

    def _on_model(self) -> None:
        self._end_preview()
        self.form.update_classes()
        self._later()

    def _on_devices(self) -> None:
        self.form.update_devices()
        if self._begins_when_asked:
            self._begin_what_is_set()
        else:
            self._later()

    def _on_view(self, *_: Any) -> None:
        shown = self._session.last_emphasis
        if shown is not None and shown.layer is not None:
            self._preview_later()
        self.form.follow_view()
        if self.form.is_view or (self._session.image is not None and self._session.image.ndim > 3):
            self._later()
