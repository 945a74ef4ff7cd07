"""Figures: what one app was measured to cost."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BATCH_SIZES", "NUM_COLD", "Figures", "measure", "size_bytes"]

BATCH_SIZES = (1, 32)
NUM_COLD = 5


@dataclass(frozen=True)
class Figures:
    """What one app costs.

    Args:
        title: What it is.
        model_bytes: To ship, of the model.
        runtime_bytes: To ship, of what runs it.
        cold_start_s: From the start of the process, or of loading the page, to the first answer; the median of several.
        latency_ms: Of one image, ready pixels.
        images_per_s: In batches of 32, ready pixels.
        over_bare: Batch size -> its time over that of a bare onnxruntime call, both in one process, A B B A; medians.
        noise_ratio: Computed in the app.
    """

    title: str
    model_bytes: int
    runtime_bytes: int
    cold_start_s: float
    latency_ms: float
    images_per_s: float
    over_bare: dict[int, float]
    noise_ratio: float

    def row(self) -> list[str]:
        """A line of the table in docs/embedding.md."""
        return [
            self.title,
            f"{self.model_bytes / 1e6:.2f}",
            f"{self.runtime_bytes / 1e6:.1f}",
            f"{self.cold_start_s:.2f}",
            f"{self.latency_ms:.3f}",
            f"{self.images_per_s:,.0f}",
            *(f"{self.over_bare[size]:.2f}" if size in self.over_bare else "" for size in BATCH_SIZES),
            f"{self.noise_ratio:.2f}",
        ]


def measure(title: str, command: Sequence[str], folder: Path, model_bytes: int, runtime_bytes: int) -> Figures:
    """Run a program that prints `first` once it has an answer, then a line of JSON with the rest.

    Args:
        title: What it is.
        command: With `--cold` behind it, it ends after the first answer.
        folder: Where it runs.
        model_bytes: To ship.
        runtime_bytes: To ship.
    """
    cold = sorted(_first_answer_s([*command, "--cold"], folder) for _ in range(NUM_COLD))
    output = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    over_bare = {int(size): ratio for size, ratio in found["over_bare"].items()}
    return Figures(
        title,
        model_bytes,
        runtime_bytes,
        cold[len(cold) // 2],
        found["latency_ms"],
        found["images_per_s"],
        over_bare,
        found["noise_ratio"],
    )


def size_bytes(*folders: Path) -> int:
    """Of all files below, bytecode left out."""
    files = (path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink())


def _first_answer_s(command: Sequence[str], folder: Path) -> float:
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        taken = time.perf_counter() - start
        process.communicate()
    assert line.strip() == "first", f"{command} printed {line!r}"
    return taken
