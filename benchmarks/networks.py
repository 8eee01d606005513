"""The same network with the same random weights in every library: from (z, y, x, c) to logits (z, y, x, classes).

Each function returns variants by name; all take a C-contiguous float32 NumPy array and return one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from contest import THREADS

from napari_unet3d.core.unet.spec import NetworkSpec
from napari_unet3d.network.model import Model, ModelCard

Forward = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
Shape = tuple[int, int, int]


def random_model(spec: NetworkSpec, seed: int = 0) -> Model:
    """Return a model whose logits differ from voxel to voxel; the same in every process."""
    rng = np.random.default_rng(seed)
    weights = {
        name: rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32)
        if name.endswith("kernel")
        else rng.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in spec.weight_shapes.items()
    }
    return Model(ModelCard(network=spec, class_names=tuple(map(str, range(spec.classes)))), weights)


def ours(model: Model, shape: Shape, precision: str = "float32") -> dict[str, Forward]:
    """Return what `napari_unet3d` computes with."""
    from napari_unet3d.network.machine.devices import select_device
    from napari_unet3d.network.predictor import compile_forward

    return {"oneDNN on": compile_forward(model.spec, model.weights, shape, "logits", select_device("cpu", precision))}


def tensorflow_as_it_comes(model: Model, shape: Shape) -> dict[str, Forward]:
    """Return the Keras model called through `tf.function`, TensorFlow's settings untouched."""
    import tensorflow as tf

    from napari_unet3d.network.unet import build_unet

    network = build_unet(model.spec)
    for variable in network.weights:
        variable.assign(model.weights[variable.path])
    function = tf.function(lambda image: network(image, training=False))

    def forward(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return function(tf.constant(image[np.newaxis])).numpy()[0]

    return {"as it comes": forward}


def pytorch_channels_last(model: Model, shape: Shape) -> dict[str, Forward]:
    """Return the network in PyTorch, the channels of a voxel side by side as in TensorFlow."""
    import torch

    return {"channels last": _torch_forward(model, torch.channels_last_3d)}


def pytorch_contiguous(model: Model, shape: Shape) -> dict[str, Forward]:
    """Return the network in PyTorch's own layout, one block of memory a channel."""
    import torch

    return {"contiguous": _torch_forward(model, torch.contiguous_format)}


def openvino(model: Model, shape: Shape, precision: str | None = "f32") -> dict[str, Forward]:
    """Return the network compiled by OpenVINO, converted from PyTorch and from TensorFlow; None: as it comes."""
    import openvino as ov
    import tensorflow as tf
    import torch

    from napari_unet3d.network.unet import build_unet

    z, y, x = shape
    channels = model.spec.channels
    example = torch.zeros(1, channels, *(92,) * 3)
    from_torch = ov.convert_model(_torch_module(model).eval(), example_input=example, input=[1, channels, z, y, x])
    network = build_unet(model.spec)
    for variable in network.weights:
        variable.assign(model.weights[variable.path])
    signature = tf.TensorSpec((1, z, y, x, channels), tf.float32)
    function = tf.function(lambda image: network(image, training=False)).get_concrete_function(signature)
    from_tensorflow = ov.convert_model(function, input=[1, z, y, x, channels])

    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS}
    if precision is not None:
        properties["INFERENCE_PRECISION_HINT"] = precision
    core = ov.Core()

    def compiled(graph: Any, channels_first: bool) -> Forward:
        request = core.compile_model(graph, "CPU", properties).create_infer_request()

        def forward(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            # With one channel both layouts are the same bytes.
            image = image.reshape(1, channels, z, y, x) if channels_first else image[np.newaxis]
            logits = next(iter(request.infer([image], share_inputs=True, share_outputs=True).values()))[0]
            return np.moveaxis(logits, 0, -1) if channels_first else logits

        return forward

    return {"from PyTorch": compiled(from_torch, True), "from TensorFlow": compiled(from_tensorflow, False)}


def _torch_forward(model: Model, layout: Any) -> Forward:
    import torch

    torch.set_num_threads(THREADS)
    module = _torch_module(model).to(memory_format=layout).eval()

    def forward(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            tensor = torch.from_numpy(image)[None].permute(0, 4, 1, 2, 3).contiguous(memory_format=layout)
            return module(tensor)[0].permute(1, 2, 3, 0).numpy()

    return forward


def _torch_module(model: Model) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class UNet(nn.Module):
        """The layers of a NetworkSpec, one after the other."""

        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.ModuleDict()
            for layer in model.spec.layers:
                if layer.has_weights:
                    self.steps[layer.name] = self._step(layer)

        def _step(self, layer: Any) -> nn.Module:
            widths = layer.channels_in, layer.channels_out
            if layer.kind == "upsample":
                step = nn.ConvTranspose3d(*widths, layer.kernel, stride=layer.factor)
            else:
                step = nn.Conv3d(*widths, layer.kernel)
            # Keras has (z, y, x, in, out), and (z, y, x, out, in) where transposed; PyTorch has (out, in, z, y, x), and
            # (in, out, z, y, x): the same swap for both.
            kernel = model.weights[f"{layer.name}/kernel"].transpose(4, 3, 0, 1, 2)
            step.weight.data = torch.from_numpy(np.ascontiguousarray(kernel))
            step.bias.data = torch.from_numpy(model.weights[f"{layer.name}/bias"])
            return step

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            skips = []
            for layer in model.spec.layers:
                if layer.kind == "crop":
                    skips.append(x[:, :, *(slice(n, -n or None) for n in layer.crop)])
                elif layer.kind == "pool":
                    x = functional.max_pool3d(x, layer.factor)
                elif layer.kind == "concatenate":
                    x = torch.cat([x, skips.pop()], dim=1)
                else:
                    x = self.steps[layer.name](x)
                    x = functional.relu(x, inplace=True) if layer.kind == "conv" else x
            return x

    return UNet()
