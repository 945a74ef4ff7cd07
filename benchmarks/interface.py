"""The cost of raw pixels: uint8 NHWC input, normalised in the graph, beside float32 NCHW input.

The same weights run twice: (a) as Onward exports them; (b) the network alone, on images that were normalised before the
timing. Both go through the same passes and run in onnxruntime, in one process, alternately (A B B A …). The ratio is
the median over rounds. It should be at most 1.05 at batch 32 and above.

    python -m benchmarks.interface [NAME ...]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir
import onnxruntime as ort
import torch
from torch import Tensor, nn

from onward.backends import Threads
from onward.backends.onnxruntime_backend import open_session
from onward.backends.providers import CPU, Provider
from onward.cli.console import print_table
from onward.signature import IMAGE, Signature
from onward.tasks.classification import OUTPUTS
from onward_export.deployable import Deployable
from onward_export.formats.onnx_file import write_onnx
from onward_export.formats.program import export_program
from onward_export.passes import run_passes
from onward_training.models.architectures import CNN, ClassifierNetwork
from onward_training.models.libraries import torchvision_network

BATCH_SIZES = (32, 128)
NUM_ROUNDS = 15
ROUND_S = 0.3
GREY = Signature(28, 28, 1, (0.286,), (0.353,), tuple(map(str, range(10))))
IMAGENET = Signature(224, 224, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), tuple(map(str, range(1000))))
NETWORKS: dict[str, tuple[Signature, Callable[[], nn.Module]]] = {
    "classifier": (GREY, lambda: ClassifierNetwork(28 * 28, 10)),
    "cnn": (GREY, lambda: CNN((1, 28, 28), 10)),
    "resnet18": (IMAGENET, lambda: torchvision_network("resnet18", IMAGENET)),
    "mobilenet_v3_small": (IMAGENET, lambda: torchvision_network("mobilenet_v3_small", IMAGENET)),
}


class FloatInput(nn.Module):
    """The network of a Deployable alone, for normalised float32 `(batch, channels, height, width)`."""

    def __init__(self, deployable: Deployable) -> None:
        super().__init__()
        self.model = deployable.model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images -> logits, probabilities, both `(batch, classes)`."""
        logits = self.model(image)
        return logits, torch.softmax(logits, dim=1)


def raw_session(deployable: Deployable, signature: Signature) -> ort.InferenceSession:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(export_program(deployable, signature), path, signature, {})
        return open_session(path.read_bytes(), Provider.parse(CPU), Threads(spin=False), {})


def float_session(deployable: Deployable, signature: Signature) -> ort.InferenceSession:
    example = torch.zeros(2, signature.network_channels, signature.height, signature.width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            FloatInput(deployable).eval(),
            (example,),
            dynamo=True,
            verbose=False,
            optimize=False,
            input_names=[IMAGE],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    model, _ = run_passes(program.model)
    return open_session(onnx_ir.to_proto(model).SerializeToString(), Provider.parse(CPU), Threads(spin=False), {})


def time_beside(one: Callable[[], object], other: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Seconds of one call of each, for every round; the order alternates."""
    ways = (one, other)
    seconds: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    one()
    other()
    num_calls = max(1, round(ROUND_S / (time.perf_counter() - began)))
    for number in range(NUM_ROUNDS + 1):
        for index in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            for _ in range(num_calls):
                ways[index]()
            if number:  # the first round warms up
                seconds[index].append((time.perf_counter() - began) / num_calls)
    return seconds


def rows_of(name: str) -> list[list[str]]:
    signature, build = NETWORKS[name]
    torch.manual_seed(0)
    deployable = Deployable(build(), signature)
    raw, floating = raw_session(deployable, signature), float_session(deployable, signature)
    rows = []
    for batch_size in BATCH_SIZES:
        pixels = np.random.default_rng(0).integers(0, 256, (batch_size, *signature.image_shape), np.uint8)
        images = deployable.normalize(torch.tensor(pixels)).numpy()
        a, b = time_beside(lambda: raw.run(None, {IMAGE: pixels}), lambda: floating.run(None, {IMAGE: images}))  # noqa: B023
        ratio = statistics.median(one / other for one, other in zip(a, b, strict=True))
        medians = [f"{statistics.median(item) * 1e3:.2f}" for item in (a, b)]
        rows.append([name, str(batch_size), *medians, f"{ratio:.3f}", "yes" if ratio <= 1.05 else "no"])
    return rows


def main() -> None:
    names = sys.argv[1:] or list(NETWORKS)
    rows = [row for name in names for row in rows_of(name)]
    print_table(["network", ">batch", ">raw pixels, ms", ">float tensor, ms", ">ratio", "within 5 %"], rows)


if __name__ == "__main__":
    main()
