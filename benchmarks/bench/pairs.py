"""Pairs: ten runs, and the same ten again an hour later. How much do the ratios differ?

    python -m benchmarks.bench pairs --folder F     # once, and again an hour later: then it prints the table

In the last two of the second ten another program takes one core all the time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.bundles import bundle_paths
from onward.benchmarking.bench import bench
from onward.benchmarking.report import Report
from onward.benchmarking.row import Row
from onward.benchmarking.spec import BenchOptions, BenchSpec, Selection
from onward.cli.console import print_table, remark
from onward.files import written_whole
from onward.statistics import Interval

__all__ = ["compare_pairs", "time_pairs"]

BACKENDS = ("torch", "torchscript", "onnxruntime", "openvino")
LOAD = "while True: pass"


@dataclass(frozen=True)
class Run:
    """One of the ten.

    Args:
        network: Of `NETWORKS`.
        batch_size: Images an inference.
        threads: Of an inference.
        is_loaded: Whether another program takes a core, the second time.
    """

    network: str
    batch_size: int
    threads: int
    is_loaded: bool = False

    @property
    def name(self) -> str:
        """For files and tables."""
        name = f"{self.network}, batch {self.batch_size}, threads {self.threads}"
        return name + (", loaded" if self.is_loaded else "")


RUNS = (
    Run("classifier", 1, 1),
    Run("classifier", 1, 2),
    Run("classifier", 1024, 1),
    Run("cnn", 1, 1),
    Run("cnn", 32, 2),
    Run("mobilenet_v3_small", 1, 1),
    Run("mobilenet_v3_small", 32, 2),
    Run("resnet18", 1, 1),
    Run("classifier", 1, 1, is_loaded=True),
    Run("cnn", 8, 2, is_loaded=True),
)


def time_pairs(folder: Path) -> None:
    """Run the ten, into a folder named for its number; with a load where it is the second or a later time."""
    paths = bundle_paths(folder)
    number = len(list(folder.glob("times-*")))
    where = folder / f"times-{number}"
    where.mkdir()
    for run in RUNS:
        remark(f"{run.name} …")
        selection = Selection(backends=BACKENDS, threads=(run.threads,))
        spec = BenchSpec([str(paths[run.network])], selection, with_files=False)
        with _load(run.is_loaded and number > 0):
            report = bench(spec, BenchOptions(batch_sizes=(run.batch_size,)))
        with written_whole(where / f"{run.name}.json") as staged:
            staged.write_text(json.dumps(report.to_json()))
    if number:
        compare_pairs(folder / f"times-{number - 1}", where)


def compare_pairs(first: Path, second: Path) -> None:
    """Print both ratios of each row, and what was said of them."""
    rows = []
    for run in RUNS:
        before, after = (Report.load(folder / f"{run.name}.json") for folder in (first, second))
        for one, other in zip(before.rows, after.rows, strict=True):
            if one.candidate.backend != "torch" and one.ratio and other.ratio:
                change = other.ratio.value / one.ratio.value - 1
                rows.append(
                    [run.name, one.candidate.title, _figure(one.ratio), _figure(other.ratio)]
                    + [f"{change:+.1%}", _said(one), _said(other)]
                )
    elapsed = (second / f"{RUNS[0].name}.json").stat().st_mtime - (first / f"{RUNS[0].name}.json").stat().st_mtime
    remark(f"{elapsed / 60:.0f} minutes apart")
    print_table(["run", "", ">ratio", ">again", ">difference", "said of it", "again"], rows)


def _figure(ratio: Interval) -> str:
    return f"{ratio.value:.2f} ± {ratio.spread:.1%}"


def _said(row: Row) -> str:
    return ", ".join(item.kind for item in row.instabilities) or "stable"


@contextmanager
def _load(is_there: bool) -> Iterator[None]:
    if not is_there:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", LOAD]) as process:
        time.sleep(0.5)
        try:
            yield
        finally:
            process.kill()
