"""Precision: what float16 and bfloat16 lose and save.

Onward publishes float32 only, so these are PyTorch's modules, converted or under autocast, and a plain ONNX export of
the converted module. Their loss is judged by the bundle's golden record, and for the CNN by the digits, too.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.gpu.networks import BoundOnDevice, bundle_of, deployable_of, on_device, pixels_for, session_backend
from benchmarks.gpu.section import Row, Setting, attempt
from benchmarks.gpu.timing import Way, rows_of_ways
from onward.backends import Threads
from onward.backends.onnxruntime_backend import open_session
from onward.backends.providers import ProviderRequest
from onward.bundle import Bundle
from onward.parity import Outputs
from onward.signature import IMAGE, Signature, of_images
from onward.tasks import task_of
from onward.tasks.classification import LOGITS, OUTPUTS
from onward_export.deployable import Deployable
from onward_export.formats.program import quietly
from onward_training.data import load

__all__ = ["run"]

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}
FLOAT32 = "PyTorch eager, float32"


class Converted(nn.Module):
    """A deployable whose network runs in a narrower precision; pixels are normalised in float32, outputs are float32.

    Args:
        deployable: In float32.
        dtype: Of the network.
        autocast: Convert operator by operator, as `torch.autocast` does, in place of all weights.
    """

    def __init__(self, deployable: Deployable, dtype: torch.dtype, *, autocast: str = "") -> None:
        super().__init__()
        self.normalize, self.dtype, self.autocast = copy.deepcopy(deployable.normalize), dtype, autocast
        model = copy.deepcopy(deployable.model)
        self.model = model if autocast else model.to(dtype)
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 `(batch, height, width, channels)` -> logits and probabilities, float32."""
        image = self.normalize(image)
        if self.autocast:
            with torch.autocast(self.autocast, self.dtype):
                logits: Tensor = self.model(image).float()
        else:
            logits = self.model(image.to(self.dtype)).float()
        return logits, torch.softmax(logits, dim=1)


@dataclass(frozen=True)
class Candidate:
    """One way to run a network.

    Args:
        run: Pixels -> outputs, from arrays to arrays.
        on_device: Pixels -> a call that leaves out the copies.
    """

    run: Callable[[Any], Outputs]
    on_device: Callable[[NDArray[np.uint8]], Way]


def run(setting: Setting, name: str) -> Iterator[Row]:
    deployable, signature = deployable_of(name, setting)
    bundle = bundle_of(name, setting)
    pixels = pixels_for(signature, 2 if setting.quick else 32)
    base = {"network": name, "batch": len(pixels), "timed": True}
    for group in _groups(name, deployable, signature, bundle, setting):
        candidates: dict[str, Candidate] = {}
        for way, opened in group.items():
            row = attempt({"network": name, "way": way}, partial(_open_and_judge, way, opened, bundle, candidates))
            if way != FLOAT32 or "onnxruntime, float32" in group:
                yield row
        ways = {way: partial(item.on_device, pixels) for way, item in candidates.items()}
        for row in rows_of_ways(ways, base, setting, reference=FLOAT32):
            if row["way"] != FLOAT32 or "onnxruntime, float32" in group:
                yield row


def _open_and_judge(way: str, opened: Callable[[], Candidate], bundle: Bundle, candidates: dict[str, Candidate]) -> Row:
    candidate = opened()
    row = _loss(candidate, bundle)
    if of_images(bundle.signature).image_shape == load("digits").signature.image_shape:
        row |= _accuracy(candidate)
    candidates[way] = candidate
    return row


def _groups(
    name: str, deployable: Deployable, signature: Signature, bundle: Bundle, setting: Setting
) -> Iterator[dict[str, Callable[[], Candidate]]]:
    """Ways that are timed beside each other. onnxruntime's come last: it has crashed on such files."""
    eager = partial(_of_module, copy.deepcopy(deployable), setting)
    group: dict[str, Callable[[], Candidate]] = {
        FLOAT32: eager,
        "onnxruntime, float32": lambda: _of_session(session_backend(bundle, setting).session, signature, setting),
    }
    for precision, dtype in PRECISIONS.items():
        group[f"PyTorch, {precision}"] = partial(_converted, deployable, dtype, setting)
        group[f"PyTorch, autocast to {precision}"] = partial(_converted, deployable, dtype, setting, setting.device)
    yield group
    # onnxruntime refuses convolutions in bfloat16: one network shows whether it still does
    for precision, dtype in PRECISIONS.items() if name == "cnn" else [("float16", torch.float16)]:
        yield {FLOAT32: eager, f"onnxruntime, {precision}": partial(_exported, deployable, dtype, signature, setting)}


def _converted(deployable: Deployable, dtype: torch.dtype, setting: Setting, autocast: str = "") -> Candidate:
    return _of_module(Converted(deployable, dtype, autocast=autocast), setting)


def _exported(deployable: Deployable, dtype: torch.dtype, signature: Signature, setting: Setting) -> Candidate:
    return _of_session(_session(Converted(deployable, dtype), signature, setting), signature, setting)


def _of_module(module: nn.Module, setting: Setting) -> Candidate:
    module.to(setting.device)
    torch.backends.cudnn.allow_tf32 = False

    def run_batch(pixels: NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode():
            found = module(torch.from_numpy(np.ascontiguousarray(pixels)).to(setting.device))
        return {name: tensor.cpu().numpy() for name, tensor in zip(OUTPUTS, found, strict=True)}

    return Candidate(run_batch, lambda pixels: on_device(module, pixels, setting))


def _session(module: nn.Module, signature: Signature, setting: Setting) -> ort.InferenceSession:
    """Plain `torch.onnx.export`, without Onward's passes and gate.

    Source: torch.onnx, `export`.
    """
    example = torch.from_numpy(pixels_for(signature, 2))
    with quietly(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[IMAGE],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    data = io.BytesIO()
    program.save(data)  # type: ignore[arg-type]
    request = ProviderRequest.parse(setting.device)
    return open_session(data.getvalue(), request, Threads(), {})


def _of_session(session: ort.InferenceSession, signature: Signature, setting: Setting) -> Candidate:
    def run_batch(pixels: NDArray[np.uint8]) -> Outputs:
        return dict(zip(OUTPUTS, session.run(OUTPUTS, {IMAGE: pixels}), strict=True))

    return Candidate(run_batch, lambda pixels: BoundOnDevice(session, pixels, len(signature.labels), setting))


def _loss(candidate: Candidate, bundle: Bundle) -> Row:
    """Against the float64 reference of the golden record."""
    verdict = bundle.golden().judge("", candidate.run, task_of(bundle.signature))
    rows = [row for row in verdict.comparisons if row.kind != "constant"]
    logits = [row for row in rows if row.output == LOGITS]
    return {
        "noise_ratio": max(row.noise_ratio for row in rows),
        "relative_error": max(row.error / row.noise.scale for row in logits),
        "agreement": min(row.agreement for row in rows if row.agreement is not None),
        "num_samples": sum(row.num_samples for row in logits),
    }


def _accuracy(candidate: Candidate) -> Row:
    """On the digits: the test images' accuracy, and how many of all images get another label than in the data set."""
    dataset = load("digits")
    images, targets = dataset.test.read(slice(None))
    return {
        "accuracy": float((_labels(candidate, images) == targets).mean()),
        "num_test": len(targets),
        "labels": "".join(map(str, _labels(candidate, images))),
    }


def _labels(candidate: Candidate, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    found = candidate.run(images)[LOGITS].argmax(1)
    return cast("NDArray[np.int64]", found)
