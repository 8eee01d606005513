"""Choices of all kinds, and the same as the words of a command line: for the laws that nothing is lost on the way."""

from __future__ import annotations

import string

import typer
from hypothesis import strategies as st

from napari_unet3d.cli import app
from napari_unet3d.core.augment.choices import AugmentSpec, Blur, Noise
from napari_unet3d.core.augment.presets import PRESETS
from napari_unet3d.core.boxes import Box
from napari_unet3d.core.normalize import Normalization
from napari_unet3d.core.objects.clean_up import Cleanup
from napari_unet3d.core.unet.layers import levels_of, n_flat
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.train.spec import HeldOutBox, TrainSpec

# All boxes lie in a volume of this shape.
SHAPE = (90, 100, 110)
# Of the model that segments.
CLASS_NAMES = ("background", "object")
_DEVICES = st.sampled_from(["auto", "cpu", "gpu", "gpu:0", "gpu:13"])
_SHARES = st.floats(0, 1)


def intervals(n):
    return st.tuples(st.integers(0, n - 1), st.integers(1, n)).filter(lambda ends: ends[0] < ends[1])


boxes = st.builds(Box, *(intervals(n) for n in SHAPE))


@st.composite
def cleanups(draw):
    plain = st.builds(Cleanup, high=st.just(0.5), low=st.just(0.5), min_voxels=st.just(0), instances=st.booleans())
    low, high = sorted(draw(st.tuples(_SHARES, _SHARES)))
    other = st.builds(
        Cleanup,
        high=st.just(high),
        low=st.just(low),
        min_voxels=st.integers(0, (1 << 63) - 1),
        connectivity=st.sampled_from([6, 18, 26]),
        instances=st.booleans(),
    )
    return draw(plain | other)


@st.composite
def predict_specs(draw):
    """Draw the choices of a segmentation."""
    output = draw(st.sampled_from(["labels", "probabilities"]))
    return PredictSpec(
        output=output,
        region=draw(st.none() | boxes),
        memory_bytes=draw(st.none() | st.integers(1, 1 << 62)),
        device=draw(_DEVICES),
        cleanup=draw(st.none() | cleanups()) if output == "labels" else None,
        nonfinite=draw(st.sampled_from(["refuse", "background"])),
        precision=draw(st.sampled_from(["float32", "bfloat16"])),
        tile_shape=draw(st.none() | st.tuples(*[st.integers(1, 500)] * 3)),
        prior=draw(st.sampled_from(["volume", "training"]) | st.tuples(*[st.floats(1e-6, 1)] * len(CLASS_NAMES))),
        emphasis=draw(st.just(()) | st.tuples(*[st.floats(-50, 50)] * len(CLASS_NAMES))),
        first_result=draw(st.none() | st.floats(0.1, 1e4)),
        skip_below=draw(st.none() | st.floats(-1e6, 1e6)),
        mask=draw(st.none() | st.sampled_from(["/a/mask.tif", "/b/c.h5:/mask"])),
    )


@st.composite
def train_specs(draw):
    """Draw the choices of a training run; the first class is the background."""
    names = draw(st.lists(st.text(string.ascii_letters, min_size=1), min_size=1, max_size=3, unique=True))
    names = ["background", *(name for name in names if name not in ("background", "ignore"))]
    names = names if len(names) > 1 else [*names, "object"]
    blocks = draw(st.integers(0, 5))
    network = NetworkSpec(
        levels=levels_of(blocks, flat=draw(st.integers(0, blocks + 1))),
        filters=draw(st.integers(1, 256)),
        classes=len(names),
        channels=draw(st.integers(1, 4)),
        dropout=draw(st.floats(0, 1, exclude_max=True)),
        batch_normalization=draw(st.booleans()),
    )
    geometry = network.geometry
    sizes = [st.sampled_from(geometry.valid_sizes(geometry.smallest[axis] + 200, axis)) for axis in range(3)]
    cubes = [(n, n, n) for n in geometry.valid_cubes(max(geometry.smallest) + 200)]
    weights = st.lists(st.floats(0.01, 1e6), min_size=len(names), max_size=len(names)).map(tuple)
    counts = st.integers(1, 10**12)
    held_out = st.lists(st.builds(HeldOutBox, pair=st.integers(0, 1), box=boxes), min_size=1, max_size=3).map(tuple)
    positive = st.floats(0, 1e9, exclude_min=True)
    return TrainSpec(
        network=network,
        class_names=tuple(names),
        normalization=draw(normalizations()),
        patch=draw(st.tuples(*sizes) | st.sampled_from(cubes)),
        batch=draw(counts),
        steps=draw(counts),
        seed=draw(st.integers(0, (1 << 32) - 1)),
        augment=draw(augment_specs),
        learning_rate=draw(positive),
        schedule=draw(st.sampled_from(["cosine", "constant"])),
        warm_up=draw(st.floats(0, 1, exclude_max=True)),
        optimizer=draw(st.sampled_from(["adam", "muon"])),
        clip_norm=draw(positive),
        averaging=draw(st.floats(0, 1, exclude_max=True)),
        class_weights=draw(st.none() | weights),
        cross_entropy_share=draw(_SHARES),
        validation=draw(st.sampled_from(["auto", "none"]) | held_out),
        validate_every=draw(counts),
        patience=draw(st.none() | counts),
        device=draw(_DEVICES),
    )


@st.composite
def normalizations(draw):
    finite = st.floats(-1e6, 1e6)
    low, high = sorted(draw(st.tuples(st.floats(0, 100), st.floats(0, 100)).filter(lambda ends: ends[0] != ends[1])))
    kind = draw(st.sampled_from(["none", "fixed", "percentiles", "zscore", "background"]))
    spread = draw(st.floats(0.1, 100) | (st.none() if kind == "background" else st.nothing()))
    return Normalization(kind=kind, offset=draw(finite), scale=draw(finite), low=low, high=high, spread=spread)


augment_specs = st.sampled_from(list(PRESETS.values())) | st.builds(
    AugmentSpec,
    blur=st.builds(Blur, probability=_SHARES),
    noise=st.builds(Noise, probability=_SHARES),
)


def predict_words(spec: PredictSpec) -> list[str]:
    """Return what is typed for a segmentation to have these choices."""
    words = [f"--device={spec.device}", f"--nonfinite={spec.nonfinite}", f"--precision={spec.precision}"]
    words += ["--probabilities"] if spec.output == "probabilities" else []
    words += [] if spec.region is None else [f"--region={spec.region}"]
    words += [] if spec.memory_bytes is None else [f"--memory={spec.memory_bytes}"]
    words += [] if spec.tile_shape is None else [f"--tile={_listed(spec.tile_shape)}"]
    words += [f"--prior={spec.prior if isinstance(spec.prior, str) else _listed(spec.prior)}"]
    names = zip(CLASS_NAMES, spec.emphasis, strict=False)
    words += [f"--emphasis={','.join(f'{name}={times!r}' for name, times in names)}"] if spec.emphasis else []
    words += [] if spec.first_result is None else [f"--first-result={spec.first_result!r}"]
    words += [] if spec.skip_below is None else [f"--skip-below={spec.skip_below!r}"]
    words += [] if spec.mask is None else [f"--mask={spec.mask}"]
    if (cleanup := spec.cleanup) is not None:
        words += ["--clean-up", f"--high={cleanup.high!r}", f"--low={cleanup.low!r}"]
        words += [f"--min-voxels={cleanup.min_voxels}", f"--connectivity={cleanup.connectivity}"]
        words += ["--instances"] if cleanup.instances else []
    return words


def train_words(spec: TrainSpec, folder) -> list[str]:
    """Return what is typed for a training run to have these choices; what is done to patches goes into a file."""
    file = folder / "augment.json"
    file.write_text(spec.augment.model_dump_json())
    network, normalization = spec.network, spec.normalization.model_dump(exclude={"kind"})
    simple = ("batch", "steps", "seed", "learning_rate", "schedule", "warm_up", "optimizer", "clip_norm", "averaging")
    simple += ("cross_entropy_share", "validate_every", "device")
    words = [f"--{name.replace('_', '-')}={getattr(spec, name)}" for name in simple]
    words += [f"--blocks={network.blocks}", f"--flat-levels={n_flat(network.levels)}"]
    words += [f"--filters={network.filters}", f"--dropout={network.dropout!r}"]
    words += ["--batch-normalization" if network.batch_normalization else "--no-batch-normalization"]
    words += [f"--patch={_listed(spec.patch)}", f"--augment={file}"]
    parameters = ",".join(f"{name}={value!r}" for name, value in normalization.items() if value is not None)
    words += [f"--normalization={spec.normalization.kind}:{parameters}"]
    words += [f"--class-weights={'none' if spec.class_weights is None else _listed(spec.class_weights)}"]
    words += [] if spec.patience is None else [f"--patience={spec.patience}"]
    held_out = spec.validation
    if not isinstance(held_out, str):
        held_out = ";".join(f"{part.pair + 1}@{part.box}" for part in held_out)
    return [*words, f"--validation={held_out}"]


def _listed(numbers) -> str:
    return ",".join(map(repr, numbers))


def parsed(name: str, words: list[str]) -> dict:
    """Return what a command is called with, by name."""
    command = typer.main.get_command(app).commands[name]
    return command.make_context(name, words).params
