"""A model for a volume: its probabilities corrected for how frequent the classes are there.

As the scaling of intensities, the shares are found once for the whole volume, from a sample that depends on nothing but
the volume and the network: not on the region or the tiles, nor on the memory unless it is very small. The correction is
a constant for each class that is added to the last layer, so tiles stay as exact as they are.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from napari_unet3d.core.boxes import Box, Shape
from napari_unet3d.core.finite import finite_voxels
from napari_unet3d.core.heads.prior import Shares, halfway, normalized, shift, volume_shares
from napari_unet3d.core.normalize import Scaling
from napari_unet3d.core.tiles.plan import Readable, read_reflected
from napari_unet3d.core.unet.costs import flops, peak_bytes
from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.errors import ModelError
from napari_unet3d.network.model import Model
from napari_unet3d.network.transfer import LAST_BIAS
from napari_unet3d.tasks.segment.predict import Predictor

# What the sample may cost, as 220 GFLOP: one or two seconds without a GPU; and how many boxes it has at least and most.
_FLOPS, _FEWEST, _MOST = 2.2e11, 4, 27
# The voxels (z, y, x) that the network gives of a box: the first that fit the memory.
_SIDES = ((16, 48, 48), (8, 24, 24), (4, 8, 8))
# Enough for shares of 1 of 1,000.
_VOXELS = 1 << 18
_UNKNOWN = "The model does not say how frequent the classes were in what it has learnt; train it again."

_suited: WeakKeyDictionary[Model, Model] = WeakKeyDictionary()
_measured: WeakKeyDictionary[Model, dict[bytes, Shares]] = WeakKeyDictionary()


def at_shares(model: Model, wanted: Shares) -> Model:
    """Return a model whose probabilities are right where the classes have other shares than it has learnt with.

    Parameters
    ----------
    model
        The model; its card says what it has learnt with. Where it does not, all classes are taken for equally frequent.
    wanted
        One share for each class.

    Returns
    -------
    Model
        The same one as long as model and shares are the same: a predictor is found by its model.

    Raises
    ------
    ModelError
        If there are other classes.
    """
    learnt = model.card.shares or (1.0 / model.spec.classes,) * model.spec.classes
    if len(wanted) != len(learnt):
        raise ModelError(f"There are {len(learnt)} classes, so as many shares are needed; {len(wanted)} were given.")
    wanted = normalized(wanted)
    known = _suited.get(model)
    if known is None or known.card.shares != wanted:
        bias = model.weights[LAST_BIAS] + shift(learnt, wanted)
        card = model.card.model_copy(update={"shares": wanted})
        known = _suited[model] = replace(model, card=card, weights={**model.weights, LAST_BIAS: bias})
    return known


def measure_shares(
    volume: Readable, model: Model, predictor: Predictor, scaling: Scaling, *, memory: int | None = None
) -> Shares:
    """Return the shares of the classes that suit a volume; at once where the same voxels were looked at before.

    They lie halfway between what the model has learnt with and what is found in the volume (`core.heads.prior`).

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c).
    model
        What tells the classes apart, as it has learnt; its card says with which shares.
    predictor
        What computes it.
    scaling
        From intensities to the network's units.
    memory
        Bytes that a pass may take; None is any number.

    Raises
    ------
    OutOfMemoryError
        If the device has no room.
    """
    network, learnt = model.spec, model.card.shares
    if learnt is None:
        raise ModelError(_UNKNOWN)
    digest, parts = hashlib.sha256(), []
    z, y, x = volume.shape[:3]
    for box in sample_boxes((z, y, x), network, memory):
        voxels = read_reflected(volume, box.grown(network.geometry.halo))
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = scaling.apply(voxels)
        finite = finite_voxels(scaled)
        if finite is not None:
            scaled[~finite] = 0
        digest.update(scaled.data)
        parts.append(scaled)
    known = _measured.setdefault(model, {})
    if (key := digest.digest()) not in known:
        probabilities = np.concatenate(
            [predictor(part, "probabilities").reshape(-1, network.classes) for part in parts]
        )
        step = max(1, len(probabilities) // _VOXELS)
        # Three digits: a run that goes on after a stop finds the same, also where a GPU adds in another order.
        shares = halfway(learnt, volume_shares(probabilities[::step], learnt))
        known[key] = tuple(float(f"{share:.3g}") for share in shares)
    return known[key]


def sample_boxes(shape: Shape, network: NetworkSpec, memory: int | None = None) -> list[Box]:
    """Return boxes of one shape that stand for a volume, spread over it, (z, y, x) in voxels.

    Parameters
    ----------
    shape
        Of the volume.
    network
        It gives the sizes that are possible, and what one box costs.
    memory
        Bytes that a pass may take; None is any number.
    """
    geometry = network.geometry
    for sides in _SIDES:
        z, y, x = (min(side, n) for side, n in zip(sides, shape, strict=True))
        given = geometry.input_shape_for((z, y, x))
        if memory is None or peak_bytes(given, network) <= memory:
            break
    output = geometry.output_shape(given)
    most = int(np.clip(_FLOPS / flops(given, network), _FEWEST, _MOST))
    counts = _counts(shape, output, most)
    starts = [
        [0] if count == 1 and n <= side else [round(at) for at in _spread(n - side, count)]
        for n, side, count in zip(shape, output, counts, strict=True)
    ]
    return [
        Box(*((start, start + side) for start, side in zip((z, y, x), output, strict=True)))
        for z in starts[0]
        for y in starts[1]
        for x in starts[2]
    ]


def _spread(room: int, count: int) -> npt.NDArray[np.float64]:
    """Return so many starts from 0 to the room, in the middle of equal parts of it."""
    return (np.arange(count) + 0.5) * room / count


def _counts(shape: Shape, output: Shape, most: int) -> list[int]:
    """Return how many boxes to take along each axis: no more than there are, and the most where there are many."""
    counts = [1, 1, 1]
    fitting = [max(1, math.ceil(n / side)) for n, side in zip(shape, output, strict=True)]
    while True:
        rooms = [fit / count if count < fit else 0.0 for fit, count in zip(fitting, counts, strict=True)]
        axis = int(np.argmax(rooms))
        if rooms[axis] == 0 or np.prod(counts) // counts[axis] * (counts[axis] + 1) > most:
            return counts
        counts[axis] += 1
