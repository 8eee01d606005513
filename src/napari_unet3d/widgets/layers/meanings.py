"""What a labels layer itself says of its values: in its metadata, which may be saved with it, and in its features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_unet3d.core.annotation.meanings import COMPLETE, Meanings
from napari_unet3d.widgets.layers.colours import UNLABELLED
from napari_unet3d.widgets.layers.writers import class_names

if TYPE_CHECKING:
    from napari.layers import Labels

((_KEY, _SAYS_COMPLETE),) = COMPLETE.items()
_MEANINGS = "meanings"


def written_meanings(layer: Labels) -> Meanings | None:
    """Return what somebody has said that the values mean, or what our own results and annotations mean; or None."""
    told = _metadata(layer).get(_MEANINGS)
    try:
        return _of_features(layer) if told is None else Meanings.model_validate(told)
    except ValidationError:  # other versions, other people
        return None


def write_meanings(layer: Labels, meanings: Meanings) -> None:
    """Keep what the values mean in the metadata of the layer, as plain text and numbers, and tell of it."""
    told = {_MEANINGS: meanings.model_dump(mode="json")}
    layer.metadata = {**layer.metadata, _KEY: {**_metadata(layer), **told}}


def metadata_of(meanings: Meanings) -> dict[str, Any]:
    """Return the metadata of a new layer whose values have these meanings."""
    return {_KEY: {_MEANINGS: meanings.model_dump(mode="json")}}


def is_complete(layer: Labels) -> bool:
    """Return whether it is known that every voxel was looked at, so that 0 is background."""
    return _SAYS_COMPLETE.items() <= _metadata(layer).items()


def _metadata(layer: Labels) -> dict[str, Any]:
    found = layer.metadata.get(_KEY)
    return found if isinstance(found, dict) else {}


def _of_features(layer: Labels) -> Meanings | None:
    names = class_names(layer.features)
    if names[:1] == (UNLABELLED,):
        return Meanings.painted(names[1:]) if len(names) > 2 else None
    return Meanings.indices(names) if len(names) > 1 else None
