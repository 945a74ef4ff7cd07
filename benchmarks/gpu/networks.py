"""Networks: the four that are measured, as bundles and as sessions and modules on the device."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.vision_transformer import VisionTransformer

from benchmarks.gpu.section import Setting
from benchmarks.predict.network import IMAGENET
from benchmarks.zoo.alive import make_alive
from onward.backends import Threads, open_artifact
from onward.backends.onnxruntime_backend import SessionBackend
from onward.backends.providers import ProviderRequest
from onward.backends.torch_backend import ExportedProgramBackend
from onward.bundle import MANIFEST, Bundle
from onward.errors import DataError
from onward.signature import IMAGE, Signature, of_images
from onward.tasks.classification import OUTPUTS
from onward_export.deployable import Deployable, make_deployable
from onward_training.checkpoint import Checkpoint
from onward_training.data import load
from onward_training.loop import train
from onward_training.options import TrainOptions

__all__ = [
    "BoundOnDevice",
    "bundle_of",
    "deployable_of",
    "pixels_for",
    "session_backend",
    "synchronize",
    "torch_backend",
]

SMALL = Signature(32, 32, 3, IMAGENET.mean, IMAGENET.std, tuple(map(str, range(10))))


def path_of(name: str, setting: Setting) -> Path:
    """Where the bundle of a network is."""
    return setting.work / f"{name}-{platform.python_version()}-{torch.__version__}{'-quick' * setting.quick}"


def bundle_of(name: str, setting: Setting) -> Bundle:
    """The bundle of a network, which the section `bundles` has made.

    Raises:
        DataError: It has not.
    """
    path = path_of(name, setting)
    if not (path / MANIFEST).is_file():
        raise DataError(f"the bundle of {name} was not made: see the section bundles:{name}.")
    return Bundle.open(path)


def network_of(name: str, setting: Setting) -> tuple[nn.Module, Signature]:
    """A network and its signature. `cnn` is trained on scikit-learn's digits; the others have random weights."""
    if name == "cnn":
        checkpoint = digits_checkpoint(setting)
        return checkpoint.network(), of_images(checkpoint.signature)
    torch.manual_seed(0)
    signature = SMALL if setting.quick else IMAGENET
    network: nn.Module = _small_vit(setting) if name == "vit_s_16" else get_model(name, weights=None)
    make_alive(network, signature)
    return network, signature


def _small_vit(setting: Setting) -> nn.Module:
    if setting.quick:
        sizes = {"image_size": 32, "num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64, "num_classes": 10}
    else:
        sizes = {"image_size": 224, "num_layers": 12, "num_heads": 6, "hidden_dim": 384, "mlp_dim": 1536}
    network: nn.Module = VisionTransformer(patch_size=16, **sizes)
    return network


def digits_checkpoint(setting: Setting) -> Checkpoint:
    """A CNN that was trained on the digits; made once."""
    path = setting.work / f"digits-{torch.__version__}.pt"
    if not path.is_file():
        train(load("digits"), TrainOptions(model="cnn", epochs=2 if setting.quick else 15)).save(path)
    return Checkpoint.load(path)


def deployable_of(name: str, setting: Setting) -> tuple[Deployable, Signature]:
    """The module that an export writes, in PyTorch."""
    network, signature = network_of(name, setting)
    return make_deployable(network, signature), signature


def pixels_for(signature: Signature, batch_size: int) -> NDArray[np.uint8]:
    """Random pixels `(batch, height, width, channels)`."""
    return np.random.default_rng(0).integers(0, 256, (batch_size, *signature.image_shape), np.uint8)


def session_backend(bundle: Bundle, setting: Setting, **options: str) -> SessionBackend:
    """Onward's backend for onnxruntime on the device; the options are the provider's."""
    request = ProviderRequest.parse(setting.device, options=options)
    backend = open_artifact(bundle, bundle.artifact("onnx"), provider=request, threads=Threads())
    assert isinstance(backend, SessionBackend)
    return backend


def torch_backend(bundle: Bundle, setting: Setting, name: str = "torch") -> ExportedProgramBackend:
    """Onward's backend for PyTorch on the device: `torch` is eager, `torch-compile` compiled."""
    backend = open_artifact(bundle, bundle.artifact("pt2"), provider=setting.device, backend=name)
    assert isinstance(backend, ExportedProgramBackend)
    return backend


def synchronize(setting: Setting) -> None:
    """Wait for PyTorch's work on the card."""
    if setting.device == "cuda":
        torch.cuda.synchronize()


def on_device(module: Callable[..., object], pixels: NDArray[np.uint8], setting: Setting) -> Callable[[], object]:
    """A PyTorch module on pixels that are on the device already; a call waits until it is done."""
    image: Tensor = torch.from_numpy(pixels).to(setting.device)

    def call() -> object:
        with torch.inference_mode():
            found = module(image)
            synchronize(setting)
            return found

    return call


class BoundOnDevice:
    """Plain onnxruntime: a session whose input and outputs lie on the device, at fixed addresses.

    Args:
        session: An opened session.
        pixels: The input.
        num_classes: Of the outputs, float32 `(batch, classes)`.
        setting: Has the device.

    Source: onnxruntime, `IOBinding`, `OrtValue`.
    """

    def __init__(
        self, session: ort.InferenceSession, pixels: NDArray[np.uint8], num_classes: int, setting: Setting
    ) -> None:
        self.session = session
        self.binding = session.io_binding()
        self.image = ort.OrtValue.ortvalue_from_numpy(pixels, setting.device, 0)
        self.binding.bind_ortvalue_input(IMAGE, self.image)
        self.found = {
            name: ort.OrtValue.ortvalue_from_shape_and_type((len(pixels), num_classes), np.float32, setting.device, 0)
            for name in OUTPUTS
        }
        for name, value in self.found.items():
            self.binding.bind_ortvalue_output(name, value)

    def __call__(self) -> None:
        """Run once; returns when the outputs are there."""
        self.session.run_with_iobinding(self.binding)
        self.binding.synchronize_outputs()

    def outputs(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the outputs."""
        return {name: value.numpy() for name, value in self.found.items()}
