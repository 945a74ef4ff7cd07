from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from onward.benchmarking.bench import Question, bench
from onward.benchmarking.matrix import Wish
from onward.benchmarking.report import Report
from onward.benchmarking.spec import Options
from onward.benchmarking.summary import Row
from onward.bundle import Bundle
from onward.errors import BundleError, UsageError

PLANTED = Path(__file__).with_name("planted.py")
QUICK = Options(
    batch_sizes=(1, 3), num_launches=1, num_rounds=2, turn_s=0.02, max_warm_up_s=0.2, pause_s=0.01, timeout_s=60
)
ONE_SIZE = Options(batch_sizes=(1,), num_launches=1, num_rounds=2, turn_s=0.02, max_warm_up_s=0.2, pause_s=0.01)


def time_it(bundle: Bundle, *backends: str, options: Options = QUICK, **more: object) -> Report:
    question = Question([str(bundle.path)], Wish(backends=backends, threads=(1,)), with_files=False)
    return bench(question, options, **more)  # type: ignore[arg-type]


def planted(*names: str) -> list[str]:
    return [f"{PLANTED}:{name}" for name in names]


def row_of(report: Report, backend: str) -> Row:
    return next(row for row in report.rows if row.competitor.backend.endswith(backend))


@pytest.fixture(scope="module")
def report(shared_bundle: Bundle) -> Report:
    return time_it(shared_bundle, "torch", "torchscript", "onnxruntime", "openvino", "pt2", *planted("by_name"))


def test_every_backend_has_a_row_at_every_batch_size(report: Report) -> None:
    names = ("torch", "torchscript", "onnxruntime", "openvino", "pt2", f"{PLANTED}:by_name")
    found = [(row.batch_size, row.competitor.backend) for row in report.rows]
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
        assert row.stages.idle_ms is not None


def test_ratios_are_to_pytorch_with_an_interval(report: Report) -> None:
    for row in report.rows:
        assert row.ratio is not None
        assert 0 < row.ratio.low <= row.ratio.value <= row.ratio.high
    assert {row.ratio.value for row in report.rows if row.ratio and row.competitor.backend == "torch"} == {1.0}


def test_file_sizes_are_the_artifacts(report: Report, shared_bundle: Bundle) -> None:
    for row in report.rows:
        name = row.competitor.kind.format
        assert row.file_bytes == shared_bundle.artifact(name).file.size_bytes


def test_importing_torch_is_seen_apart(report: Report) -> None:
    torch, onnx = row_of(report, "torch").stages, row_of(report, "onnxruntime").stages
    assert torch is not None
    assert onnx is not None
    assert torch.import_s > onnx.import_s  # 1.4 s against 0.1 s


def test_a_fast_wrong_answer_is_shown_as_wrong(shared_bundle: Bundle) -> None:
    names = planted("right", "wrong", "of_another_shape", "one_output")
    report = time_it(shared_bundle, *names, options=ONE_SIZE)
    assert [row.status for row in report.rows] == ["measured", "wrong", "wrong", "wrong"]
    assert report.failed
    wrong = report.rows[1]
    assert wrong.ratio is None
    assert wrong.reason.startswith("WRONG")
    assert wrong.noise_ratio is not None
    assert wrong.noise_ratio > 3


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("crashes", "its process ended by SIGSEGV"),
        ("leaves", "its process ended with exit code 7. It said: the licence server does not answer"),
        ("raises", "ZeroDivisionError: of all things"),
        ("missing", "does not open: AttributeError"),
    ],
)
def test_one_that_fails_has_a_row_that_says_so_and_the_others_go_on(
    name: str, what: str, shared_bundle: Bundle
) -> None:
    report = time_it(shared_bundle, *planted(name, "right"), options=ONE_SIZE)
    failed = next(row for row in report.rows if row.status == "failed")
    assert what in failed.reason
    right = next(row for row in report.rows if row.competitor.backend.endswith("right"))
    assert right.status == "measured"
    assert len(right.rounds_ms[0]) == ONE_SIZE.num_rounds
    assert report.failed


def test_one_that_hangs_is_ended(shared_bundle: Bundle) -> None:
    options = Options(batch_sizes=(1,), num_launches=1, num_rounds=1, turn_s=0.01, timeout_s=8, pause_s=0.01)
    report = time_it(shared_bundle, *planted("hangs", "right"), options=options)
    assert row_of(report, "hangs").reason == "it did not answer within 8 s and was ended."
    assert row_of(report, "right").status == "measured"


def test_what_a_competitor_prints_is_no_answer(shared_bundle: Bundle) -> None:
    report = time_it(shared_bundle, *planted("talks"), options=ONE_SIZE)
    assert row_of(report, "talks").status == "measured"


def test_one_that_slows_down_is_seen(shared_bundle: Bundle) -> None:
    options = Options(batch_sizes=(1,), num_launches=1, num_rounds=9, turn_s=0.03, max_warm_up_s=0.2, pause_s=0.01)
    report = time_it(shared_bundle, *planted("right", "slower_and_slower"), options=options)
    assert "drift" in {item.kind for item in row_of(report, "slower_and_slower").instabilities}
    assert any("gets slower" in item.detail for item in row_of(report, "slower_and_slower").instabilities)


def test_one_that_leaks_threads_is_seen(shared_bundle: Bundle) -> None:
    report = time_it(shared_bundle, *planted("leaks_threads"), options=ONE_SIZE)
    assert "threads" in {item.kind for item in row_of(report, "leaks_threads").instabilities}


def test_one_that_never_rests_is_seen(shared_bundle: Bundle) -> None:
    report = time_it(shared_bundle, *planted("never_rests"), options=ONE_SIZE)
    assert "busy" in {item.kind for item in row_of(report, "never_rests").instabilities}


def test_a_bundle_that_changes_during_the_run_is_said(bundle: Bundle) -> None:
    options = Options(batch_sizes=(1,), num_launches=2, num_rounds=1, turn_s=0.01, max_warm_up_s=0.1, pause_s=0.01)
    model = bundle.path / "model.onnx"

    def damage(what: str) -> None:
        if what == "round":
            model.write_bytes(model.read_bytes()[:-1])

    report = time_it(bundle, "onnxruntime", options=options, on_step=damage)
    assert "changed" in report.changed
    assert any("was changed" in row.reason for row in report.rows)
    assert report.failed


def test_a_bundle_that_is_replaced_during_the_run_is_said(bundle: Bundle, shared_bundle: Bundle) -> None:
    options = Options(batch_sizes=(1,), num_launches=2, num_rounds=1, turn_s=0.01, max_warm_up_s=0.1, pause_s=0.01)
    manifest = bundle.path / "manifest.json"

    def replace(what: str) -> None:
        if what == "round":
            manifest.write_text(manifest.read_text().replace("manifest_sha256", "other"))

    report = time_it(bundle, "onnxruntime", options=options, on_step=replace)
    assert report.changed


def test_what_there_is_is_kept_when_a_run_is_ended(shared_bundle: Bundle) -> None:
    steps: list[str] = []
    report = time_it(
        shared_bundle,
        *planted("right"),
        options=Options(batch_sizes=(1,), num_launches=3, num_rounds=3, turn_s=0.01, max_warm_up_s=0.1),
        on_step=steps.append,
        stop=lambda: steps.count("round") >= 2,
    )
    assert not report.is_complete
    assert [len(rounds) for rounds in report.rows[0].rounds_ms] == [2]


def test_ended_before_anything_was_timed(shared_bundle: Bundle) -> None:
    report = time_it(shared_bundle, "onnxruntime", stop=lambda: True)
    assert not report.is_complete
    assert [row.status for row in report.rows] == ["unreached"]
    assert "not reached" in report.rows[0].reason


def test_a_provider_that_is_not_here_has_a_row_that_says_what_to_install(shared_bundle: Bundle) -> None:
    question = Question(
        [str(shared_bundle.path)],
        Wish(backends=["onnxruntime"], providers=["tensorrt", "cpu"], threads=(1,)),
        with_files=False,
    )
    report = bench(question, ONE_SIZE)
    failed = row_of(report, "onnxruntime") if report.rows[0].status == "failed" else report.rows[-1]
    assert "onnxruntime-gpu" in failed.reason
    assert [row.status for row in report.rows] == ["measured", "failed"]


def test_steps_are_counted_beforehand(shared_bundle: Bundle) -> None:
    counts: list[int] = []
    steps: list[str] = []
    question = Question([str(shared_bundle.path)], Wish(backends=["onnxruntime"], threads=(1,)))
    report = bench(question, ONE_SIZE, on_lineup=lambda lineup, count: counts.append(count), on_step=steps.append)
    assert len(steps) == counts[0]
    (files,) = report.end_to_end
    assert files.images_per_s > 0
    assert sum(files.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: Question([]), "expected one bundle"),
        (lambda path: Question([path, path]), "several different"),
        (lambda path: Question([path], reference="openvino", wish=Wish(backends=["onnxruntime"])), "not timed"),
        (lambda path: Question([path], sizes={"height": 3}), "--dim is for ONNX files that are not ours"),
    ],
)
def test_a_question_that_cannot_be_meant(make: Callable[[str], Question], what: str, shared_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=what):
        bench(make(str(shared_bundle.path)), ONE_SIZE)


def test_a_target_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not there"):
        bench(Question([str(tmp_path / "nothing")]), ONE_SIZE)
