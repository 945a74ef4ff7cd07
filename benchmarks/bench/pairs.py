"""Pairs: ten benchmarks, and the same ten an hour later. How much do their ratios differ?

    python -m benchmarks.bench pairs --folder F     # run it again an hour later: then it prints the table

In the last two of the second ten, another program uses one core all the time.
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
class PairedBench:
    """One of the ten benchmarks.

    Args:
        network: Of `NETWORKS`.
        batch_size: Images per inference.
        threads: Threads per inference.
        is_loaded: Whether another program uses a core, the second time.
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


BENCHES = (
    PairedBench("classifier", 1, 1),
    PairedBench("classifier", 1, 2),
    PairedBench("classifier", 1024, 1),
    PairedBench("cnn", 1, 1),
    PairedBench("cnn", 32, 2),
    PairedBench("mobilenet_v3_small", 1, 1),
    PairedBench("mobilenet_v3_small", 32, 2),
    PairedBench("resnet18", 1, 1),
    PairedBench("classifier", 1, 1, is_loaded=True),
    PairedBench("cnn", 8, 2, is_loaded=True),
)


def time_pairs(folder: Path) -> None:
    """Run the ten, into a numbered folder; from the second time on with a load, and a comparison with the last time."""
    paths = bundle_paths(folder)
    number = len(list(folder.glob("times-*")))
    where = folder / f"times-{number}"
    where.mkdir()
    for run in BENCHES:
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
    """Print both ratios of each row, and their instabilities."""
    rows = []
    for run in BENCHES:
        before, after = (Report.load(folder / f"{run.name}.json") for folder in (first, second))
        for one, other in zip(before.rows, after.rows, strict=True):
            if one.candidate.backend != "torch" and one.ratio and other.ratio:
                change = other.ratio.value / one.ratio.value - 1
                rows.append(
                    [run.name, one.candidate.title, _figure(one.ratio), _figure(other.ratio)]
                    + [f"{change:+.1%}", _stability(one), _stability(other)]
                )
    elapsed = (second / f"{BENCHES[0].name}.json").stat().st_mtime - (first / f"{BENCHES[0].name}.json").stat().st_mtime
    remark(f"{elapsed / 60:.0f} minutes apart")
    print_table(["run", "", ">ratio", ">again", ">difference", "stability", "again"], rows)


def _figure(ratio: Interval) -> str:
    return f"{ratio.value:.2f} ± {ratio.spread:.1%}"


def _stability(row: Row) -> str:
    return ", ".join(item.kind for item in row.instabilities) or "stable"


@contextmanager
def _load(is_loaded: bool) -> Iterator[None]:
    if not is_loaded:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", LOAD]) as process:
        time.sleep(0.5)
        try:
            yield
        finally:
            process.kill()
