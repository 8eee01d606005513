"""What the tab Train shows, derived from facts: no Qt, no napari."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from napari_unet3d.core.annotation.validation import KEPT
from napari_unet3d.core.unet.costs import training_bytes, training_flops
from napari_unet3d.core.unet.layers import n_flat
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import TrainingError, Unet3dError
from napari_unet3d.network.machine.devices import Device
from napari_unet3d.tasks.specs import why_invalid
from napari_unet3d.tasks.train.annotation import Painted
from napari_unet3d.tasks.train.choosing import TrainChoices, choose_spec
from napari_unet3d.tasks.train.recipes import advised_network
from napari_unet3d.tasks.train.spec import TrainSpec
from napari_unet3d.widgets.panels.train.text import describe_run
from napari_unet3d.words import amount, duration, times

if TYPE_CHECKING:
    from napari_unet3d.network.model import ModelCard
    from napari_unet3d.widgets.runs.training import Training


@dataclass(frozen=True)
class Planned:
    """What Start would do.

    Attributes
    ----------
    spec
        The choices; None where it could not start.
    sentence
        What that means, or why it could not.
    pairs
        What is learnt from, by name.
    can_lay
        Labels say that they lie elsewhere than their image, and have its shape.
    class_names, voxels
        How much of each class is painted.
    doubts
        Why little may be learnt from that, one sentence each.
    """

    spec: TrainSpec | None = None
    sentence: str = ""
    pairs: tuple[str, ...] = ()
    can_lay: bool = False
    class_names: tuple[str, ...] = ()
    voxels: tuple[int, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunFacts:
    """How far the last run of the window is.

    Attributes
    ----------
    spec
        The choices it was begun with.
    step
        Steps that are done.
    is_active, is_stopping
        It learns or waits for its turn; it was told to stop.
    can_go_on
        It was stopped before its end, something was kept, and nothing is wrong with its folder.
    is_of_these
        It learns what Start would learn, from the same model.
    has_model, has_preview, has_held_out
        What there is to segment with, to correct by and to outline.
    n_painted
        Voxels that were painted when it was begun.
    sentence, held_out
        What is said of it.
    """

    spec: TrainSpec
    step: int = 0
    is_active: bool = False
    is_stopping: bool = False
    can_go_on: bool = False
    is_of_these: bool = False
    has_model: bool = False
    has_preview: bool = False
    has_held_out: bool = False
    n_painted: int = 0
    sentence: str = ""
    held_out: str = ""

    @classmethod
    def of(cls, run: Training, *, is_of_these: bool) -> RunFacts:
        """Return the facts of a run."""
        is_begun = not run.is_active and run.has_checkpoint and run.step < run.spec.steps
        return cls(
            run.spec,
            run.step,
            is_active=run.is_active,
            is_stopping=run.state == "stopping",
            can_go_on=is_begun and not isinstance(run.error, TrainingError),
            is_of_these=is_of_these,
            has_model=run.best is not None,
            has_preview=run.previewed is not None,
            has_held_out=bool(run.held_out),
            n_painted=run.n_painted,
            sentence=describe_run(run),
            held_out=next((text for text in run.notes if KEPT in text), ""),
        )


@dataclass(frozen=True)
class TrainState:
    """All that the tab shows, and what can be pressed."""

    planned: Planned = Planned()
    start: str = "Start"
    can_start: bool = False
    is_start_next: bool = True
    can_stop: bool = False
    has_run: bool = False
    is_active: bool = False
    step: int = 0
    steps: int = 1
    has_train_on: bool = False
    train_on: str = ""
    can_segment: bool = False
    is_segment_next: bool = False
    can_correct: bool = False
    can_show_held_out: bool = False
    progress: str = ""
    held_out: str = ""

    @property
    def spec(self) -> TrainSpec | None:
        """Return what Start would do, or None where it could not start."""
        return self.planned.spec

    @property
    def goes_on(self) -> bool:
        """Return whether Start goes on with a run that was stopped."""
        return self.start == _CONTINUE


_CONTINUE = "Continue"
# What one more round takes where nothing new was painted.
MORE_STEPS = 200


def _train_on(new: int) -> str:
    """Return what the button says that goes on from the model of a run."""
    return f"Train on with {new:,} new voxels" if new else f"Train {MORE_STEPS} steps more"


def _painted_since(new: int) -> str:
    return f"{new:,} voxels painted since Start. They are learnt when you train on."


def resolve_spec(
    painted: Painted,
    choices: TrainChoices,
    card: ModelCard | None,
    device: Device | None,
    speed: Callable[[str, NetworkSpec], float | None] = lambda *_: None,
) -> tuple[TrainSpec | None, str]:
    """Return what Start would do, and what that means or why it could not.

    Parameters
    ----------
    painted
        What is learnt from.
    choices
        What was chosen.
    card
        Of the model to start from; None for a new network.
    device
        Where it runs unless it was chosen; None where that is not known yet.
    speed
        Of a device, by its label, in steps of a network: operations per second, or None where that is not known.
    """
    name = "auto" if device is None else device.name
    try:
        spec = choose_spec(painted, replace(choices, given={"device": name, **choices.given}), card=card)
    except ValidationError as error:
        return None, why_invalid(error)
    except Unet3dError as error:
        return None, str(error)
    memory = training_bytes(spec.patch, spec.network, batch=spec.batch)
    sentences = [
        _network_text(spec, painted, choices, card),
        f"Patches of {times(spec.patch)} voxels, {amount(memory)}.",
        *_time_texts(spec, device, speed),
    ]
    return spec, " ".join(sentences)


def _time_texts(spec: TrainSpec, device: Device | None, speed: Callable[[str, NetworkSpec], float | None]) -> list[str]:
    """Return how long the run takes if it is as fast as the last one, as a sentence, or nothing."""
    known = None if device is None else speed(device.label, spec.network)
    if known is None:
        return []
    seconds = spec.steps * training_flops(spec.patch, spec.network, batch=spec.batch) / known
    return [f"About {duration(seconds)} on this computer; stop it when the preview looks right."]


def _network_text(spec: TrainSpec, painted: Painted, choices: TrainChoices, card: ModelCard | None) -> str:
    """Return the network as a sentence, and why it is this one where nobody has chosen it."""
    flat = n_flat(spec.network.levels)
    text = f"{spec.network.blocks} blocks" if spec.network.blocks != 1 else "1 block"
    if flat:
        text += f", {flat} flat level{'s' if flat > 1 else ''}"
    advised, why = advised_network(choices.preset, painted)
    is_advised = card is None and spec.network.levels == advised.levels
    return f"{text}, {why}." if is_advised else f"{text}."


def resolve(planned: Planned, run: RunFacts | None, *, has_labels: bool, problem: str = "") -> TrainState:
    """Return what is shown, from what Start would do and how far the last run is.

    Parameters
    ----------
    planned
        What Start would do.
    run
        The last run of the window.
    has_labels
        Whether a labels layer is chosen.
    problem
        Why nothing can be computed at all, as a sentence, or nothing.
    """
    planned = replace(planned, sentence=problem or planned.sentence)
    can_start = planned.spec is not None and not problem
    if run is None:
        return TrainState(planned, can_start=can_start)
    start = "Start again" if run.step else "Start"
    if run.can_go_on and run.is_of_these and run.spec == planned.spec:
        start = _CONTINUE
    is_start_next = not run.has_model or start == _CONTINUE
    new = max(0, sum(planned.voxels) - run.n_painted) if run.is_of_these or run.is_active else 0
    return TrainState(
        planned,
        start=start,
        can_start=can_start and not run.is_active,
        is_start_next=is_start_next,
        can_stop=run.is_active and not run.is_stopping,
        has_run=True,
        is_active=run.is_active,
        step=min(run.step, run.spec.steps),
        steps=run.spec.steps,
        has_train_on=run.has_model and not run.is_active,
        train_on=_train_on(new),
        can_segment=run.has_model,
        is_segment_next=not is_start_next and not run.is_active,
        can_correct=run.has_preview and has_labels,
        can_show_held_out=run.has_held_out,
        progress=run.sentence if not new or not run.is_active else f"{run.sentence}\n{_painted_since(new)}",
        held_out=run.held_out,
    )
