"""Network: one network as a bundle, as a plain ONNX file that takes floats, and as a PyTorch module."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
import torchvision
from numpy.typing import NDArray
from torch import nn

from benchmarks.export import FASHION, export_bare
from benchmarks.zoo.alive import make_alive
from onward.bundle import MANIFEST, Bundle
from onward.cli.console import remark
from onward.signature import Preprocess, Signature, of_images
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_training.checkpoint import Checkpoint
from onward_training.models import build

__all__ = ["BenchmarkNetwork", "normalise", "of_checkpoint", "of_torchvision", "session_of", "small_bundle"]

ONNX_ALONE = ExportOptions(formats=("onnx",))
IMAGENET = Signature(
    height=224,
    width=224,
    channels=3,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    labels=tuple(f"class {index}" for index in range(1000)),
    preprocess=Preprocess("shorter-side", 256, "bilinear"),
)


@dataclass(frozen=True)
class BenchmarkNetwork:
    """One network in all forms that the ways need.

    Args:
        module: Normalised float32 `(batch, channels, height, width)` -> probabilities `(batch, classes)`.
        signature: Its inputs and labels.
        bundle: The network for Onward.
        float_path: The ONNX file that `torch.onnx.export` writes.
    """

    module: nn.Module
    signature: Signature
    bundle: Bundle
    float_path: Path


def of_checkpoint(checkpoint: Checkpoint, folder: Path) -> BenchmarkNetwork:
    """The network of a checkpoint."""
    bundle = publish(ModelToExport.from_checkpoint(checkpoint), folder / "bundle", options=ONNX_ALONE)
    return _in_all_forms(checkpoint.network(), of_images(checkpoint.signature), bundle, folder)


def of_torchvision(name: str, folder: Path) -> BenchmarkNetwork:
    """A torchvision network with random weights, the same ones each time. An existing bundle is reused."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None)
    make_alive(network, IMAGENET)
    path = folder / name
    if not (path / MANIFEST).is_file():
        remark(f"{name}: exporting; the gate takes minutes …")
        publish(ModelToExport(network, IMAGENET), path, options=ONNX_ALONE)
    return _in_all_forms(network, IMAGENET, Bundle.open(path), folder)


def small_bundle(folder: Path) -> Bundle:
    """The network 784-256-128-64-10 with random weights."""
    torch.manual_seed(0)
    network = build("classifier", FASHION).eval()
    return publish(ModelToExport(network, FASHION), folder / "bundle", options=ONNX_ALONE)


def session_of(network: BenchmarkNetwork, num_threads: int, *, spin: bool = True) -> ort.InferenceSession:
    """An onnxruntime session on the file that takes floats."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    return ort.InferenceSession(network.float_path, options, providers=["CPUExecutionProvider"])


def normalise(pixels: NDArray[np.uint8], signature: Signature) -> NDArray[np.float32]:
    """uint8 `(batch, height, width, channels)` -> float32 `(batch, channels, height, width)`."""
    planes = np.empty((len(pixels), signature.channels, signature.height, signature.width), np.float32)
    for channel, (mean, std) in enumerate(zip(signature.mean, signature.std, strict=True)):
        np.multiply(pixels[..., channel], np.float32(1 / (255 * std)), out=planes[:, channel])
        planes[:, channel] -= np.float32(mean / std)
    return planes


def _in_all_forms(network: nn.Module, signature: Signature, bundle: Bundle, folder: Path) -> BenchmarkNetwork:
    whole = nn.Sequential(network, nn.Softmax(1)).eval()
    path = folder / f"{bundle.path.name}.float.onnx"
    export_bare(whole, signature, path)
    return BenchmarkNetwork(whole, signature, bundle, path)
