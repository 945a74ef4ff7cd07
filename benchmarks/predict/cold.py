"""Cold start: whole processes, in an environment with only the wheel and its dependencies.

Compares `onward predict` of one image with the minimum that Python, Typer and onnxruntime need. The network is
784-256-128-64-10.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.predict.environment import Environment, install
from benchmarks.predict.network import small_bundle
from benchmarks.predict.options import ComparisonOptions
from benchmarks.predict.process import Usage, measure
from benchmarks.predict.rounds import measure_in_rounds, ratio_of
from onward.cli.console import print_table, remark

__all__ = ["compare"]

NUM_ROUNDS = 15
BARE = "bare onnxruntime, one image from a .npy"
HELLO_PY = """
import typer

app = typer.Typer()


@app.command()
def hello(name: str = "you"):
    print(f"hello {name}")


app()
"""
BARE_PY = """
import csv
import sys

import numpy as np
import onnxruntime as ort

model, images, out = sys.argv[1:]
session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
probabilities = session.run(["probabilities"], {"image": np.load(images)})[0]
with open(out, "w", newline="") as stream:
    writer = csv.writer(stream)
    writer.writerow(["input", "index", "probability"])
    for row, index in enumerate(probabilities.argmax(1)):
        writer.writerow([row, index, f"{probabilities[row, index]:.6f}"])
"""


def compare(options: ComparisonOptions) -> None:
    """Measure, and print the table and the installed size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        remark("  installing the wheel into a new environment …")
        environment = install(folder)
        size_bytes = environment.size_bytes
        ways = {way: _measure(command, folder) for way, command in _commands(environment, _prepared(folder)).items()}
        usages = measure_in_rounds(ways, options.num_rounds or NUM_ROUNDS)
    bare = [usage.seconds for usage in usages[BARE]]
    rows = []
    for way, taken in usages.items():
        seconds = [usage.seconds for usage in taken]
        peak = statistics.median(usage.peak_mib for usage in taken)
        rows.append([way, f"{statistics.median(seconds):.3f}", f"{ratio_of(seconds, bare):.2f}", f"{peak:.1f}"])
    print_table(["", ">s", ">× bare onnxruntime", ">peak MiB"], rows)
    print(f"site-packages of the wheel and its dependencies: {size_bytes / 1e6:,.1f} MB\n")


def _prepared(folder: Path) -> Path:
    """Put the scripts, a model and an image into the folder."""
    small_bundle(folder)
    (folder / "hello.py").write_text(HELLO_PY)
    (folder / "bare.py").write_text(BARE_PY)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), np.uint8)
    np.save(folder / "image.npy", pixels)
    Image.fromarray(pixels[0, ..., 0]).save(folder / "image.png")
    return folder


def _commands(environment: Environment, folder: Path) -> Mapping[str, Sequence[object]]:
    predict = (environment.onward, "predict", "bundle")
    return {
        "python -c pass": (environment.python, "-c", "pass"),
        "hello of Typer, --help": (environment.python, "hello.py", "--help"),
        "onward --help": (environment.onward, "--help"),
        BARE: (environment.python, "bare.py", folder / "bundle" / "model.onnx", "image.npy", "bare.csv"),
        "onward predict, one image from a .npy": (*predict, "image.npy", "--out", "npy.csv"),
        "onward predict, one PNG": (*predict, "image.png", "--out", "png.csv"),
    }


def _measure(command: Sequence[object], folder: Path) -> Callable[[], Usage]:
    return lambda: measure(*command, cwd=folder)
