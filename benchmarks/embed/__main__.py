"""`python -m benchmarks.embed`: the table of docs/embedding.md.

The same bundle in every app, ready pixels, all cores; each app in a process of its own, beside a bare call of the
onnxruntime that it uses, in turns. Needs npm and Chromium for the apps of JavaScript, and leaves them out without.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.bench.bundles import bundle_paths
from benchmarks.embed.figures import NUM_COLD, Figures, measure, size_bytes
from benchmarks.embed.page import measure_page
from onward.bundle import Bundle
from onward.cli.console import app, print_table, remark, run
from onward.embedding import BrowserRuntime, EmbedOptions, embed
from onward.signature import of_images

HERE = Path(__file__).parent
NETWORKS = ("cnn", "mobilenet_v3_small")
NUM_IMAGES = {"cnn": 50_000, "mobilenet_v3_small": 1_000}
PYTHON_PACKAGES = ("numpy", "numpy.libs", "onnxruntime", "PIL", "pillow.libs")


def main(
    folder: Annotated[Path, typer.Option(help="Keeps bundles and apps for the next run.")] = Path("artifacts/bench"),
) -> None:
    """Measure what an embedded model costs."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = bundle_paths(folder)
    for network in NETWORKS:
        bundle = Bundle.open(paths[network])
        rows = [figures.row() for figures in compare(bundle, folder.resolve() / "apps" / network, NUM_IMAGES[network])]
        titles = [network, ">model MB", ">runtime MB", ">first answer s", ">ms, batch 1", ">images/s, batch 32"]
        print_table([*titles, ">over bare, 1", ">over bare, 32", ">noise ratio"], rows)


def compare(bundle: Bundle, folder: Path, num_images: int) -> list[Figures]:
    """Every app that can be run here."""
    model_bytes = (bundle.path / "model.onnx").stat().st_size
    site = Path(np.__file__).parents[1]
    python_bytes = size_bytes(*(site / name for name in PYTHON_PACKAGES))
    found = [predict_beside(bundle, folder, num_images, model_bytes, python_bytes)]
    child = [sys.executable, str(HERE / "python_app.py")]
    command = [*child, "load", str(bundle.path.resolve())]
    found.append(measure("onward.load", command, Path.cwd(), model_bytes, python_bytes))
    options = EmbedOptions(overwrite=True, browser_runtime=BrowserRuntime(download=True))
    python = embed(bundle, "python", folder / "python", options).path
    found.append(measure("--target python", [*child, "app", str(python)], python, model_bytes, python_bytes))
    if shutil.which("npm") is None:
        remark("npm is not here: the apps of JavaScript are left out")
        return found
    node = embed(bundle, "node", folder / "node", options).path
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=node, check=True)
    command = ["node", str(HERE / "node_app.mjs"), str(node)]
    found.append(measure("--target node", command, node, model_bytes, size_bytes(node / "node_modules")))
    site_folder = embed(bundle, "web", folder / "web", options).path
    return [*found, *measure_page(site_folder, model_bytes)]


def predict_beside(bundle: Bundle, folder: Path, num_images: int, model_bytes: int, runtime_bytes: int) -> Figures:
    """`onward predict`: from an array file to a CSV file; and the noise ratio that `onward verify` finds."""
    signature = of_images(bundle.signature)
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (num_images, *signature.image_shape), np.uint8)
    for name, count in (("one", 1), ("many", num_images)):
        np.save(folder / f"{name}.npy", images[:count])
    cold = sorted(_predict(bundle, folder / "one.npy")[0] for _ in range(NUM_COLD))[NUM_COLD // 2]
    rates = sorted(_predict(bundle, folder / "many.npy", "--batch-size", "32")[1] for _ in range(3))
    verified = json.loads(_onward("verify", str(bundle.path), "--artifact", "onnx", "--json"))
    ratio = verified["artifacts"][0]["verdict"]["noise_ratio"]
    return Figures("onward predict", model_bytes, runtime_bytes, cold, float("nan"), rates[1], {}, ratio)


def _predict(bundle: Bundle, images: Path, *options: str) -> tuple[float, float]:
    """Seconds of the whole command, and images/s as it says."""
    start = time.perf_counter()
    output = _onward(
        "predict", str(bundle.path), str(images), "--out", str(images.with_suffix(".csv")), "--json", *options
    )
    taken = time.perf_counter() - start
    images.with_suffix(".csv").unlink()
    return taken, float(json.loads(output)["images_per_s"])


def _onward(*arguments: str) -> str:
    command = [sys.executable, "-m", "onward", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    application = app(main.__doc__ or "")
    application.command()(main)
    run(application, "python -m benchmarks.embed")
