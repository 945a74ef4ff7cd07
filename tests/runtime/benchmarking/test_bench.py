from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from onward.benchmarking.bench import bench
from onward.benchmarking.report import Report
from onward.benchmarking.row import Row
from onward.benchmarking.schedule import Schedule
from onward.benchmarking.spec import BenchOptions, BenchSpec, Selection
from onward.bundle import Bundle
from onward.errors import BundleError, UsageError
from tests.needs import FORMATS, TORCH_IS_INSTALLED, needs_pt2, needs_torch

PLANTED = Path(__file__).with_name("planted.py")
FORMAT_OF = {"torch": "pt2", "torchscript": "torchscript", "onnxruntime": "onnx", "openvino": "onnx", "pt2": "pt2"}
RUNNABLE = FORMATS if TORCH_IS_INSTALLED else ("onnx",)
BACKENDS = tuple(name for name, format in FORMAT_OF.items() if format in RUNNABLE)
QUICK = BenchOptions(
    batch_sizes=(1, 3), num_process_runs=1, num_rounds=2, sample_s=0.02, max_warm_up_s=0.2, pause_s=0.01
)
ONE_SIZE = BenchOptions(
    batch_sizes=(1,), num_process_runs=1, num_rounds=2, sample_s=0.02, max_warm_up_s=0.2, pause_s=0.01
)

pytestmark = pytest.mark.long


def run_bench(bundle: Bundle, *backends: str, options: BenchOptions = QUICK, **more: object) -> Report:
    spec = BenchSpec([str(bundle.path)], Selection(backends=backends, threads=(1,)), with_files=False)
    return bench(spec, options, **more)  # type: ignore[arg-type]


def planted(*names: str) -> list[str]:
    return [f"{PLANTED}:{name}" for name in names]


def row_of(report: Report, backend: str) -> Row:
    return next(row for row in report.rows if row.candidate.backend.endswith(backend))


@pytest.fixture(scope="module")
def report(shared_bundle: Bundle) -> Report:
    return run_bench(shared_bundle, *BACKENDS, *planted("by_name"))


def test_every_backend_has_a_row_at_every_batch_size(report: Report) -> None:
    names = (*BACKENDS, f"{PLANTED}:by_name")
    found = [(row.batch_size, row.candidate.backend) for row in report.rows]
    assert found == [(size, name) for size in QUICK.batch_sizes for name in names]
    assert {row.status for row in report.rows} == {"measured"}
    assert not report.failed


def test_a_row_has_all_figures(report: Report) -> None:
    for row in report.rows:
        assert row.latency is not None
        assert row.stages is not None
        assert 0 < row.latency.median <= row.latency.p90 <= row.latency.p99 <= row.latency.percentiles[100]
        assert row.images_per_s == pytest.approx(row.batch_size / row.latency.median * 1e3)
        assert row.num_inferences >= 2 * QUICK.num_rounds
        assert row.num_warm_up >= 1
        assert row.noise_ratio is not None
        assert 0 <= row.noise_ratio <= 3
        assert row.peak_bytes is not None
        assert row.peak_bytes > 20 << 20
        assert [len(rounds) for rounds in row.rounds_ms] == [QUICK.num_rounds]
        assert min(row.stages.process_s, row.stages.import_s, row.stages.open_s) > 0
        assert row.stages.first_ms is not None
        assert row.stages.after_pause_ms is not None


@needs_torch
@needs_pt2
def test_ratios_are_relative_to_pytorch_with_an_interval(report: Report) -> None:
    for row in report.rows:
        assert row.ratio is not None
        assert 0 < row.ratio.low <= row.ratio.value <= row.ratio.high
    assert {row.ratio.value for row in report.rows if row.ratio and row.candidate.backend == "torch"} == {1.0}


def test_file_sizes_are_those_of_the_artifacts(report: Report, shared_bundle: Bundle) -> None:
    for row in report.rows:
        assert row.file_bytes == shared_bundle.preferred(row.candidate.format).file.size_bytes


@needs_torch
@needs_pt2
def test_the_import_has_a_time_of_its_own(report: Report) -> None:
    torch, onnx = row_of(report, "torch").stages, row_of(report, "onnxruntime").stages
    assert torch is not None
    assert onnx is not None
    assert torch.import_s > onnx.import_s  # 1.4 s against 0.1 s


def test_a_fast_backend_with_wrong_outputs_is_reported_as_wrong(shared_bundle: Bundle) -> None:
    names = planted("right", "wrong", "of_another_shape", "one_output")
    report = run_bench(shared_bundle, *names, options=ONE_SIZE)
    assert [row.status for row in report.rows] == ["measured", "wrong", "wrong", "wrong"]
    assert report.failed
    wrong = report.rows[1]
    assert wrong.ratio is None
    assert wrong.reason.startswith("WRONG")
    assert wrong.noise_ratio is not None
    assert wrong.noise_ratio > 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crashes", "the process ended by SIGSEGV"),
        ("leaves", "the process ended with exit code 7. Its last output: the licence server does not respond"),
        ("raises", "ZeroDivisionError: of all things"),
        ("missing", "does not open: AttributeError"),
    ],
)
def test_a_candidate_that_fails_has_a_row_with_the_reason_and_the_others_continue(
    name: str, message: str, shared_bundle: Bundle
) -> None:
    report = run_bench(shared_bundle, *planted(name, "right"), options=ONE_SIZE)
    failed = next(row for row in report.rows if row.status == "failed")
    assert message in failed.reason
    right = next(row for row in report.rows if row.candidate.backend.endswith("right"))
    assert right.status == "measured"
    assert len(right.rounds_ms[0]) == ONE_SIZE.num_rounds
    assert report.failed


def test_the_steps_of_a_candidate_that_fails_are_done_at_once(shared_bundle: Bundle) -> None:
    schedules: list[Schedule] = []
    steps: list[str] = []
    run_bench(
        shared_bundle,
        *planted("raises", "right"),
        options=ONE_SIZE,
        on_matrix=lambda matrix, schedule: schedules.append(schedule),
        on_step=steps.append,
    )
    assert len(steps) == schedules[0].num_steps


def test_a_candidate_that_hangs_is_killed(shared_bundle: Bundle) -> None:
    options = BenchOptions(batch_sizes=(1,), num_process_runs=1, num_rounds=1, sample_s=0.01, timeout_s=8, pause_s=0.01)
    report = run_bench(shared_bundle, *planted("hangs", "right"), options=options)
    assert row_of(report, "hangs").reason == "the process did not respond within 8 s and was killed."
    assert row_of(report, "right").status == "measured"


def test_what_a_candidate_prints_is_no_response(shared_bundle: Bundle) -> None:
    report = run_bench(shared_bundle, *planted("talks"), options=ONE_SIZE)
    assert row_of(report, "talks").status == "measured"


def test_a_candidate_that_gets_slower_is_unstable(shared_bundle: Bundle) -> None:
    options = BenchOptions(
        batch_sizes=(1,), num_process_runs=1, num_rounds=9, sample_s=0.03, max_warm_up_s=0.2, pause_s=0.01
    )
    report = run_bench(shared_bundle, *planted("right", "slower_and_slower"), options=options)
    assert "drift" in {item.kind for item in row_of(report, "slower_and_slower").instabilities}
    assert any("gets slower" in item.detail for item in row_of(report, "slower_and_slower").instabilities)


def test_a_candidate_that_leaks_threads_is_unstable(shared_bundle: Bundle) -> None:
    options = replace(ONE_SIZE, sample_s=0.1)  # several times as long as from one leak to the next
    report = run_bench(shared_bundle, *planted("leaks_threads"), options=options)
    assert "threads" in {item.kind for item in row_of(report, "leaks_threads").instabilities}


def test_a_candidate_that_never_idles_is_unstable(shared_bundle: Bundle) -> None:
    report = run_bench(shared_bundle, *planted("never_rests"), options=ONE_SIZE)
    assert "busy" in {item.kind for item in row_of(report, "never_rests").instabilities}


def test_a_bundle_that_changes_during_the_benchmark_is_reported(bundle: Bundle) -> None:
    options = BenchOptions(
        batch_sizes=(1,), num_process_runs=2, num_rounds=1, sample_s=0.01, max_warm_up_s=0.1, pause_s=0.01
    )
    model = bundle.path / "model.onnx"

    def damage(what: str) -> None:
        if what == "round":
            model.write_bytes(model.read_bytes()[:-1])

    report = run_bench(bundle, "onnxruntime", options=options, on_step=damage)
    assert "changed" in report.changed
    assert any("was changed" in row.reason for row in report.rows)
    assert report.failed


def test_a_bundle_that_is_replaced_during_the_benchmark_is_reported(bundle: Bundle, shared_bundle: Bundle) -> None:
    options = BenchOptions(
        batch_sizes=(1,), num_process_runs=2, num_rounds=1, sample_s=0.01, max_warm_up_s=0.1, pause_s=0.01
    )
    manifest = bundle.path / "manifest.json"

    def replace(what: str) -> None:
        if what == "round":
            manifest.write_text(manifest.read_text().replace("manifest_sha256", "other"))

    report = run_bench(bundle, "onnxruntime", options=options, on_step=replace)
    assert report.changed


def test_an_interrupted_benchmark_keeps_what_was_measured(shared_bundle: Bundle) -> None:
    steps: list[str] = []
    report = run_bench(
        shared_bundle,
        *planted("right"),
        options=BenchOptions(batch_sizes=(1,), num_process_runs=3, num_rounds=3, sample_s=0.01, max_warm_up_s=0.1),
        on_step=steps.append,
        stop=lambda: steps.count("round") >= 2,
    )
    assert not report.is_complete
    assert [len(rounds) for rounds in report.rows[0].rounds_ms] == [2]


def test_a_benchmark_interrupted_at_once_has_skipped_rows(shared_bundle: Bundle) -> None:
    report = run_bench(shared_bundle, "onnxruntime", stop=lambda: True)
    assert not report.is_complete
    assert [row.status for row in report.rows] == ["skipped"]
    assert "interrupted before its first sample" in report.rows[0].reason


def test_a_missing_provider_has_a_row_that_says_what_to_install(shared_bundle: Bundle) -> None:
    spec = BenchSpec(
        [str(shared_bundle.path)],
        Selection(backends=["onnxruntime"], providers=["tensorrt", "cpu"], threads=(1,)),
        with_files=False,
    )
    report = bench(spec, ONE_SIZE)
    failed = row_of(report, "onnxruntime") if report.rows[0].status == "failed" else report.rows[-1]
    assert "onnxruntime-gpu" in failed.reason
    assert [row.status for row in report.rows] == ["measured", "failed"]


def test_the_number_of_steps_is_known_beforehand(shared_bundle: Bundle) -> None:
    schedules: list[Schedule] = []
    steps: list[str] = []
    spec = BenchSpec([str(shared_bundle.path)], Selection(backends=["onnxruntime"], threads=(1,)))
    report = bench(spec, ONE_SIZE, on_matrix=lambda matrix, found: schedules.append(found), on_step=steps.append)
    assert len(steps) == schedules[0].num_steps
    assert schedules[0].left_s == 0
    (files,) = report.end_to_end
    assert files.images_per_s > 0
    assert sum(files.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: BenchSpec([]), "expected one bundle"),
        (lambda path: BenchSpec([path, path]), "several different"),
        (
            lambda path: BenchSpec([path], reference="openvino", selection=Selection(backends=["onnxruntime"])),
            "is not part of this benchmark",
        ),
        (lambda path: BenchSpec([path], sizes={"height": 3}), "--dim is for ONNX files only"),
    ],
)
def test_an_invalid_spec_is_an_error(make: Callable[[str], BenchSpec], message: str, shared_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=message):
        bench(make(str(shared_bundle.path)), ONE_SIZE)


def test_a_missing_target_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        bench(BenchSpec([str(tmp_path / "nothing")]), ONE_SIZE)
