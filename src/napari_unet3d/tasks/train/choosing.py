"""The choices for a run: what a person says, and what suits the annotation for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.tasks.train.annotation import Painted
from napari_unet3d.tasks.train.recipes import FINE_TUNING_RATE, advised_network, names_of_recipes, recipe
from napari_unet3d.tasks.train.spec import TrainSpec

if TYPE_CHECKING:
    from napari_unet3d.network.model import ModelCard


@dataclass(frozen=True)
class TrainChoices:
    """What a person has chosen; everything else is chosen to suit the annotation.

    Attributes
    ----------
    preset
        A kind of microscopy, or "as the original"; None looks at the voxels and the annotation.
    network
        Arguments of `NetworkSpec.changed`, by name.
    given
        Fields of `TrainSpec`, by name, except the network and the class names.
    """

    preset: str | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: TrainSpec) -> TrainChoices:
        """Return the choices that leave nothing open: `choose_spec` gives the spec again, whatever is painted."""
        derived = ("levels", "bottleneck", "classes", "channels")
        network = {name: getattr(spec.network, name) for name in NetworkSpec.model_fields if name not in derived}
        left_out = ("network", "class_names")
        given = {name: getattr(spec, name) for name in TrainSpec.model_fields if name not in left_out}
        return cls(None, spec.network.short_form | network, given)

    def to_json(self) -> dict[str, Any]:
        """Return the choices as plain numbers and text, for `from_json`."""
        return {
            "preset": self.preset,
            "network": to_jsonable_python(dict(self.network)),
            "given": to_jsonable_python(dict(self.given)),
        }

    @classmethod
    def from_json(cls, told: Any) -> TrainChoices:
        """Return choices that were kept; what this version does not understand is left out."""
        known = told if isinstance(told, Mapping) else {}
        preset = known.get("preset")
        return cls(
            preset if preset in names_of_recipes() else None,
            _understood(known.get("network"), {**NetworkSpec.model_fields, **_SHORT_FORM}),
            _understood(known.get("given"), TrainSpec.model_fields),
        )


# What `NetworkSpec.changed` takes beside its fields.
_SHORT_FORM = {name: FieldInfo(annotation=int) for name in ("blocks", "flat_levels")}


def _understood(told: Any, fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    found = {}
    for name, value in told.items() if isinstance(told, Mapping) else ():
        if name in fields:
            adapter: TypeAdapter[Any] = TypeAdapter(fields[name].rebuild_annotation())
            with suppress(ValidationError):
                found[name] = adapter.validate_python(value)
    return found


def choose_spec(
    painted: Painted,
    choices: TrainChoices | None = None,
    *,
    card: ModelCard | None = None,
    base: TrainSpec | None = None,
) -> TrainSpec:
    """Return how a network is trained: what was chosen, then what a run was begun with, then what suits.

    Parameters
    ----------
    painted
        Facts about the annotation.
    choices
        The choices; None leaves everything open.
    card
        Card of the model to start from; its network and its normalization are kept.
    base
        The spec of the run that goes on.

    Raises
    ------
    SpecError
        If there is no such preset.
    pydantic.ValidationError
        If the choices contradict each other; see `TrainSpec`.
    """
    choices = choices or TrainChoices()
    if base is not None:
        network = base.network.changed(**choices.network, channels=painted.channels)
        rest = {name: getattr(base, name) for name in TrainSpec.model_fields}
    else:
        begun = advised_network(choices.preset, painted)[0] if card is None else card.network
        own = choices.network if card is None else {}
        network = begun.changed(**own, channels=painted.channels, classes=len(painted.class_names))
        rest = recipe(choices.preset, network, painted)
        if card is not None:
            rest |= {"normalization": card.normalization, "learning_rate": FINE_TUNING_RATE}
    return TrainSpec(**(rest | {"network": network, "class_names": painted.class_names} | dict(choices.given)))
