from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from napari_unet3d.core.boxes import Shape
from napari_unet3d.core.unet.costs import flops, peak_bytes
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network import exactness, predictor
from napari_unet3d.network.exactness import plan_check, tile_difference
from napari_unet3d.network.forward import forward_pass
from napari_unet3d.network.machine import runtime
from napari_unet3d.network.machine.devices import Device, select_device
from napari_unet3d.network.model import Model
from napari_unet3d.network.predictor import Predictor
from tests.support.models import exact_in_bfloat16, has_amx, random_model

# What people use, and one that is wider than deep: sums over up to 384 channels.
NETWORKS = [{"blocks": 2, "filters": 8}, {"blocks": 2, "filters": 16}, {"blocks": 1, "filters": 32, "classes": 3}]
NETWORKS += [{"blocks": 2, "flat": 1, "filters": 8}, {"blocks": 1, "flat": 2, "filters": 32, "classes": 3}]
# In steps of the poolings: how much longer the one pass, and each tile, is than the smallest; and where tiles begin.
WHOLE = (0, 2, 8)
TILES = [((0, 0, 0), (0, 1, 5)), ((0, 0, 4), (0, 2, 0)), ((0, 2, 1), (0, 0, 7)), ((0, 1, 8), (0, 0, 0))]


@pytest.fixture(scope="module")
def cpu() -> Device:
    return select_device("cpu")


def _shape(model: Model, steps: Shape) -> Shape:
    geometry = model.spec.geometry
    z, y, x = (least + n * step for least, n, step in zip(geometry.smallest, steps, geometry.alignment, strict=True))
    return z, y, x


def differences(choices: dict[str, int], device: Device) -> list[Shape]:
    """Return the tiles whose probabilities are not, byte for byte, those of one pass."""
    model = random_model(**choices)
    geometry = model.spec.geometry
    image = np.random.default_rng(1).normal(size=(*_shape(model, WHOLE), model.spec.channels)).astype(np.float32)
    compute = Predictor(model, device)
    whole = compute(image, "probabilities")
    differing = []
    for longer, starts in TILES:
        shape = _shape(model, longer)
        at = [n * step for n, step in zip(starts, geometry.alignment, strict=True)]
        voxels = image[tuple(slice(a, a + n) for a, n in zip(at, shape, strict=True))]
        tile = compute(voxels, "probabilities")
        assert tile.shape[:3] == geometry.output_shape(shape)
        same = whole[tuple(slice(a, a + n) for a, n in zip(at, tile.shape[:3], strict=True))]
        if tile.tobytes() != same.tobytes():
            differing.append(shape)
    return differing


@pytest.fixture(scope="module")
def fast_cpu(cpu) -> Device:
    if not cpu.has_bfloat16:
        pytest.skip("this CPU does not multiply bfloat16 numbers")
    return cpu.in_precision("bfloat16")


@pytest.mark.parametrize("choices", NETWORKS, ids=str)
def test_tiles_of_default_networks_give_the_bytes_of_one_pass(choices, cpu):
    assert differences(choices, cpu) == []


# Widths that leave the lanes of a register unfilled, several channels, more channels than a group, a deeper network.
NETWORKS_IN_BFLOAT16 = [*NETWORKS, {"blocks": 2, "filters": 3}, {"blocks": 1, "filters": 5, "channels": 3}]
NETWORKS_IN_BFLOAT16 += [{"blocks": 0, "filters": 130}, {"blocks": 3, "filters": 4}]


@exact_in_bfloat16
@pytest.mark.parametrize("choices", NETWORKS_IN_BFLOAT16, ids=str)
def test_they_do_so_in_bfloat16(choices, fast_cpu):
    assert differences(choices, fast_cpu) == []


@pytest.mark.skipif(not has_amx(), reason="this CPU has no AMX")
def test_with_amx_tiles_differ_a_little_and_the_check_finds_it(fast_cpu):
    check = plan_check(NetworkSpec(blocks=2, filters=16), 4 << 30, bytes_per_value=2)
    assert 0 < tile_difference(check, fast_cpu) < 0.05


@exact_in_bfloat16
def test_bfloat16_is_not_exact_without_groups_of_channels(fast_cpu, monkeypatch):
    monkeypatch.setattr(predictor, "GROUP", None)
    assert differences({"blocks": 0, "filters": 130}, fast_cpu)


def test_bfloat16_rounds_neither_grey_values_nor_logits(fast_cpu):
    import ml_dtypes

    compute = Predictor(random_model(blocks=0, filters=4), fast_cpu)
    image = np.random.default_rng(0).normal(size=(36, 36, 36)).astype(np.float32)
    rounded = image.astype(ml_dtypes.bfloat16).astype(np.float32)
    logits = compute.logits(image)
    assert np.abs(logits - compute.logits(rounded)).max() > 1e-3
    # The lower half of a float32 is what bfloat16 leaves out.
    assert (logits.view(np.uint32) & 0xFFFF).any()


def test_most_labels_stay_in_bfloat16(fast_cpu):
    model = random_model(blocks=1, filters=8)
    image = np.random.default_rng(0).normal(size=(*_shape(model, (2, 2, 2)), 1)).astype(np.float32)
    exact, fast = (Predictor(model, device) for device in (fast_cpu.in_precision("float32"), fast_cpu))
    difference = np.abs(exact(image, "probabilities") - fast(image, "probabilities"))
    changed = exact(image, "labels") != fast(image, "labels")
    assert 0 < difference.max() < 0.1
    assert changed.mean() < 0.01
    # Only where the two classes are nearly alike.
    assert np.abs(exact(image, "probabilities")[changed] - 0.5).max(initial=0) < 0.05


def test_they_do_so_on_a_processor_without_avx_512():
    code = (
        "from tests.network.test_exactness import NETWORKS, differences\n"
        "from napari_unet3d.network.machine.devices import select_device\n"
        "print([differences(choices, select_device('cpu')) for choices in NETWORKS])"
    )
    env = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip() == str([[]] * len(NETWORKS))


@pytest.mark.parametrize(
    "choices",
    [
        {"blocks": 2, "filters": 8},
        {"blocks": 1, "filters": 3, "channels": 2, "classes": 4},
        {"blocks": 0, "filters": 70},
        {"blocks": 2, "flat": 1, "filters": 8},
    ],
    ids=str,
)
@pytest.mark.parametrize("group", [None, 64, 7])
def test_the_pass_gives_what_the_keras_network_gives(choices, group):
    tf = runtime.load_tensorflow()
    from napari_unet3d.network.unet import build_unet

    model = random_model(**choices)
    network = build_unet(model.spec)
    for variable in network.weights:
        variable.assign(model.weights[variable.path])
    shape = _shape(model, (0, 0, 1))
    image = tf.constant(np.random.default_rng(0).normal(size=(1, *shape, model.spec.channels)), tf.float32)
    expected = network(image, training=False).numpy()
    found = forward_pass(model.spec, model.weights, group=group)(image).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_device_that_is_exact_is_found_to_be(cpu):
    check = plan_check(NetworkSpec(blocks=1, filters=32), 1 << 30)
    assert check is not None
    assert tile_difference(check, cpu) == 0


def test_sums_in_an_order_that_depends_on_the_shape_are_found(cpu, monkeypatch):
    check = plan_check(NetworkSpec(blocks=1, filters=8), 1 << 30)
    assert check is not None

    def by_shape(*network, dtype, group):
        # As some devices do: channels are summed in larger groups where rows are longer.
        passes = [forward_pass(*network, dtype=dtype, group=size) for size in (3, group)]
        return lambda image: passes[image.shape[3] == check.whole[2]](image)

    monkeypatch.setattr(predictor, "forward_pass", by_shape)
    difference = tile_difference(check, cpu)
    assert difference is not None
    assert 0 < difference < 1e-5


@pytest.mark.parametrize("blocks", range(5))
@pytest.mark.parametrize("filters", [1, 8, 32, 256])
def test_a_check_is_short_and_takes_no_more_than_it_may(blocks, filters):
    for memory in (2 << 30, 200 << 20):
        check = plan_check(NetworkSpec(blocks=blocks, filters=filters), memory)
        assert check is not None
        assert flops(check.whole, check.spec) + flops(check.part, check.spec) < 1.5e11
        assert peak_bytes(check.whole, check.spec) <= memory
    assert plan_check(NetworkSpec(blocks=blocks, filters=filters), 1000) is None


def test_a_check_without_memory_says_nothing(cpu):
    check = plan_check(NetworkSpec(blocks=0, filters=2), 1 << 30)
    assert check is not None
    assert tile_difference(check, cpu, reserve=1 << 46) is None


def test_the_conditions_name_the_processor_and_how_it_is_used(cpu, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    text = exactness.conditions(cpu)
    assert cpu.label in text
    assert "TensorFlow 2." in text
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in text
    fast = Device("cpu", cpu.label, has_bfloat16=True)
    assert exactness.conditions(fast.in_precision("bfloat16")) != exactness.conditions(fast)
