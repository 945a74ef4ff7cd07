from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onward.benchmarking.report import Report
from onward.benchmarking.spec import BenchOptions
from onward.bundle import Bundle
from tests.needs import TORCH_IS_INSTALLED, WRITES_PT2, needs_pt2, needs_torch

Completed = subprocess.CompletedProcess[str]
PLANTED = Path(__file__).parents[1] / "benchmarking" / "planted.py"
QUICK = ("--process-runs", 1, "--rounds", 2, "--batch-sizes", 1, "--threads", 1, "--no-files")


@dataclass(frozen=True)
class HastyOptions(BenchOptions):
    """The inference after a pause is timed after 10 ms, not after 1 s."""

    pause_s: float = 0.01


@pytest.fixture
def bench(here: Callable[..., Completed], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Completed]:
    """The command in this process."""
    monkeypatch.setattr("onward.benchmarking.spec.BenchOptions", HastyOptions)
    return partial(here, "bench")


@needs_torch
@needs_pt2
def test_it_prints_tables(bench, shared_bundle: Bundle) -> None:
    result = bench(shared_bundle.path, *QUICK, "--backends", "torch,onnxruntime")
    assert result.returncode == 0, result.stderr
    for word in ("median ms", "× PyTorch", "95 %", "noise ratio", "onnxruntime", "import s", "peak MiB", "after pause"):
        assert word in result.stdout
    assert result.stderr == (
        "benchmark: 2 candidates (PyTorch, onnxruntime) × batch size 1 × 1 process run × up to 2 rounds, "
        "1 thread an inference\n"
        "timed: one inference, from arrays in memory to arrays in memory, without decoding and resizing\n"
    )


def test_a_quick_benchmark_asks_less_and_takes_what_is_named(bench, shared_bundle: Bundle) -> None:
    result = bench(shared_bundle.path, "--quick", "--process-runs", 1, "--rounds", 2, "--threads", 1, "--json")
    assert result.returncode == 0, result.stderr
    report = Report.from_json(json.loads(result.stdout))
    backends = ["torch", "onnxruntime"] if TORCH_IS_INSTALLED and WRITES_PT2 else ["onnxruntime"]
    assert [(row.batch_size, row.candidate.backend) for row in report.rows] == [
        (size, backend) for size in (1, 32) for backend in backends
    ]
    assert (report.options.num_process_runs, report.options.num_rounds) == (1, 2)
    assert not report.end_to_end


def test_json_has_progress_on_a_terminal_only(
    bench, shared_bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (shared_bundle.path, *QUICK, "--backends", "onnxruntime", "--json")
    assert bench(*command).stderr == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    result = bench(*command)
    assert json.loads(result.stdout)["complete"]
    assert "benchmark: 1 candidate" in result.stderr
    assert " left" in result.stderr


def test_it_prints_json_and_writes_a_page(bench, shared_bundle: Bundle, digits: Any, tmp_path: Path) -> None:
    """Labelled inputs give the model's accuracy."""
    labels = np.array(digits.test.targets[:100])
    np.savez(tmp_path / "test.npz", images=digits.test.images[:100], labels=labels)
    (tmp_path / "summary.md").write_text("before\n\n")
    more = ("--input", tmp_path / "test.npz", "--html", tmp_path / "bench.html", "--json")
    more += ("--summary", tmp_path / "summary.md")
    backends = ["onnxruntime", *["openvino"] * (importlib.util.find_spec("openvino") is not None)]
    result = bench(shared_bundle.path, *QUICK, "--backends", ",".join(backends), *more)
    assert result.returncode == 0, result.stderr
    report = Report.from_json(json.loads(result.stdout))
    assert [row.num_labelled for row in report.rows] == [100] * len(backends)
    assert all(row.accuracy is not None and row.accuracy > 0.8 for row in report.rows)
    assert "onnxruntime" in (tmp_path / "bench.html").read_text()
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("before\n\n### onward bench ")
    assert "| batch | backend | median ms |" in summary
    assert "| 1 | OpenVINO | " in summary


def test_a_report_is_the_next_baseline(bench, shared_bundle: Bundle, tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    first = bench(shared_bundle.path, *QUICK, "--backends", "onnxruntime", "--json")
    before.write_text(first.stdout)
    command = (shared_bundle.path, *QUICK, "--backends", "onnxruntime", "--baseline", before)
    result = bench(*command, "--fail-above", "1000%")
    assert result.returncode == 0, result.stderr
    assert f"compared with {before}" in result.stdout
    again = json.loads(bench(*command, "--json").stdout)
    assert again["gate"]["num_compared"] == 1


def test_a_wrong_row_ends_with_exit_code_1(bench, shared_bundle: Bundle) -> None:
    result = bench(shared_bundle.path, *QUICK, "--backends", f"onnxruntime,{PLANTED}:wrong")
    assert result.returncode == 1
    assert "WRONG" in result.stdout


def test_a_candidate_that_fails_has_a_line_and_the_others_have_rows(bench, shared_bundle: Bundle) -> None:
    result = bench(shared_bundle.path, *QUICK, "--backends", f"{PLANTED}:crashes,onnxruntime")
    assert result.returncode == 1
    assert "the process ended by SIGSEGV" in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(
    "CUDAExecutionProvider" in __import__("onnxruntime").get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_a_missing_provider_has_a_line_and_no_figures(bench, shared_bundle: Bundle) -> None:
    result = bench(shared_bundle.path, *QUICK, "--backends", "onnxruntime", "--provider", "cuda", "--json")
    assert result.returncode == 1
    (row,) = json.loads(result.stdout)["rows"]
    assert row["latency_ms"] is None
    assert "onnxruntime-gpu" in row["reason"]
    told = bench(shared_bundle.path, *QUICK, "--backends", "onnxruntime", "--provider", "cuda")
    assert "onnxruntime-gpu" in told.stdout
    assert "median ms" not in told.stdout, "a table without rows"


def test_an_unstable_row_fails_only_with_strict(bench, shared_bundle: Bundle) -> None:
    command = (shared_bundle.path, *QUICK, "--backends", f"onnxruntime,{PLANTED}:never_rests")
    assert bench(*command).returncode == 0
    assert bench(*command, "--strict").returncode == 1


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--backends", "tflite"), "unknown backend 'tflite'"),
        (("--batch-sizes", "one"), "expected whole numbers"),
        (("--batch-sizes", "0"), "must be at least 1"),
        (("--dim", "height"), "expected NAME=SIZE"),
        (("--baseline", "nothing.json"), "is not a report"),
        (("--fail-above", "5"), "invalid percentage '5': write 5% or 0.05"),
        (("--provider", "gpu"), "'gpu' is unknown"),
        (("--reference", "cat"), "is not part of this benchmark"),
        (("--input", "nothing.npz"), "nothing.npz"),
    ],
)
def test_wrong_usage_is_one_sentence(options: tuple[str, ...], what: str, bench, shared_bundle: Bundle) -> None:
    result = bench(shared_bundle.path, *options)
    assert result.returncode == 2
    assert what in result.stderr
    assert "Traceback" not in result.stderr


def wait_for_children(pid: int, count: int) -> None:
    """Wait until a process has started so many others, one after the other or at once."""
    seen: set[str] = set()
    until = time.monotonic() + 300
    while len(seen) < count and time.monotonic() < until:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # a thread that has just ended
                seen.update(children.read_text().split())
        time.sleep(0.05)
    assert len(seen) >= count


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc")
def test_ctrl_c_keeps_what_was_measured(shared_bundle: Bundle, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "onward", "bench", shared_bundle.path, "--backends", "onnxruntime", "--json"]
    with subprocess.Popen(
        [*map(str, [*command, "--process-runs", 10_000, *QUICK[2:]])],  # it does not end by itself
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for_children(process.pid, 2)  # the first of its processes has measured, then
        process.send_signal(signal.SIGINT)
        answer, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    document = json.loads(answer)
    assert document["complete"] is False
    assert document["rows"][0]["status"] == "measured"
