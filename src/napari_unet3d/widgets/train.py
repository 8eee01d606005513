"""The tab Train: what is painted becomes a model, while its curves run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, Container, ProgressBar, PushButton

from napari_unet3d.core.annotation import Meanings
from napari_unet3d.core.geometry import training_bytes
from napari_unet3d.core.targets import Targets
from napari_unet3d.core.validation import HELD_OUT
from napari_unet3d.errors import SpecError, TrainingError, Unet3dError
from napari_unet3d.tasks.train_spec import TrainSpec
from napari_unet3d.widgets import panel
from napari_unet3d.widgets.class_table import ClassTable
from napari_unet3d.widgets.corrections import copy_prediction, corrected, outline_held_out
from napari_unet3d.widgets.job_saving import ask_where, save_train_job
from napari_unet3d.widgets.notices import notify, notify_error, tell
from napari_unet3d.widgets.pairs import Pair, reading
from napari_unet3d.widgets.session import Session
from napari_unet3d.widgets.train_form import TrainForm
from napari_unet3d.widgets.train_text import describe_run
from napari_unet3d.widgets.training import Training, new_run_folder

if TYPE_CHECKING:
    from napari_unet3d.widgets.loss_plot import LossPlot

_LOOK_MS = 400


class TrainPanel(Container):
    """Train a network on painted labels.

    Parameters
    ----------
    session
        What the panels of this window share.
    meanings
        Returns what the values of the chosen labels mean, as the tab Data has it.
    show_segment
        Brings the tab Segment to the front.

    Attributes
    ----------
    form
        The choices.
    spec
        What Start would do, or None where it could not start.
    """

    def __init__(
        self, session: Session, meanings: Callable[[], Meanings | None], show_segment: Callable[[], None]
    ) -> None:
        self._session, self._meanings, self._show_segment = session, meanings, show_segment
        self.spec: TrainSpec | None = None
        self._found: list[Targets] = []
        self._followed: Training | None = None
        self._notified: Training | None = None
        self._drawn = -1
        self._watched: Any = None
        self._build()
        super().__init__(
            widgets=[self._pairs_row, self._pairs_text, self.lay, self.form.main, self._below],
            layout="vertical",
            labels=True,
        )
        self.margins = (6, 6, 6, 6)
        # Drawn by a library that takes a moment to import, and only once there is something to draw.
        self.plot: LossPlot | None = None
        panel.add(self, self._after.native)
        panel.add(self, self.form.more.native)
        self.native.layout().addStretch()
        self._looking = panel.Aside(self.native)
        self._later = panel.Later(self.look, _LOOK_MS, self.native)
        self._connect()
        self.update_state()

    def _build(self) -> None:
        self.add_pair = PushButton(text="Add", tooltip="Put the image and the labels chosen in Data on the list.")
        self.remove_pair = PushButton(text="Remove", tooltip="Take the last one off the list.")
        self._pairs_row = panel.row(self.add_pair, self.remove_pair, label="Pairs")
        self.lay = PushButton(
            text="Lay labels on image",
            visible=False,
            tooltip="Give the labels the voxel size, unit and position of the image, which has the same shape.",
        )
        self._pairs_text = panel.text(tone="quiet", tooltip="What is learnt from: what is painted, and nothing else.")
        self.form = TrainForm(self._changed)
        self._plan = panel.text()
        self.start = panel.main_button("Start", "Train: the curves begin below; napari can be used meanwhile.")
        self.stop = PushButton(text="Stop", tooltip="Stop after the present step; everything that was learnt is kept.")
        self.train_on = PushButton(
            text="Train on with my corrections",
            tooltip="A new run that starts from this model and learns what is painted now.",
        )
        self.progress = ProgressBar(min=0, max=1, value=0, visible=False)
        self._state = panel.text()
        self._held_out_text = panel.text(tone="quiet")
        self._table = ClassTable()
        self.live = CheckBox(
            value=True,
            text="live preview at the cursor",
            tooltip="Segment what is looked at every few seconds with what was learnt so far.",
        )
        self.held_out = PushButton(text="Show held out", tooltip="Outline the annotation that is not learnt from.")
        self.segment = PushButton(text="Segment with this", tooltip="Choose the best model of this run in Segment.")
        self.correct = PushButton(
            text="Correct here",
            tooltip="Copy what the network finds around the cursor into the annotation, where nothing is painted yet.",
        )
        self._below = panel.column(
            self._plan,
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
        panel.listen(self, session.labels_changed, self._watch_strokes)
        panel.listen(self, session.training_changed, self._follow)
        self._watch_strokes()
        self._follow()
        self._later()

    def _watch_strokes(self) -> None:
        labels = self._session.labels
        if labels is not None and labels is not self._watched:
            self._watched = labels
            panel.listen(self, labels.events.labels_update, self._changed)

    def pairs(self) -> list[Pair]:
        """Return what is learnt from: the list, or what is chosen in Data.

        Raises
        ------
        Unet3dError
            If something is missing; the message says what.
        """
        layers = self._session.viewer.layers
        listed = [pair for pair in self._session.training_pairs if pair.labels in layers]
        return listed or [self._chosen()]

    def _chosen(self) -> Pair:
        session = self._session
        labels, meanings = session.labels, self._meanings()
        if labels is None or labels not in session.viewer.layers:
            raise SpecError("Choose the labels in Data, or make a new annotation there and paint a few slices.")
        if meanings is None:
            raise SpecError("What the labels mean is not known yet; see Data.")
        return Pair(
            session.volume(channels=session.card.network.channels if self._takes_model() else 1), labels, meanings
        )

    def _takes_model(self) -> bool:
        return not self.form.is_new and self._session.card is not None

    def look(self) -> None:
        """Look at the annotation in a thread, and derive what Start would do."""
        if self._session.training is not None and self._session.training.is_active:
            return
        try:
            read = reading(self.pairs())
        except Unet3dError as error:
            self._on_looked(([], str(error)))
            return
        self._looking(read, take=self._on_looked)

    def _on_looked(self, found: tuple[list[Targets], str]) -> None:
        self._found, problem = found
        self.spec = None
        if not problem:
            try:
                self.spec = self._made_spec()
                memory = training_bytes(self.spec.patch, self.spec.network, batch=self.spec.batch)
                problem = f"Patches of {panel.times(self.spec.patch)} voxels, about {panel.amount(memory)}."
            except Unet3dError as error:
                problem = str(error)
        panel.say(self._plan, self._session.problem or problem)
        self._show_pairs()
        self.update_state()

    def _made_spec(self) -> TrainSpec:
        session = self._session
        pairs = self.pairs()
        card = session.card if self._takes_model() else None
        if not self.form.is_new and card is None:
            raise SpecError("Choose a model to start from in Segment, or start from a new network.")
        names = pairs[0].meanings.class_names
        if any(pair.meanings.class_names != names for pair in pairs):
            raise SpecError("The pairs have different classes; remove one of them.")
        image = pairs[0].image
        device = session.device()
        return self.form.spec(
            names,
            self._found,
            image.volume.voxel_size,
            image.volume.n_channels,
            card,
            "auto" if device is None else device.name,
        )

    def _show_pairs(self) -> None:
        try:
            pairs = self.pairs()
        except Unet3dError:
            pairs = []
        panel.say(self._pairs_text, "\n".join(pair.name for pair in pairs))
        self.lay.visible = any(pair.can_be_laid for pair in pairs)
        panel.highlight(self.lay, True)
        names = pairs[0].meanings.class_names if pairs else ()
        same = [found.counts for found in self._found if found.n_classes == len(names)]
        self._table.show_annotation(names, [sum(each) for each in zip(*same, strict=True)])

    def _changed(self, *_: Any) -> None:
        self.form.update()
        self._later()

    def _on_add(self) -> None:
        try:
            pair = self._chosen()
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
        """Derive from the session alone what can be pressed and what is said."""
        run = self._session.training
        active = run is not None and run.is_active
        can_go_on = run is not None and not active and run.has_checkpoint and run.step < run.spec.steps
        has_model = run is not None and run.best is not None
        self.start.text = "Start anew" if run is not None and run.step else "Start"
        if can_go_on and self._is_same(run):
            self.start.text = "Continue"
        self.start.enabled = not active and self.spec is not None and not self._session.problem
        self.stop.enabled = run is not None and active and run.state != "stopping"
        self.train_on.visible = has_model and not active
        is_start_next = not has_model or self.start.text == "Continue"
        panel.highlight(self.start, is_start_next)
        panel.highlight(self.segment, not is_start_next and not active)
        self.progress.visible = active
        if run is not None:
            self.progress.max = run.spec.steps
            self.progress.value = min(run.step, run.spec.steps)
        self._after.visible = run is not None
        self.segment.enabled = has_model
        self.correct.enabled = run is not None and run.previewed is not None and self._session.labels is not None
        self.held_out.enabled = run is not None and bool(run.held_out)
        panel.say(self._state, "" if run is None else describe_run(run))
        held_out = "" if run is None else next((text for text in run.notes if text.startswith(HELD_OUT)), "")
        panel.say(self._held_out_text, held_out)
        self._table.show_scores(None if run is None else run.curves)

    def _is_same(self, run: Training | None) -> bool:
        """Return whether Start would go on with a stopped run: nothing was changed since."""
        if run is None or self.spec is None or run.spec != self.spec or isinstance(run.error, TrainingError):
            return False
        try:
            ours = [(pair.image.layer, pair.labels, pair.meanings) for pair in self.pairs()]
        except Unet3dError:
            return False
        theirs = [(pair.image.layer, pair.labels, pair.meanings) for pair in run.pairs]
        start = self._session.model if self._takes_model() else None
        return ours == theirs and start == run.start_model

    def _on_start(self) -> None:
        run = self._session.training
        if self.start.text == "Continue" and run is not None:
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
            folder = new_run_folder(session.preferences.models_folder.parent / "runs", pairs[0].image.layer.name)
            run = Training(session.viewer, session.engine, pairs, chosen, folder, start)
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
                raise SpecError(f"There is nothing to train yet: {self._plan.value}")
            tell(save_train_job(path, pairs, spec, self._session.model if self._takes_model() else None))
        except Unet3dError as error:
            notify_error(error)

    def begin_corrected(self) -> None:
        """Begin a run that starts from the last one's model and learns what is painted now."""
        run = self._session.training
        if run is None or run.best is None:
            return
        try:
            self.begin(run.best, spec=corrected(run, self.pairs(), steps=self.form.steps.value))
        except Unet3dError as error:
            notify_error(error)

    def _on_stop(self) -> None:
        if self._session.training is not None:
            self._session.training.stop()

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
        """Copy what the network found last, where it was looked at, into annotation that is still empty there."""
        run, labels = self._session.training, self._session.labels
        if run is not None and labels is not None and (reason := copy_prediction(run, labels)):
            notify(reason)

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
            self._draw(run)
        self.update_state()

    def _draw(self, run: Training) -> None:
        if self.plot is None:
            from napari_unet3d.widgets.loss_plot import LossPlot

            self.plot = LossPlot()
            layout = self.native.layout()
            layout.insertWidget(layout.indexOf(self._after.native) + 1, self.plot)
        self.plot.show_curves(run.curves)

    def _on_note(self, sentence: str) -> None:
        if not sentence.startswith(HELD_OUT):
            notify(sentence)

    def _on_run(self) -> None:
        run = self._session.training
        if run is None:
            return
        if run.step != self._drawn:
            self._drawn = run.step
            self._draw(run)
        self.update_state()
        if run.is_active:
            self._notified = None
        elif run is not self._notified:
            self._notified = run
            self._session.forget_memory()
            self._later()
            if run.error is not None:
                notify_error(run.error)
