"""The tab Train: what is painted becomes a model, while its curves run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container, ProgressBar, PushButton

from napari_unet3d.core.annotation.validation import KEPT
from napari_unet3d.errors import SpecError, Unet3dError
from napari_unet3d.tasks.speeds import known_training_speed
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.widgets.bricks import panel
from napari_unet3d.widgets.bricks.class_table import ClassTable
from napari_unet3d.widgets.host.keys import CORRECT, START
from napari_unet3d.widgets.host.notices import notify, notify_error, tell
from napari_unet3d.widgets.layers.volumes import labels_like, n_channels
from napari_unet3d.widgets.panels.train.earlier import EarlierRuns
from napari_unet3d.widgets.panels.train.form import TrainForm
from napari_unet3d.widgets.panels.train.state import (
    MORE_STEPS,
    Planned,
    RunFacts,
    TrainState,
    resolve,
    resolve_spec,
)
from napari_unet3d.widgets.runs.annotating import correct_annotation
from napari_unet3d.widgets.runs.corrections import choose_corrections, outline_held_out
from napari_unet3d.widgets.runs.job_saving import ask_where, save_train_job
from napari_unet3d.widgets.runs.pairs import Pair, painted_of, voxels_painted
from napari_unet3d.widgets.runs.session import Session
from napari_unet3d.widgets.runs.training import Training, new_run_folder

if TYPE_CHECKING:
    from napari_unet3d.widgets.bricks.loss_plot import LossPlot

_LOOK_MS, _DRAW_MS = 400, 150
_SHOWN = "the one that is shown"


class TrainPanel(Container):
    """Train a network on painted labels.

    Parameters
    ----------
    session
        What the panels of this window share.
    show_segment
        Brings the tab Segment to the front.

    Attributes
    ----------
    form
        The choices.
    state
        What is shown.
    """

    def __init__(self, session: Session, show_segment: Callable[[], None]) -> None:
        self._session, self._show_segment = session, show_segment
        self._planned, self.state = Planned(), TrainState()
        self._followed: Training | None = None
        self._notified: Training | None = None
        self._drawn = -1
        self._build()
        super().__init__(
            widgets=[self._pairs_row, self._pairs_text, self._channels_row, self.lay, self.form.main, self._below],
            layout="vertical",
            labels=True,
        )
        self.margins = (6, 6, 6, 6)
        # Drawn by a library that takes a moment to import, and only once there is something to draw.
        self.plot: LossPlot | None = None
        panel.add(self, self._after.native)
        panel.add(self, self.form.more.native)
        panel.add(self, self.form.also.native)
        self.native.layout().addStretch()
        self._later = panel.Later(self.look, _LOOK_MS, self.native)
        self._draw_later = panel.Later(self._draw_news, _DRAW_MS, self.native)
        self.earlier = EarlierRuns(session, self.form, self.pairs, self.native)
        self._connect()
        self.update_state()

    def _build(self) -> None:
        self.add_pair = PushButton(text="Add", tooltip="Add the image and the labels chosen in Data to the list.")
        self.remove_pair = PushButton(text="Remove", tooltip="Remove the last pair from the list.")
        self._pairs_row = panel.row(self.add_pair, self.remove_pair, label="Pairs")
        self.channels = ComboBox(
            choices=[_SHOWN],
            value=_SHOWN,
            tooltip="Learn from the channel that is shown, or from all of them at once. A model takes its own number.",
        )
        self._channels_row = panel.row(self.channels, label="Channels")
        self._channels_row.visible = False
        self.lay = PushButton(
            text="Lay labels on image",
            visible=False,
            tooltip="Give the labels the voxel size, unit and position of the image, which has the same shape.",
        )
        self._pairs_text = panel.text(
            tone="quiet", tooltip="The network learns from these painted voxels, and from nothing else."
        )
        self.form = TrainForm(self._changed, lambda: self._session.augment)
        self._plan = panel.text()
        self._doubts = panel.text(tone="warning")
        self.start = panel.main_button("Start", START.hint("Start training. You can use napari meanwhile."))
        self.stop = PushButton(text="Stop", tooltip="Stop after the present step and keep everything that was learnt.")
        self.train_on = PushButton(
            text="Train on", tooltip="Start a new run from this model, with all that is painted now."
        )
        self.progress = ProgressBar(min=0, max=1, value=0, visible=False)
        self._state = panel.text()
        self._held_out_text = panel.text(tone="quiet")
        self._table = ClassTable()
        self.live = CheckBox(
            value=True,
            text="live preview at the cursor",
            tooltip="Every few seconds, segment the part in view with what was learnt so far.",
        )
        self.held_out = PushButton(text="Show held out", tooltip="Outline the annotation that is kept for scores.")
        self.segment = PushButton(text="Segment with this", tooltip="Choose the best model of this run in Segment.")
        self.correct = PushButton(
            text="Correct here",
            tooltip=CORRECT.hint("Copy what is found in the middle of the view, where nothing is painted yet."),
        )
        self._below = panel.column(
            self._plan,
            self._doubts,
            panel.row(self.start, self.stop),
            self.train_on,
            self.progress,
            self._state,
            self._held_out_text,
            labels=False,
        )
        # What is painted and how well it is found; the counts are seen before Start, the scores after.
        panel.add(self._below, self._table)
        self._after = panel.column(self.live, panel.row(self.held_out, self.correct, self.segment), labels=False)

    def _connect(self) -> None:
        session = self._session
        for button, call in (
            (self.add_pair, self._on_add),
            (self.remove_pair, self._on_remove),
            (self.lay, self._on_lay),
            (self.start, self._on_start),
            (self.stop, self._on_stop),
            (self.train_on, self.begin_corrected),
            (self.held_out, self.show_held_out),
            (self.segment, self._on_segment),
            (self.correct, self.correct_here),
            (self.form.save_job, self._on_save_job),
            (self.form.open_run, self.earlier.ask),
        ):
            button.changed.connect(lambda *_, call=call: call())
        self.live.changed.connect(self._on_live)
        for signal in (
            session.image_changed,
            session.labels_changed,
            session.model_changed,
            session.devices_changed,
        ):
            panel.listen(self, signal, self._changed)
        panel.listen(self, session.image_changed, self._offer_channels)
        self.channels.changed.connect(self._changed)
        self._offer_channels()
        panel.listen(self, session.annotation.changed, self._changed)
        panel.listen(self, session.training_changed, self._follow)
        panel.listen(self, session.augment_changed, self.form.take_augment)
        self._follow()
        self._later()

    def pairs(self) -> list[Pair]:
        """Return what is learnt from: the list, or what is chosen in Data.

        Raises
        ------
        Unet3dError
            If something is missing; the message says what.
        """
        session = self._session
        listed = [pair for pair in session.training_pairs if pair.labels in session.viewer.layers]
        known = [session.annotation.of(pair.labels).meanings for pair in listed]
        # What they mean may have been changed since.
        told = [replace(pair, meanings=meant or pair.meanings) for pair, meant in zip(listed, known, strict=True)]
        return told or [self._chosen()]

    def _chosen(self) -> Pair:
        session = self._session
        labels, meanings = session.labels, session.annotation.of(session.labels).meanings
        if labels is None or labels not in session.viewer.layers:
            raise SpecError("Choose the labels in Data, or make a new annotation there and paint a few slices.")
        if meanings is None:
            raise SpecError("Say in the tab Data what the labels mean.")
        card = session.card if self._takes_model() else None
        n = self._n_channels() if card is None else card.network.channels
        return Pair(session.volume(channels=n, beside=labels), labels, meanings)

    def _n_channels(self) -> int:
        image = self._session.image
        return 1 if image is None or self.channels.value == _SHOWN else n_channels(image)

    def _offer_channels(self) -> None:
        """Offer all channels of an image that has several."""
        image = self._session.image
        n = 1 if image is None else n_channels(image)
        choices = [_SHOWN] if n == 1 else [_SHOWN, f"all {n}"]
        if list(self.channels.choices) != choices:
            with self.channels.changed.blocked():
                self.channels.choices = choices
        self._channels_row.visible = n > 1

    def _takes_model(self) -> bool:
        return not self.form.is_new and self._session.card is not None

    @property
    def spec(self) -> TrainSpec | None:
        """Return what Start would do, or None where it could not start."""
        return self.state.spec

    def look(self) -> None:
        """Derive what Start would do from what is known of the annotation, and show it."""
        is_active = self._session.training is not None and self._session.training.is_active
        try:
            pairs = self.pairs()
            if is_active:
                # What Start would do does not matter now; what was painted meanwhile does.
                voxels = voxels_painted(pairs, self._session.annotation)
                self._planned = replace(self._planned, voxels=voxels)
                self.update_state()
                return
        except Unet3dError as error:
            if is_active:
                return
            self._planned = Planned(sentence=str(error))
        else:
            self._planned = self._plan_of(pairs)
        self.update_state()

    def _plan_of(self, pairs: Sequence[Pair]) -> Planned:
        session = self._session
        card = session.card if self._takes_model() else None
        spec: TrainSpec | None = None
        doubts: tuple[str, ...] = ()
        try:
            if not self.form.is_new and card is None:
                raise SpecError("Choose a model to start from in Segment, or start from a new network.")
            painted = painted_of(pairs, session.annotation)
            doubts = painted.doubts
            spec, sentence = resolve_spec(painted, self.form.choices, card, session.device(), known_training_speed)
        except Unet3dError as error:
            sentence = str(error)
        return Planned(
            spec,
            sentence,
            tuple(pair.name for pair in pairs),
            any(pair.can_be_laid for pair in pairs),
            pairs[0].meanings.class_names,
            voxels_painted(pairs, session.annotation),
            doubts,
        )

    def _changed(self, *_: Any) -> None:
        self.form.update()
        self._later()

    def _on_add(self) -> None:
        try:
            pair = self._chosen()
            self._session.annotation.watch(pair.labels, labels_like(pair.labels, pair.image).position or 0)
            if all(old.labels is not pair.labels for old in self._session.training_pairs):
                self._session.training_pairs.append(pair)
        except Unet3dError as error:
            notify_error(error)
        self._later()

    def _on_remove(self) -> None:
        if self._session.training_pairs:
            self._session.training_pairs.pop()
        self._later()

    def _on_lay(self) -> None:
        try:
            for pair in self.pairs():
                if pair.can_be_laid:
                    pair.lay()
        except Unet3dError as error:
            notify_error(error)
        self._later()

    def update_state(self, *_: Any) -> None:
        """Derive what is shown from what Start would do and how far the run is."""
        session, run = self._session, self._session.training
        facts = None if run is None else RunFacts.of(run, is_of_these=not run.is_active and self._is_of_these(run))
        has_labels = session.labels is not None
        self.state = resolve(self._planned, facts, has_labels=has_labels, problem=session.problem)
        self._show(self.state)
        self._table.show_scores(None if run is None else run.curves)

    def _show(self, state: TrainState) -> None:
        planned = state.planned
        panel.say(self._plan, planned.sentence)
        panel.say(self._doubts, "" if state.is_active else "\n".join(planned.doubts))
        panel.say(self._pairs_text, "\n".join(planned.pairs))
        self.lay.visible = planned.can_lay
        panel.highlight(self.lay, True)
        self._table.show_annotation(planned.class_names, planned.voxels)
        self.start.text, self.start.enabled = state.start, state.can_start
        self.stop.enabled, self.train_on.visible = state.can_stop, state.has_train_on
        self.train_on.text = state.train_on
        panel.highlight(self.start, state.is_start_next)
        panel.highlight(self.segment, state.is_segment_next)
        self.progress.visible = state.is_active
        self.progress.max, self.progress.value = state.steps, state.step
        self._after.visible = state.has_run
        self.segment.enabled, self.correct.enabled = state.can_segment, state.can_correct
        self.held_out.enabled = state.can_show_held_out
        panel.say(self._state, state.progress)
        panel.say(self._held_out_text, state.held_out)

    def _is_of_these(self, run: Training) -> bool:
        """Return whether a run learns what Start would learn, from the same model."""
        try:
            ours = [(pair.image.layer, pair.labels, pair.meanings) for pair in self.pairs()]
        except Unet3dError:
            return False
        theirs = [(pair.image.layer, pair.labels, pair.meanings) for pair in run.pairs]
        start = self._session.model if self._takes_model() else None
        return ours == theirs and start == run.start_model

    def _on_start(self) -> None:
        run = self._session.training
        if self.state.goes_on and run is not None:
            run.begin()
            return
        self.begin(self._session.model if self._takes_model() else None)

    def begin(self, start: Path | None, *, spec: TrainSpec | None = None) -> None:
        """Begin a run in a new folder.

        Parameters
        ----------
        start
            The model folder to start from.
        spec
            The choices; None takes those of the form.
        """
        session = self._session
        try:
            pairs, chosen = self.pairs(), spec or self.spec
            if chosen is None:
                return
            # The first stroke may be a moment old, and its project holds the run.
            session.project.begin(pairs[0].image.layer)
            folder = new_run_folder(session.runs_folder, pairs[0].image.layer.name)
            n_painted = sum(voxels_painted(pairs, session.annotation))
            run = Training(session.viewer, session.engine, pairs, chosen, folder, start, n_painted)
        except Unet3dError as error:
            notify_error(error)
            return
        run.is_watched = self.live.value
        session.begin_training(run)

    def _on_save_job(self) -> None:
        chosen = self._session.image
        if path := ask_where(self.native, "train" if chosen is None else f"train {chosen.name}"):
            self.save_job(path)

    def save_job(self, path: Path) -> None:
        """Write what Start would do to a file for `napari-unet3d run`; only once it is known."""
        try:
            pairs, spec = self.pairs(), self.spec
            if spec is None:
                raise SpecError(f"There is nothing to train yet: {self.state.planned.sentence}")
            tell(save_train_job(path, pairs, spec, self._session.model if self._takes_model() else None))
        except Unet3dError as error:
            notify_error(error)

    def begin_corrected(self) -> None:
        """Begin a run that starts from the last one's model and learns what is painted now."""
        run = self._session.training
        if run is None or run.best is None:
            return
        has_new = sum(self._planned.voxels) > run.n_painted
        steps = self.form.steps.value if has_new else min(MORE_STEPS, self.form.steps.value)
        try:
            self.begin(run.best, spec=choose_corrections(run, self.pairs(), steps=steps))
        except Unet3dError as error:
            notify_error(error)

    def _on_stop(self) -> None:
        if self._session.training is not None:
            self._session.training.cancel()

    def _on_live(self, on: bool) -> None:
        if self._session.training is not None:
            self._session.training.is_watched = on

    def _on_segment(self) -> None:
        run = self._session.training
        if run is None or run.best is None:
            return
        try:
            self._session.choose_model(run.best)
        except Unet3dError as error:
            notify_error(error)
            return
        self._show_segment()

    def correct_here(self) -> None:
        """Copy what the live preview shows into the annotation, where nothing is painted yet."""
        session, run = self._session, self._session.training
        if run is None or run.layer is None or run.layer not in session.viewer.layers:
            notify("There is no preview to copy from.")
            return
        correct_annotation(session, run.layer, run.spec.class_names)

    def show_held_out(self) -> None:
        """Outline the annotation that is held out, in a layer of its own."""
        if self._session.training is not None:
            outline_held_out(self._session.training)

    def _follow(self) -> None:
        run = self._session.training
        if run is not None and run is not self._followed:
            self._followed, self._drawn = run, -1
            panel.listen(self, run.changed, self._on_run)
            panel.listen(self, run.noted, self._on_note)
            panel.listen(self, run.told, self._on_told)
            self._draw(run)
        self.update_state()

    def _draw_news(self) -> None:
        run = self._session.training
        if run is not None and run.step != self._drawn:
            self._drawn = run.step
            self._draw(run)

    def _draw(self, run: Training) -> None:
        if self.plot is None:
            from napari_unet3d.widgets.bricks.loss_plot import LossPlot

            self.plot = LossPlot()
            layout = self.native.layout()
            layout.insertWidget(layout.indexOf(self._after.native) + 1, self.plot)
        self.plot.show_curves(run.curves)

    def _on_told(self, sentence: str) -> None:
        tell(sentence)

    def _on_note(self, sentence: str) -> None:
        # What is said beside Start, and below it, is not said again.
        if KEPT not in sentence and sentence not in self._planned.doubts:
            notify(sentence)

    def _on_run(self) -> None:
        run = self._session.training
        if run is None:
            return
        if not run.is_active:
            self._draw_news()
        else:
            # Apart from all else that news change, so that neither holds up the window for long.
            self._draw_later.soon()
        self.update_state()
        if run.is_active:
            self._notified = None
        elif run is not self._notified:
            self._notified = run
            self._session.forget_memory()
            self._later()
            if run.error is not None:
                notify_error(run.error)
