"""Who learns before the judge, each as its own documentation would have it.

A contestant is a function: it takes a task, the CPU minutes that it may use and a seed, and yields for each of these
minutes (minutes, seconds used, probabilities (z, y, x, classes) of what is scored, notes).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from learning_peers import nnunet, pytorch_3dunet
from learning_tasks import UNKNOWN, UNPAINTED, Task

from napari_unet3d import segment
from napari_unet3d.core.boxes import Box
from napari_unet3d.tasks.driving import drive
from napari_unet3d.tasks.events import Event, StepDone
from napari_unet3d.tasks.specs import PredictSpec
from napari_unet3d.tasks.train.annotation import Annotation, TrainingPair, read_annotation
from napari_unet3d.tasks.train.choosing import TrainChoices, choose_spec
from napari_unet3d.tasks.train.loop import train
from napari_unet3d.tasks.train.spec import TrainSpec

Answer = tuple[float, float, npt.NDArray[np.float32], str]
Contestant = Callable[[Task, Sequence[float], int], Iterator[Answer]]
# Steps that tell how long one takes; the first also builds the graph.
_TRIED = 16
# Of the random forest.
_TREES, _TREES_AT_ONCE = 100, 4


def ours(
    task: Task, minutes: Sequence[float], seed: int, *, preset: str | None = None, **choices: Any
) -> Iterator[Answer]:
    """Train with the defaults, as many steps as the minutes allow."""
    pair = TrainingPair(task.image, task.painted, task.meanings, voxel_size=task.voxel_size)
    annotation = read_annotation([pair])
    network = choices.pop("network", {})
    base = {"seed": seed, "device": "cpu"} | choices
    spec = choose_spec(annotation.painted, TrainChoices(preset, network, base))
    first, each = _seconds_per_step(spec, annotation)
    for budget in minutes:
        steps = max(10, int((60 * budget - first) / each))
        asked = choose_spec(annotation.painted, TrainChoices(preset, network, base | {"steps": steps}))
        begun = time.process_time()
        result = drive(train(asked, annotation), None)
        used = time.process_time() - begun
        inside = Box(*((int(at.min()), int(at.max()) + 1) for at in np.nonzero(task.truth != UNKNOWN)))
        found = segment(task.other, result.best, spec=PredictSpec(output="probabilities", region=inside, device="cpu"))
        probabilities = np.zeros((*task.truth.shape, len(task.classes)), np.float32)
        probabilities[inside.slices] = found.data
        notes = f"{steps} steps of {each:.2f} s, patch {asked.patch}, {asked.network.shape_text}"
        if result.scores is not None:
            # To be compared with the Dice that is found elsewhere.
            notes += f", held-out Dice {result.scores.first[-1]:.3f}"
        yield budget, used, probabilities, notes


def _seconds_per_step(spec: TrainSpec, annotation: Annotation) -> tuple[float, float]:
    """Return the CPU seconds of the first step, with all that comes before it, and of each further one."""
    times = [time.process_time()]

    def tell(event: Event) -> None:
        if isinstance(event, StepDone):
            times.append(time.process_time())

    drive(train(spec.changed(steps=_TRIED, validation="none"), annotation), tell)
    # The first steps are slower, and any may be.
    each = float(np.median(np.diff(times[4:])))
    return times[1] - times[0], each


def forest(task: Task, minutes: Sequence[float], seed: int) -> Iterator[Answer]:
    """Train a random forest on the responses of filters at five scales, the way of ilastik.

    It grows a hundred trees, a few at a time, and fewer where the minutes do not allow more.
    """
    from sklearn.ensemble import RandomForestClassifier

    begun = time.process_time()
    painted = task.painted != UNPAINTED
    values, classes = features(task.image)[painted], task.painted[painted] - 1
    used = time.process_time() - begun
    others = features(task.other)
    counts = task.truth != UNKNOWN
    trees = RandomForestClassifier(0, n_jobs=1, random_state=seed, min_samples_leaf=2, warm_start=True)
    each = 0.0
    for budget in minutes:
        while trees.n_estimators < _TREES and (not trees.n_estimators or used + each <= 60 * budget):
            begun = time.process_time()
            trees.set_params(n_estimators=trees.n_estimators + _TREES_AT_ONCE).fit(values, classes)
            each = time.process_time() - begun
            used += each
        probabilities = np.zeros((*task.truth.shape, len(task.classes)), np.float32)
        probabilities[counts] = trees.predict_proba(others[counts])
        notes = f"{len(values):,} voxels, {values.shape[1]} features, {trees.n_estimators} trees"
        yield budget, used, probabilities, notes


def features(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return what ilastik offers for pixel classification, (z, y, x, features), at sigmas of 0.7 to 5 voxels."""
    from scipy import ndimage
    from skimage.feature import hessian_matrix, hessian_matrix_eigvals, structure_tensor, structure_tensor_eigenvalues

    image = image.astype(np.float32)
    found = []
    for sigma in (0.7, 1.0, 1.6, 3.5, 5.0):
        found.append(ndimage.gaussian_filter(image, sigma))
        found.append(ndimage.gaussian_laplace(image, sigma))
        found.append(ndimage.gaussian_gradient_magnitude(image, sigma))
        hessian = hessian_matrix(image, sigma, use_gaussian_derivatives=False)
        found += list(hessian_matrix_eigvals(hessian))
        smooth = ndimage.gaussian_filter(image, 0.5 * sigma)
        found += list(structure_tensor_eigenvalues(structure_tensor(smooth, sigma)))
    return np.stack([one.astype(np.float32) for one in found], axis=-1)


CONTESTANTS: dict[str, Contestant] = {
    "ours": ours,
    "original": partial(ours, preset="as the original"),
    "forest": forest,
    "unet3d": partial(pytorch_3dunet, network="UNet3D"),
    "residual": partial(pytorch_3dunet, network="ResidualUNet3D"),
    "nnunet": nnunet,
}
