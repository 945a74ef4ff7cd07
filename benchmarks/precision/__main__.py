"""`python -m benchmarks.precision`: writes docs/precision.md. What is made is kept in --work for the next run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.precision.measure import describe, float_nodes, logits_of, measure_speeds, open_file
from benchmarks.precision.networks import NETWORKS, PrecisionNetwork
from benchmarks.precision.page import write_page
from benchmarks.precision.peers import quantize_by_nncf, quantize_by_onnxruntime
from benchmarks.zoo.source import ROOT
from onward.bundle import Bundle
from onward.cli.console import app, remark, run
from onward.host.cpu import count_cores, find_processor
from onward.signature import of_images
from onward.tasks import task_of
from onward_export.quantization import QuantizeOptions
from onward_export.quantization.gate import noise_of
from onward_export.quantization.images import QuantizationImages
from onward_training.data import load_for

BATCH_SIZES = (1, 32)
FLOAT32 = "float32"


def main(
    work: Annotated[Path, typer.Option(help="Keeps networks, bundles and results.")] = Path("artifacts/precision"),
    only: Annotated[list[str] | None, typer.Option(help="Networks to measure anew; default: all.")] = None,
    nncf: Annotated[str, typer.Option(help="A Python that has NNCF; without it, NNCF is left out.")] = "",
    rounds: Annotated[int, typer.Option(help="Rounds of timing.")] = 15,
    page: Annotated[Path, typer.Option(help="The page that is written.")] = ROOT / "docs" / "precision.md",
) -> None:
    """Compare INT8 of `onward quantize` with float32, onnxruntime's quantizer and NNCF."""
    work.mkdir(parents=True, exist_ok=True)
    results = work / "results.json"
    found: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    for network in NETWORKS:
        if (only and network.title in only) or (not only and network.title not in found):
            found[network.title] = _measure(network, work, nncf, rounds)
            results.write_text(json.dumps(found, indent=1))
    write_page(page, found)
    remark(f"wrote {page}")


def _measure(network: PrecisionNetwork, work: Path, nncf: str, rounds: int) -> dict[str, Any]:
    bundle = network.bundle(work)
    signature, source = of_images(bundle.signature), bundle.path / "model.onnx"
    images = QuantizationImages.from_data(network.data(work), signature, QuantizeOptions())
    files = {FLOAT32: source}
    for bits in (7, 8):
        files[f"Onward, {bits} bits"] = _file(network.quantized(work, weight_bits=bits))
    for count in network.in_float:
        files[f"Onward, 7 bits, {count} nodes in float32"] = _file(
            network.quantized(work, weight_bits=7, num_in_float=count)
        )
    files["onnxruntime's quantizer"] = work / f"{network.title}.onnxruntime.onnx"
    quantize_by_onnxruntime(source, images.calibration, files["onnxruntime's quantizer"])
    if nncf:
        files["NNCF"] = work / f"{network.title}.nncf.onnx"
        quantize_by_nncf(source, images.calibration, files["NNCF"], nncf)
    contents = {name: path.read_bytes() for name, path in files.items()}
    test = load_for(signature, network.data(work)).test
    pixels, targets = test.read(slice(None))
    remark(f"{network.title}: {len(pixels):,} test images …")
    losses = _losses(bundle, contents, pixels, targets)
    remark(f"{network.title}: speed …")
    speeds = {str(size): _speeds(contents, bundle, pixels[:size], rounds) for size in BATCH_SIZES}
    return {
        "processor": f"{count_cores()} cores, {find_processor().model} ({', '.join(find_processor().features)})",
        "num_images": len(pixels),
        "accuracy": losses.pop(FLOAT32)[0],
        "loss": losses,
        "float_nodes": _float_nodes(contents),
        "speed": speeds,
        "mb": {name: len(content) / 1e6 for name, content in contents.items()},
    }


def _file(bundle: Bundle) -> Path:
    return bundle.path / bundle.artifact("onnx-int8").file.path


def _losses(
    bundle: Bundle, contents: dict[str, bytes], pixels: NDArray[np.uint8], targets: NDArray[np.int64]
) -> dict[str, list[str]]:
    signature, task, noise = of_images(bundle.signature), task_of(bundle.signature), noise_of(bundle.golden())
    expected = logits_of(contents[FLOAT32], signature, pixels)
    found = {}
    for name, content in contents.items():
        given = expected if name == FLOAT32 else logits_of(content, signature, pixels)
        fidelity = task.fidelity(expected, given, targets, noise)
        found[name] = [f"{fidelity.accuracy_before:.2%}"] if name == FLOAT32 else describe(fidelity)
    return found


def _float_nodes(contents: dict[str, bytes]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        counted = {name: float_nodes(content, Path(folder)) for name, content in contents.items()}
    return {name: str(found.total() or "none") for name, found in counted.items()}


def _speeds(contents: dict[str, bytes], bundle: Bundle, pixels: NDArray[np.uint8], rounds: int) -> dict[str, str]:
    """Each file in onnxruntime, and ours in OpenVINO, on all cores."""
    signature = of_images(bundle.signature)
    opened = {name: open_file(content, signature) for name, content in contents.items()}
    for name in (FLOAT32, "Onward, 7 bits"):
        opened[f"{name}, by OpenVINO"] = open_file(contents[name], signature, backend="openvino")
    ways = {name: (lambda backend=backend: backend.run(pixels)) for name, backend in opened.items()}
    return {name: str(speed) for name, speed in measure_speeds(ways, FLOAT32, rounds).items()}


if __name__ == "__main__":
    application = app(main.__doc__ or "")
    application.command()(main)
    run(application, "python -m benchmarks.precision")
