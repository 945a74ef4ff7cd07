"""The line from training to predictions, in this environment: one JSON line of what passed.

`python -m benchmarks.companions.line [BUNDLE]`: with a bundle, verify, predict and bench alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onward.bundle import Bundle

__all__ = ["run_line"]

NUM_IMAGES = 20
FORMATS = ("onnx", "torchscript", "pt2")


def run_line(bundle: Path | None, folder: Path) -> dict[str, str]:
    """Step -> `yes`, or the last line of its error.

    Args:
        bundle: A bundle that was made elsewhere; None to train and export one.
        folder: An empty folder for what is written.
    """
    results: dict[str, str] = {}
    if bundle is None:
        bundle = folder / "bundle"
        train = ("--data", "digits", "--model", "cnn", "--epochs", 2)
        results["train"], _ = _onward("train", *train, "--out", folder / "run.pt")
        exported, _ = _onward("export", folder / "run.pt", "--out", bundle, "--json")
        results |= dict.fromkeys(FORMATS, exported)
        if exported == "yes":
            results |= _formats(bundle)
    results["verify"], _ = _onward("verify", bundle, "--json")
    images = folder / "images"
    _write_images(Bundle.open(bundle), images)
    artifact = ("--artifact", "torchscript") if results.get("onnx", "yes") != "yes" else ()
    results["predict"], summary = _onward("predict", bundle, images, "--out", folder / "rows.csv", *artifact, "--json")
    if results["predict"] == "yes" and summary["num_predicted"] != NUM_IMAGES:
        results["predict"] = f"{summary['num_predicted']} of {NUM_IMAGES} images"
    results["bench"], report = _onward("bench", bundle, "--rounds", 1, "--process-runs", 1, "--json")
    for row in report["rows"] if report else ():
        if row["status"] not in ("measured", "missing"):
            results["bench"] = f"{row['backend']}: {row['status']} {row['reason']}".strip()
    return results


def _formats(bundle: Path) -> dict[str, str]:
    manifest = json.loads((bundle / "manifest.json").read_text())
    failed = json.loads((bundle / "parity.json").read_text())["not_published"]
    reasons = {item["format"]: item["reason"] for item in failed}
    made = {item["format"] for item in manifest["artifacts"]}
    return {name: "yes" if name in made else reasons.get(name, "no") for name in FORMATS}


def _write_images(bundle: Bundle, folder: Path) -> None:
    folder.mkdir()
    shape = bundle.signature.inputs[0].shape
    height, width = (int(size or 8) for size in shape[:2])
    generator = np.random.default_rng(0)
    for index in range(NUM_IMAGES):
        pixels = generator.integers(0, 256, (height, width), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")


def _onward(*arguments: object) -> tuple[str, Any]:
    command = [sys.executable, "-m", "onward", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(result.stdout) if "--json" in arguments and result.stdout else None
    if result.returncode:
        return (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1], found
    return "yes", found


def main() -> None:
    bundle = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(prefix="onward-line-") as folder:
        results = run_line(bundle, Path(folder))
    print(json.dumps(results))
    if any(result != "yes" for name, result in results.items() if name != "pt2"):  # PyTorch before 2.9 has no .pt2
        sys.exit(1)


if __name__ == "__main__":
    main()
