"""Bench: open the models, run every candidate, and summarise what was measured in a report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from onward.benchmarking.end_to_end import can_run, measure_end_to_end
from onward.benchmarking.given_inputs import GivenInputs, store_inputs
from onward.benchmarking.inputs import random_inputs
from onward.benchmarking.matrix import Matrix
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.report import Report
from onward.benchmarking.runner import run
from onward.benchmarking.schedule import BenchStep, Schedule
from onward.benchmarking.spec import BenchOptions, BenchSpec
from onward.benchmarking.summary import choose_reference, summarise
from onward.errors import BundleError, UsageError
from onward.host.fingerprint import take_fingerprint

__all__ = ["bench"]


def bench(
    spec: BenchSpec,
    options: BenchOptions | None = None,
    *,
    on_matrix: Callable[[Matrix, Schedule], None] = lambda matrix, schedule: None,
    on_step: Callable[[str], None] = lambda kind: None,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Benchmark models, each candidate in a process of its own.

    Args:
        spec: What to benchmark.
        options: How to measure.
        on_matrix: Called before the first process starts, with the candidates and the steps.
        on_step: Called after each step, with its kind.
        stop: Whether to end early; the report then has what was measured so far.

    Raises:
        BundleError: A target is neither a bundle nor an ONNX file, or has no artifact of a name that was given.
        DataError, FeedError: The input cannot be read, or does not fit.
        ProviderError: A provider's name is unknown.
        TrustError: A backend that was named runs a file with code, and the bundle is not trusted.
        UsageError: There is nothing to benchmark, or an option is out of range.
    """
    options = options or BenchOptions()
    models = _open(spec)
    matrix = Matrix.build(models, spec.selection)
    reference = choose_reference(matrix.candidates, spec.reference)
    fingerprint = take_fingerprint()
    with tempfile.TemporaryDirectory() as folder:
        given = store_inputs(spec.input, models, Path(folder), spec.labels_are) if spec.input else GivenInputs()
        schedule = _plan(spec, models, matrix, options)

        def finish(step: BenchStep) -> None:
            schedule.finish(step)
            on_step(step.kind)

        on_matrix(matrix, schedule)
        schedule.begin()
        measurements = run(models, matrix.candidates, options, given=given, on_step=finish, stop=stop)
    working = [recording.candidate for recording in measurements.recordings if not recording.failure]
    with_files = [item for item in working if can_run(item, models[item.target])] if spec.with_files else []
    schedule.leave_out(BenchStep("files"), schedule.counts[BenchStep("files")] - len(with_files))
    end_to_end = (
        measure_end_to_end(models, with_files, options, on_step=finish, stop=stop)
        if spec.with_files and not stop()
        else []
    )
    return Report(
        rows=tuple(summarise(measurements, models, reference)),
        reference=reference,
        options=options,
        fingerprint=fingerprint,
        missing=matrix.missing,
        untrusted=matrix.untrusted,
        speed_probe_ms=tuple(measurements.speed_probe_ms),
        end_to_end=tuple(end_to_end),
        is_complete=measurements.is_complete and not stop(),
        changed=_find_change(models, measurements.digests),
    )


def _plan(spec: BenchSpec, models: Mapping[str, ModelUnderTest], matrix: Matrix, options: BenchOptions) -> Schedule:
    """The steps of a benchmark."""
    files = sum(can_run(item, models[item.target]) for item in matrix.candidates) if spec.with_files else 0
    fixed = [model.fixed_batch for model in models.values()]
    sizes = {size for item in fixed for size in (options.batch_sizes if item is None else (item,))}
    return Schedule(len(matrix.candidates), files, sorted(sizes), options)


def _open(spec: BenchSpec) -> dict[str, ModelUnderTest]:
    if not spec.targets or len(set(spec.targets)) != len(spec.targets):
        raise UsageError("expected one bundle or ONNX file, or several different ones.")
    models = {target: ModelUnderTest(Path(target), spec.sizes, spec.trust) for target in spec.targets}
    for target, model in models.items():
        if not model.path.exists():
            raise BundleError(f"{target} does not exist: expected a bundle or an ONNX file.")
        if model.bundle is None:
            _check_onnx_file(model, spec)
        elif spec.sizes:
            raise UsageError(f"--dim is for ONNX files only: the bundle {target} has its sizes in its signature.")
    return models


def _check_onnx_file(model: ModelUnderTest, spec: BenchSpec) -> None:
    """Read the file and make an input, so that an unusable file is an error before any process starts."""
    _ = model.onnx_bytes
    if spec.input is None:
        random_inputs(model, model.fixed_batch or 1, np.random.default_rng(0))
    elif not model.inputs:
        raise UsageError(f"{model.path} has no inputs, so it cannot be benchmarked.")


def _find_change(models: Mapping[str, ModelUnderTest], digests: Mapping[str, str]) -> str:
    """A sentence that says which model changed during the run; empty for none."""
    for target, model in models.items():
        try:
            if model.digest != digests[target]:
                return f"{target} was changed during the benchmark."
            model.check()
        except (BundleError, OSError) as error:
            return f"{target} was changed during the benchmark: {error}"
    return ""
