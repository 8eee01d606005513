"""Other programs' networks and recipes before the judge of learning: pytorch-3dunet and nnU-Net v2.

Each is driven through its own classes: planner, loaders, augmentation, loss, optimizer and prediction. Only what a few
minutes of one core demand is set here: features per level, patches, and that nothing is held out for a validation that
would not come due. Neither package is needed by the rest of the judge; `benchmarks/requirements.txt` names them.

Time is counted from after the imports, and only until the network is trained; all that is kept on disk is in a
temporary folder.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from learning_tasks import UNKNOWN, UNPAINTED, Shape, Task

if TYPE_CHECKING:
    from learning_contestants import Answer

# pytorch-3dunet. Its configurations have 32 features in the first level; this is half, so that a core makes about
# one step per second. Patch and strides are those of its `train_config_dice.yaml`, the smallest that it documents.
_FEATURES = 16
_PATCH: Shape = (32, 64, 64)
_STRIDE: Shape = (8, 16, 16)
_HALO: Shape = (8, 16, 16)
# A label that its loss leaves out.
_IGNORED = -1
# Of the annotated voxels in the fullest patch: patches with less are left out.
_LEAST_SHARE = 0.25

# nnU-Net. Its planner takes 32 features and 8 GB for patches of 128 cubed voxels, two per step; with these it plans
# patches of about 130,000 voxels, which a core learns from in a second.
_BASE_FEATURES = 16
_GRAPHICS_GB = 0.25
# Its environment variables.
_FOLDERS = _RAW, _PREPROCESSED, _ = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
_N_PROCESSES = "nnUNet_n_proc_DA"


@contextmanager
def _needing(package: str) -> Iterator[None]:
    """Say which package to install where an import fails."""
    try:
        yield
    except ImportError as error:
        raise SystemExit(f"This contestant needs {package} ({error}). Install it: pip install {package}") from error


def pytorch_3dunet(task: Task, minutes: Sequence[float], seed: int, *, network: str) -> Iterator[Answer]:
    """Train a network of pytorch-3dunet by its configuration for several classes, one step after the other.

    `network` is the name of its class. From that configuration are cross entropy, Adam with a learning rate of 2e-4
    and a weight decay of 1e-5, one patch per step, patch-wise standardization, flips, turns and elastic deformation.
    Its rate falls only after validations, 1,000 steps apart, so it stays the same here, and one run gives the
    probabilities at all minutes.
    """
    with _needing("pytorch3dunet"):
        import h5py
        import torch
        from pytorch3dunet.augment import transforms
        from pytorch3dunet.datasets.hdf5 import StandardHDF5Dataset
        from pytorch3dunet.unet3d.losses import get_loss_criterion
        from pytorch3dunet.unet3d.model import get_model
        from pytorch3dunet.unet3d.utils import create_optimizer
        from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    transforms.GLOBAL_RANDOM_STATE.seed(seed)
    begun, used, steps = time.process_time(), 0.0, 0
    with TemporaryDirectory() as folder:
        file = Path(folder) / "train.h5"
        labels = np.where(task.painted == UNPAINTED, _IGNORED, task.painted.astype(np.int16) - 1)
        with h5py.File(file, "w") as stored:
            stored["raw"], stored["label"] = task.image, labels
        patch = [min(n, side) for n, side in zip(_PATCH, task.image.shape, strict=True)]
        slices = {"name": "SliceBuilder", "patch_shape": patch, "stride_shape": _STRIDE, "skip_shape_check": True}
        patches = StandardHDF5Dataset(str(file), "train", slices, _augmentation())
        _keep_annotated(patches, labels)
        model = get_model(
            {
                "name": network,
                "in_channels": 1,
                "out_channels": len(task.classes),
                "layer_order": "gcr",
                "f_maps": _FEATURES,
                "num_groups": 8,
                "final_sigmoid": False,
            }
        )
        criterion = get_loss_criterion(
            {"device": "cpu", "loss": {"name": "CrossEntropyLoss", "ignore_index": _IGNORED}}
        )
        optimizer = create_optimizer({"learning_rate": 2e-4, "weight_decay": 1e-5}, model)
        batches = _endless(DataLoader(patches, batch_size=1, shuffle=True))
        longest = 0.0
        for budget in sorted(minutes):
            model.train()
            while True:
                before = time.process_time()
                if used + (before - begun) + longest > 60 * budget:
                    break
                inputs, targets = next(batches)
                _, logits = model(inputs, return_logits=True)
                loss = criterion(logits, targets)
                optimizer.zero_grad()
                # Turned and flipped, a patch may have lost all that is annotated in it.
                if torch.isfinite(loss):
                    loss.backward()
                    optimizer.step()
                    steps += 1
                longest = max(longest, time.process_time() - before)
            used += time.process_time() - begun
            notes = f"{steps} steps, patch {patch}, {_FEATURES} features, {len(patches)} patches"
            yield budget, used, _segment_3dunet(task, model, folder), notes
            begun = time.process_time()


def _augmentation() -> dict[str, Any]:
    """Return the transforms of the configuration for several classes."""
    both: list[dict[str, Any]] = [
        {"name": "RandomFlip"},
        {"name": "RandomRotate90"},
        {"name": "RandomRotate", "axes": [[2, 1]], "angle_spectrum": 30, "mode": "reflect"},
    ]
    raw = [
        {"name": "Standardize"},
        *both,
        {"name": "ElasticDeformation", "spline_order": 3},
        {"name": "ToTensor", "expand_dims": True},
    ]
    label = [
        *both,
        {"name": "ElasticDeformation", "spline_order": 0},
        {"name": "ToTensor", "expand_dims": False, "dtype": "int64"},
    ]
    return {"raw": raw, "label": label}


def _keep_annotated(patches: Any, labels: npt.NDArray[np.int16]) -> None:
    """Leave out patches with little annotation, as its `FilterSliceBuilder` does, which counts objects only."""
    counts = np.array([np.count_nonzero(labels[at] != _IGNORED) for at in patches.label_slices])
    kept = np.flatnonzero(counts >= _LEAST_SHARE * counts.max())
    patches.raw_slices = [patches.raw_slices[at] for at in kept]
    patches.label_slices = [patches.label_slices[at] for at in kept]
    patches.patch_count = len(kept)


def _endless(batches: Any) -> Iterator[Any]:
    while True:
        yield from batches


def _segment_3dunet(task: Task, model: Any, folder: str) -> npt.NDArray[np.float32]:
    """Return what its predictor finds in what is scored: (z, y, x, classes)."""
    import h5py
    from pytorch3dunet.datasets.hdf5 import StandardHDF5Dataset
    from pytorch3dunet.datasets.utils import default_prediction_collate
    from pytorch3dunet.unet3d.config import TorchDevice
    from pytorch3dunet.unet3d.predictor import StandardPredictor
    from torch.utils.data import DataLoader

    region = _region(task.truth != UNKNOWN, _PATCH)
    file = Path(folder) / "test.h5"
    with h5py.File(file, "w") as stored:
        stored["raw"] = task.other[region]
    patch = [min(n, at.stop - at.start) for n, at in zip(_PATCH, region, strict=True)]
    # A halo is mirrored at the ends, which takes one voxel more than it is wide.
    halo = [min(n, at.stop - at.start - 1) for n, at in zip(_HALO, region, strict=True)]
    slices = {"name": "SliceBuilder", "patch_shape": patch, "stride_shape": patch, "halo_shape": halo}
    raw = [{"name": "Standardize"}, {"name": "ToTensor", "expand_dims": True}]
    patches = StandardHDF5Dataset(str(file), "test", slices | {"skip_shape_check": True}, {"raw": raw})
    predictor = StandardPredictor(model, folder, len(task.classes), TorchDevice.CPU)
    predictor(DataLoader(patches, batch_size=1, collate_fn=default_prediction_collate))
    probabilities = np.zeros((*task.truth.shape, len(task.classes)), np.float32)
    with h5py.File(Path(folder) / "test_predictions.h5") as stored:
        probabilities[region] = np.moveaxis(stored["predictions"][:], 0, -1)
    return probabilities


def nnunet(task: Task, minutes: Sequence[float], seed: int) -> Iterator[Answer]:
    """Train nnU-Net v2: a run for each of the minutes, for its learning rate ends with the run.

    Planner, preprocessing, loader, augmentation, loss and steps are its own, on all there is (its fold "all"), and so
    is the prediction: a sliding window by half a patch, weighted by a Gaussian, mirrored along all axes. Its rate falls
    with the share of the time that has passed, instead of that of 1,000 epochs.
    """
    os.environ |= {"nnUNet_def_n_proc": "1", _N_PROCESSES: "1"}
    with _needing("nnunetv2"):
        import nnunetv2.experiment_planning.experiment_planners.default_experiment_planner
        import nnunetv2.inference.predict_from_raw_data
        import nnunetv2.training.nnUNetTrainer.nnUNetTrainer  # noqa: F401

    for budget in minutes:
        with TemporaryDirectory() as folder:
            os.environ |= {variable: str(Path(folder) / variable) for variable in _FOLDERS}
            used, trainer, notes = _train_nnunet(task, 60 * budget, seed)
            yield budget, used, _segment_nnunet(task, trainer), notes


def _train_nnunet(task: Task, seconds: float, seed: int) -> tuple[float, Any, str]:
    """Return the seconds used, its trainer, and notes."""
    import torch
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    begun = time.process_time()
    plans, about = _plan_nnunet(task)
    # The loader makes its patches itself from here on; the planner takes this for a number of threads.
    os.environ[_N_PROCESSES] = "0"
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")

    # Its label for what nobody has painted is the one after the classes.
    labels = np.where(task.painted == UNPAINTED, len(task.classes), task.painted - np.uint8(1)).astype(np.int16)
    properties = {"spacing": list(task.voxel_size)}
    data, kept, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        task.image[None], labels[None], properties, manager, configuration, about
    )
    folder = Path(os.environ[_PREPROCESSED]) / manager.dataset_name / configuration.data_identifier
    folder.mkdir(parents=True, exist_ok=True)
    blocks, chunks = comp_blosc2_params(data.shape, tuple(configuration.patch_size), data.itemsize)
    nnUNetDatasetBlosc2.save_case(data, kept, properties, str(folder / "one"), chunks=chunks, blocks=blocks)

    trainer = nnUNetTrainer(plans | {"continue_training": False}, "3d_fullres", "all", about, torch.device("cpu"))
    trainer.initialize()
    schedule = PolyLRScheduler(trainer.optimizer, trainer.initial_lr, seconds)
    batches, _ = trainer.get_dataloaders()
    trainer.network.train()
    steps, longest = 0, 0.0
    while True:
        before = time.process_time()
        if before - begun + longest > seconds:
            break
        schedule.step(before - begun)
        trainer.train_step(next(batches))
        longest = max(longest, time.process_time() - before)
        steps += 1
    used = time.process_time() - begun

    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    notes = (
        f"{steps} steps, {configuration.batch_size} patches of {[int(n) for n in configuration.patch_size]}, "
        f"features {list(network['features_per_stage'])}"
    )
    return used, trainer, notes


def _plan_nnunet(task: Task) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what its planner makes of the image, and its description of the data."""
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    name = "Dataset001_task"
    labels = {"background": 0} | {label: at for at, label in enumerate(task.classes[1:], start=1)}
    about = {
        "channel_names": {"0": "microscopy"},
        "labels": labels | {"ignore": len(task.classes)},
        "numTraining": 1,
        "file_ending": ".tif",
        "overwrite_image_reader_writer": "Tiff3DIO",
        "dataset": {"one": {"images": ["one_0000.tif"], "label": "one.tif"}},
    }
    fingerprint = {
        "spacings": [list(task.voxel_size)],
        "shapes_after_crop": [list(task.image.shape)],
        "foreground_intensity_properties_per_channel": {"0": {}},
        "median_relative_size_after_cropping": 1.0,
    }
    written = (
        (_RAW, "dataset.json", about),
        (_PREPROCESSED, "dataset_fingerprint.json", fingerprint),
    )
    for root, file, content in written:
        folder = Path(os.environ[root]) / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(content))
    os.environ[_N_PROCESSES] = "1"
    planner = ExperimentPlanner(name, gpu_memory_target_in_gb=_GRAPHICS_GB)
    planner.UNet_base_num_features = _BASE_FEATURES
    # No second plan for the image at a lower resolution, which would not be used.
    planner.lowres_creation_threshold = 0
    return planner.plan_experiment(), about


def _segment_nnunet(task: Task, trainer: Any) -> npt.NDArray[np.float32]:
    """Return what its predictor finds in what is scored: (z, y, x, classes)."""
    import torch
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    manager, configuration, about = trainer.plans_manager, trainer.configuration_manager, trainer.dataset_json
    counts = (task.truth != UNKNOWN).astype(np.int16)
    properties = {"spacing": list(task.voxel_size)}
    data, its_counts, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        task.other[None], counts[None], properties, manager, configuration, about
    )
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        manager,
        configuration,
        [trainer.network.state_dict()],
        about,
        "nnUNetTrainer",
        trainer.inference_allowed_mirroring_axes,
    )
    region = _region(its_counts[0] > 0, configuration.patch_size)
    logits = torch.zeros((len(task.classes), *data.shape[1:]))
    inside = torch.from_numpy(np.ascontiguousarray(data[(slice(None), *region)]))
    logits[(slice(None), *region)] = predictor.predict_logits_from_preprocessed_data(inside).float()
    _, found = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        manager,
        configuration,
        trainer.label_manager,
        properties,
        return_probabilities=True,
        num_threads_torch=1,
    )
    return np.ascontiguousarray(np.moveaxis(found, 0, -1), np.float32)


def _region(counts: npt.NDArray[np.bool_], patch: Sequence[int]) -> tuple[slice, ...]:
    """Return the box of what counts with half a patch around it, as far as there is any, (z, y, x)."""
    region = []
    for axis, size in enumerate(patch):
        others = tuple(other for other in range(counts.ndim) if other != axis)
        at = np.flatnonzero(counts.any(axis=others))
        region.append(
            slice(max(0, int(at[0]) - int(size) // 2), min(counts.shape[axis], int(at[-1]) + int(size) // 2 + 1))
        )
    return tuple(region)
