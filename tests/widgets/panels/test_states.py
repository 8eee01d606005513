"""What the tabs show is derived by pure functions: no window, no worker, no array."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_unet3d.core.boxes import Box
from napari_unet3d.core.unet.costs import training_flops
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.machine.devices import Device
from napari_unet3d.network.model import ModelCard
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.train.annotation import Painted
from napari_unet3d.tasks.train.choosing import TrainChoices
from napari_unet3d.volumes import Volume
from napari_unet3d.volumes.space.calibration import Calibration
from napari_unet3d.widgets.panels.augment import state as augment
from napari_unet3d.widgets.panels.segment import state as segment
from napari_unet3d.widgets.panels.sizes import state as sizes
from napari_unet3d.widgets.panels.sizes.text import Machine
from napari_unet3d.widgets.panels.train import state as train
from napari_unet3d.widgets.runs.results import Choices

NETWORK = NetworkSpec(blocks=1, filters=2)
CARD = ModelCard(network=NETWORK, class_names=("background", "cell"))
CPU = Device("cpu", "CPU, 2 threads")
HERE = segment.Machine(CPU, [CPU], free_bytes=1 << 40)
VOLUME = Volume(data=np.zeros((40, 61, 92), np.uint8), calibration=Calibration((1.0, 1.0, 1.0), "um"))
PAINTED = Painted(("background", "cell"), (100, 50), True)


def choices(**spec) -> Choices:
    return Choices(Path("m.unet3d"), CARD, PredictSpec(**({"memory_bytes": 1 << 32} | spec)))


def planned(machine=HERE, problem="", **spec) -> segment.Planned:
    return segment.resolve_plan(VOLUME, choices(**spec), machine, problem)


def test_a_plan_is_said_and_can_be_started():
    found = planned()
    assert f"{len(found.plan)} tile" in found.sentence
    assert "on CPU, 2 threads" in found.sentence
    assert segment.resolve(found, None) == segment.SegmentState(found, can_start=True)


@pytest.mark.parametrize(
    ("spec", "machine", "said"),
    [
        ({"memory_bytes": 1}, HERE, "tile"),
        ({"device": "gpu:7"}, segment.Machine(None, [CPU], 1 << 40), "Device 'gpu:7' is not available. Available: cpu"),
        ({"device": "gpu:7"}, segment.Machine(None, None, 1 << 40), "Asking the worker which devices"),
        ({"region": Box((0, 99), (0, 9), (0, 9))}, HERE, "99"),
        ({"tile_shape": (21, 21, 21)}, HERE, "21"),
        ({}, segment.Machine(CPU, [CPU], 8), "GiB of memory"),
    ],
)
def test_what_cannot_be_started_says_why(spec, machine, said):
    found = planned(machine, **spec)
    assert found.plan is None
    assert said in found.sentence
    assert not segment.resolve(found, None).can_start


def test_a_tile_shape_that_is_set_is_what_the_plan_has():
    assert planned(tile_shape=(44, 44, 60)).plan.input_shape == (44, 44, 60)


def test_what_is_missing_on_the_machine_keeps_all_from_starting():
    state = segment.resolve(planned(problem="No TensorFlow."), None, "No TensorFlow.")
    assert (state.planned.sentence, state.can_start) == ("No TensorFlow.", False)


@pytest.mark.parametrize(
    ("run", "shown"),
    [
        (segment.RunFacts("running"), {"start": "Start", "can_start": False, "can_cancel": True, "cancel": "Cancel"}),
        (segment.RunFacts("stopping", is_just_cancelled=True), {"can_cancel": False, "cancel": "Stop now"}),
        (segment.RunFacts("stopping"), {"can_cancel": True, "cancel": "Stop now"}),
        (segment.RunFacts("stopped", share=0.5, is_same=True), {"start": "Go on (50% done)", "has_anew": True}),
        (segment.RunFacts("stopped", share=0.5), {"start": "Start", "can_start": True, "has_anew": False}),
        (segment.RunFacts("done", sentence="Done: 'x'."), {"can_start": True, "progress": "Done: 'x'."}),
    ],
)
def test_how_far_a_run_is_decides_what_can_be_pressed(run, shown):
    state = segment.resolve(planned(), run)
    assert {name: getattr(state, name) for name in shown} == shown


def test_a_run_that_was_stopped_goes_on_also_where_nothing_could_be_started():
    state = segment.resolve(segment.Planned(), segment.RunFacts("stopped", is_same=True))
    assert (state.can_start, state.can_begin_anew) == (True, False)


def spec_of(**given):
    return train.resolve_spec(PAINTED, TrainChoices(network={"blocks": 0, "filters": 2}, given=given), None, CPU)


def test_training_says_its_patches_and_their_memory():
    spec, said = spec_of(patch=(28, 28, 28))
    assert spec.device == "cpu"
    assert said.startswith("0 blocks, 1 flat level. Patches of 28 x 28 x 28 voxels, ")


@pytest.mark.parametrize(
    ("painted", "said"),
    [
        ({}, "1 block, 1 flat level, because single slices are painted. "),
        (
            {"is_slicewise": False, "voxel_size": (3, 1, 1)},
            "1 block, 1 flat level, because slices are thicker than their pixels. ",
        ),
        ({"is_slicewise": False}, "1 block, because all of a volume is annotated. "),
    ],
)
def test_training_says_why_a_network_is_advised(painted, said):
    assert train.resolve_spec(replace(PAINTED, **painted), TrainChoices(), None, None)[1].startswith(said)


def test_training_says_how_long_it_takes_where_the_computer_is_known():
    choices = TrainChoices(network={"blocks": 0, "filters": 2}, given={"steps": 100, "batch": 2})
    spec, said = train.resolve_spec(PAINTED, choices, None, CPU, lambda *_: None)
    assert "this computer" not in said
    work = 100 * training_flops(spec.patch, spec.network, batch=2)
    _, said = train.resolve_spec(
        PAINTED, choices, None, CPU, lambda label, _: work / 180 if label == CPU.label else None
    )
    assert "About 3 min on this computer" in said


def test_choices_that_contradict_each_other_are_said():
    spec, said = spec_of(patch=(27, 27, 27))
    assert spec is None
    assert "27" in said
    spec, said = train.resolve_spec(PAINTED, TrainChoices("x-rays"), None, None)
    assert spec is None
    assert "There is no preset 'x-rays'" in said


def facts(**known) -> train.RunFacts:
    return train.RunFacts(spec_of(steps=10)[0], **known)


@pytest.mark.parametrize(
    ("run", "shown"),
    [
        (None, {"start": "Start", "can_start": True, "has_run": False}),
        (facts(is_active=True, step=3), {"can_start": False, "can_stop": True, "step": 3, "has_train_on": False}),
        (facts(is_active=True, is_stopping=True), {"can_stop": False, "is_active": True}),
        (facts(step=3, can_go_on=True, is_of_these=True), {"start": "Continue", "goes_on": True, "can_start": True}),
        (facts(step=3, can_go_on=True), {"start": "Start again", "goes_on": False}),
        (facts(step=10, has_model=True), {"is_start_next": False, "is_segment_next": True, "has_train_on": True}),
        (facts(has_preview=True, has_held_out=True), {"can_correct": True, "can_show_held_out": True}),
    ],
)
def test_how_far_training_is_decides_what_can_be_pressed(run, shown):
    state = train.resolve(train.Planned(spec_of(steps=10)[0], "said"), run, has_labels=True)
    assert {name: getattr(state, name) for name in shown} == shown


def test_other_choices_do_not_go_on_with_a_run():
    other = train.Planned(spec_of(steps=11)[0])
    run = facts(step=3, can_go_on=True, is_of_these=True)
    assert train.resolve(other, run, has_labels=True).start == "Start again"
    assert not train.resolve(train.Planned(), run, has_labels=True).can_start


def test_the_tile_that_is_drawn_is_the_typed_one_then_the_selected_one_then_that_of_the_plan():
    machine = Machine(1 << 32, "that a run may use")
    resolve = sizes.resolve
    typed = resolve((40, 61, 92), "", NETWORK, machine, sizes.Asked("44", 60))
    assert typed.wanted == ((44, 44, 44), "the size typed")
    assert resolve((40, 61, 92), "", NETWORK, machine, sizes.Asked("45", 60)).wanted == (
        (60, 60, 60),
        "the selected row",
    )
    plain = resolve((40, 61, 92), "", NETWORK, machine, sizes.Asked())
    assert plain.wanted == (plain.plan.input_shape, "a tile of the plan")
    assert (plain.can_show, plain.can_hide) == (True, False)
    nothing = resolve(None, "Open a volume.", NETWORK, machine, sizes.Asked("44"))
    assert (nothing.problem, nothing.can_show, nothing.hint) == (
        "Open a volume.",
        False,
        "There is no volume to draw on.",
    )


def test_without_the_memory_of_the_device_there_is_no_plan_and_it_is_said():
    state = sizes.resolve((40, 61, 92), "", NETWORK, Machine(None, "It is being asked."), sizes.Asked())
    assert (state.plan, state.problem, state.can_show) == (None, "It is being asked.", False)


def test_what_is_said_of_a_patch():
    assert augment.resolve("No image.", None) == augment.AugmentState("No image.")
    assert not augment.resolve("No image.", None).can_show
    assert augment.resolve("", augment.Made(is_active=True)).sentence == "Making the patch .."
    assert augment.resolve("", augment.Made("It failed.")).is_warning
    made = augment.resolve("", augment.Made(folded=[0.0, 0.25], seconds=0.05, notes=("Small.",)))
    assert made.sentence == "Made in 50 ms; 25.0% folded. Small."
    assert made.folded.startswith("Bending folds 25.0%")
    assert augment.resolve("", augment.Made(folded=[0.25]), is_preset=True).folded == ""
    assert augment.resolve("", augment.Made(folded=[0.0])).folded == ""
