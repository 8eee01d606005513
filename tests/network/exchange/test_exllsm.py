from __future__ import annotations

import h5py
import numpy as np
import pytest
import tifffile

from napari_unet3d.core.unet.costs import n_parameters
from napari_unet3d.errors import ModelError
from napari_unet3d.network.exchange.exllsm import import_exllsm
from tests.support.models import logits_of, random_model

KERNEL = "model_weights/input_block/input_block_1/conv3d_1/kernel:0"


def write_keras_2(path, model):
    """Write the weights of a model the way Keras 2 saves a whole model of this lineage."""
    number = 0
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights")
        root.create_group("input_1").attrs["weight_names"] = np.array([], "S1")
        for layer in model.spec.layers:
            if not layer.has_weights:
                continue
            block = layer.block.replace("sample", "sample_block") if "sample" in layer.block else f"{layer.block}_block"
            group = root.require_group(block)
            number += 1
            names = list(group.attrs.get("weight_names", []))
            for name in layer.weight_shapes:
                inner = f"{block}_1/conv3d_{number}/{name.rpartition('/')[2]}:0"
                group[inner] = model.weights[name]
                names.append(inner.encode())
            group.attrs["weight_names"] = np.array(names, "S")
    return path


@pytest.fixture
def keras_file(tmp_path):
    return write_keras_2(tmp_path / "network.h5", random_model(blocks=2))


def test_the_published_network_gives_the_published_logits(shared_data):
    model = import_exllsm(shared_data / "exllsm" / "neuron_2021.h5")
    assert (model.spec.blocks, model.spec.filters, model.spec.classes) == (2, 4, 2)
    assert n_parameters(model.spec) == 298_418
    image = tifffile.imread(shared_data / "exllsm" / "golden_input_100.tif")
    expected = np.load(shared_data / "exllsm" / "golden_logits_12.npy")
    logits = logits_of(model, image)
    assert (logits.shape, logits.dtype) == ((12, 12, 12, 2), np.float32)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("choices", [{"blocks": 1}, {"blocks": 3, "filters": 1}, {"classes": 4, "channels": 2}])
def test_a_network_of_the_lineage_is_recognised_by_its_shapes(tmp_path, choices):
    model = random_model(**choices)
    imported = import_exllsm(write_keras_2(tmp_path / "network.h5", model))
    assert imported.spec == model.spec
    for name, array in model.weights.items():
        np.testing.assert_array_equal(imported.weights[name], array)


@pytest.fixture
def victim(tmp_path):
    """Return a file of floats that no import may read, with the shape of the first kernel."""
    path = tmp_path / "victim.h5"
    with h5py.File(path, "w") as file:
        file["secret"] = np.full((3, 3, 3, 1, 2), 7, np.float32)
    return path


def external_link(file, victim):
    file[KERNEL] = h5py.ExternalLink(victim, "/secret")


def soft_link(file, victim):
    file["elsewhere"] = np.zeros((3, 3, 3, 1, 2), np.float32)
    file[KERNEL] = h5py.SoftLink("/elsewhere")


def external_storage(file, victim):
    file.create_dataset(KERNEL, (3, 3, 3, 1, 2), "f4", external=[(str(victim), 0, h5py.h5f.UNLIMITED)])


def virtual(file, victim):
    layout = h5py.VirtualLayout((3, 3, 3, 1, 2), "f4")
    layout[...] = h5py.VirtualSource(victim, "secret", (3, 3, 3, 1, 2))
    file.create_virtual_dataset(KERNEL, layout)


def objects(file, victim):
    file.create_dataset(KERNEL, (3, 3, 3, 1, 2), h5py.string_dtype())


def integers(file, victim):
    file[KERNEL] = np.zeros((3, 3, 3, 1, 2), np.int32)


def huge(file, victim):
    file.create_dataset(KERNEL, (1 << 20, 1 << 20, 3, 1, 2), "f4", chunks=(64, 64, 3, 1, 2))


def a_group(file, victim):
    file.create_group(KERNEL)


def other_shape(file, victim):
    file[KERNEL] = np.zeros((5, 5, 5, 1, 2), np.float32)


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (external_link, r"link to /secret in .*victim\.h5"),
        (soft_link, "link to /elsewhere"),
        (external_storage, "lie in another file"),
        (virtual, "lie in another file"),
        (objects, "holds object, not floating point"),
        (integers, "holds int32"),
        (huge, "were never written"),
        (a_group, "is not an array"),
        (other_shape, r"another architecture: input_block has arrays of \[\(5, 5, 5"),
    ],
)
def test_an_array_that_is_not_plain_numbers_of_the_right_shape_is_refused(keras_file, victim, replace, message):
    with h5py.File(keras_file, "r+") as file:
        del file[KERNEL]
        replace(file, victim)
    with pytest.raises(ModelError, match=message):
        import_exllsm(keras_file)


def test_a_link_to_a_whole_block_is_not_followed(keras_file, victim):
    with h5py.File(keras_file, "r+") as file:
        del file["model_weights/input_block"]
        file["model_weights/input_block"] = h5py.ExternalLink(victim, "/")
    with pytest.raises(ModelError, match="links are not followed"):
        import_exllsm(keras_file)


def test_a_name_that_leaves_its_block_is_refused(keras_file):
    with h5py.File(keras_file, "r+") as file:
        names = file["model_weights/input_block"].attrs["weight_names"]
        names[0] = b"../output_block/x"
        file["model_weights/input_block"].attrs["weight_names"] = names
    with pytest.raises(ModelError, match="not where it should be"):
        import_exllsm(keras_file)


@pytest.mark.parametrize("block", ["downsample_block_1", "bottleneck_block", "output_block"])
def test_a_network_that_lacks_a_block_is_another_architecture(keras_file, block):
    with h5py.File(keras_file, "r+") as file:
        del file["model_weights"][block]
    with pytest.raises(ModelError, match=r"another architecture|not a 3D U-Net"):
        import_exllsm(keras_file)


def test_a_network_with_more_blocks_is_another_architecture(keras_file):
    with h5py.File(keras_file, "r+") as file:
        file.copy("model_weights/output_block", "model_weights/attention_block")
    with pytest.raises(ModelError, match="it also has attention_block"):
        import_exllsm(keras_file)


def test_files_of_another_kind_are_said_to_be_so(tmp_path):
    with pytest.raises(ModelError, match="no file"):
        import_exllsm(tmp_path / "missing.h5")
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(ModelError, match="not an HDF5 file"):
        import_exllsm(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["image"] = np.zeros(3)
    with pytest.raises(ModelError, match="holds no /model_weights"):
        import_exllsm(tmp_path / "other.h5")
