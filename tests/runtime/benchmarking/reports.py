"""Synthetic reports of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.end_to_end import EndToEnd
from onward.benchmarking.instability import Instability
from onward.benchmarking.report import Report
from onward.benchmarking.row import Latency, Row, Stages
from onward.benchmarking.spec import BenchOptions
from onward.host.cpu import Cores, Processor
from onward.host.fingerprint import Fingerprint
from onward.host.memory import MainMemory
from onward.statistics import Interval

__all__ = ["EVIL", "FINGERPRINT", "REPORTS", "normal"]

EVIL = "<script>alert('&')</script>"
FINGERPRINT = Fingerprint(
    processor=Processor("A Processor", ("avx2", "fma"), None, True, False, None),
    cores=Cores(2, 64, "cpu.max"),
    memory=MainMemory(64 << 30, 8 << 30),
    system="Linux x86_64",
    release="6.1",
    python="3.11.7",
    packages={"onward": "0.1.0", "onnxruntime": "1.32.0"},
    graphics=("A Card, driver 550.54",),
    load=0.25,
    time="2026-01-02T03:04:05+00:00",
)
OPTIONS = BenchOptions(batch_sizes=(1, 8, 32), num_process_runs=2, num_rounds=3)
#: Backend -> speed relative to PyTorch.
SPEEDS = {"torch": 1.0, "torchscript": 1.25, "onnxruntime": 4.0, "openvino": 3.5}


def row(backend: str, batch_size: int, *, target: str = "models/cnn", threads: int = 2, **more: Any) -> Row:
    """A row of a backend; PyTorch takes 0.5 ms and 0.2 ms per input."""
    speed = SPEEDS.get(backend, 2.0)
    median_ms = (0.5 + 0.2 * batch_size) / speed
    draws = np.random.default_rng(batch_size).gamma(4.0, median_ms / 20, 500) + 0.8 * median_ms
    latency = Latency.of(draws.astype(np.float32))
    made = Row(
        candidate=Candidate(target, backend, "cpu", threads),
        batch_size=batch_size,
        status="measured",
        name=f"{backend} 1.0",
        placement={"CPUExecutionProvider": 12} if backend == "onnxruntime" else None,
        latency=latency,
        images_per_s=batch_size / latency.median * 1e3,
        ratio=Interval(speed, speed * 0.98, speed * 1.01),
        noise_ratio=0.5 + 0.1 * speed,
        max_delta=speed * 1e-7,
        file_bytes=1_600_000,
        peak_bytes=200 << 20,
        stages=Stages(0.05, 1.2 / speed, 0.1, 12.5, 1.5 * median_ms),
        num_inferences=500,
        num_warm_up=40,
        rounds_ms=[[median_ms, median_ms * 1.01, median_ms * 0.99], [median_ms * 1.02, median_ms, median_ms]],
    )
    return replace(made, **more)


def rows(**more: Any) -> tuple[Row, ...]:
    """Rows of all backends at all batch sizes."""
    return tuple(row(backend, size, **more) for size in OPTIONS.batch_sizes for backend in SPEEDS)


def report(found: tuple[Row, ...], **more: Any) -> Report:
    """A report whose reference is PyTorch, or else the first candidate."""
    others = [item.candidate for item in found]
    reference = next((item for item in others if item.backend == "torch"), others[0])
    levels = tuple(
        {size: [0.04, 0.041, 0.042] for size in OPTIONS.batch_sizes} for _ in range(OPTIONS.num_process_runs)
    )
    return Report(found, reference, OPTIONS, FINGERPRINT, {}, levels, **more)


def normal() -> Report:
    """Correct outputs, image files and labelled inputs; one row is unstable."""
    found = rows(num_labelled=1000, num_correct=913)
    shaky = replace(found[2], instabilities=(Instability("load", "another program ran: 8 % of the time"),))
    shares = {"read": 0.1, "decode": 0.2, "infer": 0.7}
    files = tuple(EndToEnd(item.candidate, 2000, 3000.0, shares) for item in found[:2])
    return report((*found[:2], shaky, *found[3:]), end_to_end=files)


def _with_wrong() -> Report:
    reason = "WRONG: outputs are up to 1,234.5 times as far from the reference as PyTorch's"
    wrong = {"status": "wrong", "reason": reason, "ratio": None, "noise_ratio": 1234.5}
    return report(tuple(replace(item, **wrong) if item.candidate.backend == "openvino" else item for item in rows()))


def _with_imprecise() -> Report:
    reason = "imprecise: outputs are up to 3.5 times as far from the reference as PyTorch's; the parity gate allows 3"
    found = [item for item in rows() if item.candidate.backend != "openvino"]
    return report((*found, row("openvino", 8, status="imprecise", reason=reason, noise_ratio=3.5)))


def _with_failed() -> Report:
    failed = Row(
        Candidate("models/cnn", "torch-compile", "cpu", 2), 0, "failed", "RuntimeError: no compiler\n was found"
    )
    missing = Row(Candidate("models/cnn", "openvino", "cpu", 2), 0, "missing", "openvino is not installed.")
    found = tuple(item for item in rows() if item.candidate.backend != "openvino")
    return replace(report((*found, failed, missing)), missing={"torchscript": "pip install torch"})


def _interrupted() -> Report:
    late = Row(
        Candidate("models/cnn", "openvino", "cpu", 2),
        0,
        "skipped",
        "skipped: the benchmark was interrupted before its first sample.",
    )
    first = replace(
        row("torch", 1), stages=replace(row("torch", 1).stages or Stages(0, 0, 0, None, None), after_pause_ms=None)
    )
    return report((first, row("onnxruntime", 1, rounds_ms=[[0.2]]), late), is_complete=False)


def _without_bundle() -> Report:
    """An ONNX file without a golden record: no noise ratios and no image files."""
    return report(tuple(
        row(backend, size, target="model.onnx", noise_ratio=None, peak_bytes=None)
        for size in (1, 8)
        for backend in ("onnxruntime", "openvino")
    ))  # fmt: skip


def _hostile() -> Report:
    found = rows(target=f"models/{EVIL}", instabilities=(Instability(EVIL, EVIL),))
    own = tuple(row(f"{EVIL}.py:Mine", size, target=f"models/{EVIL}", status="wrong", reason=EVIL) for size in (1, 8))
    failed = Row(Candidate(EVIL, EVIL, EVIL, 2), 0, "failed", EVIL)
    return replace(report((*found, *own, failed), changed=EVIL), missing={EVIL: EVIL})


def _lower_precision() -> Report:
    """A bundle's INT8 beside its float32; OpenVINO breaks its rule."""
    int8 = {"artifact": "onnx-int8", "precision": "int8"}
    reason = "WRONG: outputs are up to 5.2 times the quantisation error away from those that were recorded"
    found = [*rows()]
    for size in OPTIONS.batch_sizes:
        for backend, deviation in (("onnxruntime", 0.0), ("openvino", 5.2)):
            plain = row(backend, size, noise_ratio=None, deviation_ratio=deviation, file_bytes=400_000)
            lower = replace(plain, candidate=replace(plain.candidate, **int8))
            wrong = {"status": "wrong", "reason": reason, "ratio": None} if deviation > 2 else {}
            found.append(replace(lower, **wrong))
    return report(tuple(found))


def _crowded() -> Report:
    """Two models, two thread counts."""
    return report(tuple(
        row(backend, size, target=target, threads=threads)
        for size in OPTIONS.batch_sizes
        for target in ("models/cnn", "models/resnet18")
        for backend in ("torch", "onnxruntime")
        for threads in (1, 2)
    ))  # fmt: skip


#: Kind -> a report of that kind.
REPORTS: Mapping[str, Report] = {
    "normal": normal(),
    "stable": report(rows()),
    "one candidate": report(tuple(row("onnxruntime", size, ratio=None) for size in (1, 8))),
    "one batch size": report(tuple(row(backend, 8) for backend in SPEEDS)),
    "wrong": _with_wrong(),
    "imprecise": _with_imprecise(),
    "failed": _with_failed(),
    "interrupted": _interrupted(),
    "nothing timed": report((_interrupted().rows[-1],), is_complete=False),
    "no bundle": _without_bundle(),
    "hostile names": _hostile(),
    "lower precision": _lower_precision(),
    "two models, two counts of threads": _crowded(),
}
