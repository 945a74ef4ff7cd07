"""Adds an INT8 artifact to a bundle, with onnxruntime's own quantizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from onward.backends import open_artifact
from onward.backends.onnxruntime_backend import run_as_written
from onward.bundle import MANIFEST, Artifact, Bundle, digest_file
from onward.bundle.golden import save_outputs
from onward.fidelity import Budget
from onward.tasks import task_of
from onward_training.data import Dataset

__all__ = ["quantize"]

FILE, NAME = "model.int8.onnx", "onnx-int8"
NUM_CALIBRATION = 128


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: np.ndarray) -> None:
        self.batches: Iterator[dict[str, np.ndarray]] = iter([{"image": images}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def quantize(bundle: Bundle, data: Dataset, out: Path) -> None:
    """Write a copy of the bundle with `onnx-int8` to `out`."""
    shutil.copytree(bundle.path, out)
    parent, task, images = bundle.artifact("onnx"), task_of(bundle.signature), data.test.images
    quantize_static(
        out / parent.file.path,
        out / FILE,
        Calibration(np.asarray(data.train.images[:NUM_CALIBRATION])),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )
    file = digest_file(out, out / FILE)
    artifact = Artifact(NAME, "onnx", file, "int8", parent.opset, 1.0, parent="onnx", recipe={"weight_bits": 7})
    copied = replace(bundle, path=out)
    golden, before, after = bundle.golden(), open_artifact(bundle, parent), open_artifact(copied, artifact)
    recorded = {kind: after.run(feed) for kind, feed in golden.inputs.items()}
    names = bundle.signature.output_names
    simulation = {}
    for kind, feed in golden.inputs.items():
        arrays = run_as_written((out / FILE).read_bytes(), {"image": np.asarray(feed)}, names)
        simulation[kind] = {name: array.astype(np.float64) for name, array in zip(names, arrays, strict=True)}
    save_outputs(out / f"golden/{NAME}.npz", recorded)
    save_outputs(out / f"golden/{NAME}.simulation.npz", simulation)
    verdict, budget = golden.judge(NAME, after.run, task), Budget(max_loss=0.05, max_nll=0.1)
    noise = golden.noise["real"]
    fidelity = task.fidelity(before.run(images), after.run(images), data.test.targets, noise, budget)
    artifact = replace(artifact, noise_ratio=verdict.noise_ratio, fidelity=fidelity)
    files = [digest_file(out, out / f"golden/{NAME}{end}.npz") for end in ("", ".simulation")]
    whole = replace(copied, artifacts=(*bundle.artifacts, artifact), files=(*bundle.files, *files))
    (out / MANIFEST).write_text(json.dumps(whole.to_json()))
