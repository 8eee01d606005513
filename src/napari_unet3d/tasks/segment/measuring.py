"""What is found once for a whole volume, before its first tile: how it is scaled, and how frequent the classes are.

Every tile needs the same numbers, wherever and whenever it is computed; so they are a value that can be kept and sent.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from napari_unet3d.core.heads.prior import emphasized
from napari_unet3d.core.normalize import Scaling, ScalingNumbers, measure
from napari_unet3d.core.tiles.plan import Readable, TilePlan
from napari_unet3d.core.tiles.where import Cells, Packed, Where
from napari_unet3d.errors import OutOfMemoryError
from napari_unet3d.tasks.events import Event, Note, Progress
from napari_unet3d.tasks.segment.looking import look_where
from napari_unet3d.tasks.segment.priors import at_shares, measure_shares
from napari_unet3d.tasks.specs import PredictSpec, Spec

if TYPE_CHECKING:
    from napari_unet3d.network.machine.device import Device
    from napari_unet3d.network.model import Model


class Measured(Spec):
    """What was found for a volume.

    Attributes
    ----------
    scaling
        Makes the `Scaling` again.
    shares
        How frequent the classes are taken to be; None uses the model as it is.
    looked_at
        Where the volume is looked at, as `Cells.pack` gives it; none is everywhere.
    """

    scaling: ScalingNumbers
    shares: tuple[float, ...] | None = None
    looked_at: tuple[Packed, ...] = ()

    @property
    def where(self) -> Where:
        """Return where the volume is looked at."""
        return Where([Cells.unpack(packed) for packed in self.looked_at])

    def suit(self, model: Model) -> Model:
        """Return the model as it suits the volume: corrected for how frequent the classes are there, if it may be."""
        return model if self.shares is None else at_shares(model, self.shares)


def measure_volume(
    volume: Readable, model: Model, spec: PredictSpec, plan: TilePlan, device: Device
) -> Generator[Event, None, Measured]:
    """Measure a volume; a generator of events, of which notes say what was found.

    Parameters
    ----------
    volume
        (z, y, x) or (z, y, x, c).
    model
        What will segment it.
    spec, plan
        The choices for the run, and its tiles.
    device
        Where it is computed.

    Raises
    ------
    VolumeError
        If no voxel of the sample is finite.
    ModelError
        If there are other classes than shares that were given.
    """
    from napari_unet3d.network.machine.devices import usable_memory

    scaling = measure(model.card.normalization, volume)
    yield from map(Note, scaling.notes)
    # Not what a tile takes: the sample is the same whatever the tiles are.
    memory = max(plan.peak_bytes, (spec.memory_bytes or usable_memory(device)) - plan.reading_bytes)
    shares = yield from _measure_shares(model, volume, spec, scaling, device, memory)
    looked_at = yield from look_where(volume, spec, plan)
    found = Measured(scaling=scaling.numbers, shares=shares, looked_at=looked_at)
    if shares is not None:
        card = found.suit(model).card
        named = zip(card.class_names, card.shares or (), strict=True)
        said = ", ".join(f"{name} {100 * share:.3g} %" for name, share in named)
        yield Note(f"Class shares assumed: {said}.", is_warning=False)
    return found


def _measure_shares(
    model: Model, volume: Readable, spec: PredictSpec, scaling: Scaling, device: Device, memory: int
) -> Generator[Event, None, tuple[float, ...] | None]:
    """Return how frequent the classes are taken to be; None where that is as the model has learnt."""
    from napari_unet3d.network.predictor import predictor_of

    learnt = model.card.shares
    if not isinstance(spec.prior, str):
        wanted = spec.prior
    elif spec.prior == "volume" and learnt is not None:
        yield Progress("looking how frequent the classes are", 0, 1)
        try:
            wanted = measure_shares(volume, model, predictor_of(model, device), scaling, memory=memory)
        except OutOfMemoryError:
            yield Note(f"{device.label} has no memory to look how frequent the classes are; they are taken as learnt.")
            wanted = learnt
    elif spec.emphasis:
        wanted = learnt or (1.0,) * model.spec.classes
    else:
        return None
    return emphasized(wanted, spec.emphasis)
