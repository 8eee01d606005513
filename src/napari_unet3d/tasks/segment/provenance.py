"""How a result was made, as text that every output carries: the program, the model, the choices.

Nothing in it depends on the machine or the hour, so that the same job gives the same bytes wherever and whenever.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet3d.tasks.specs import HOW, PredictSpec

if TYPE_CHECKING:
    from napari_unet3d.network.model import Model


def made_by(model: Model, spec: PredictSpec, computed_in: str) -> str:
    """Return how a segmentation is made, as JSON.

    Parameters
    ----------
    model
        Told apart by `Model.fingerprint`.
    spec
        The choices for the run.
    computed_in
        The type of the numbers that are multiplied, `Device.computes_in`: a GPU may take float16 for float32.
    """
    choices = spec.model_dump(mode="json", exclude=set(HOW))
    if spec.mask is not None:
        # Where it lay is a matter of the machine.
        choices["mask"] = Path(spec.mask).name
    facts = {
        "software": f"napari-unet3d {version('napari-unet3d')}",
        "model": {
            "fingerprint": model.fingerprint(),
            "network": model.spec.shape_text,
            "filters": model.spec.filters,
            "classes": model.card.class_names,
        },
        "spec": choices,
        "computed_in": computed_in,
    }
    return json.dumps(facts, ensure_ascii=True)
