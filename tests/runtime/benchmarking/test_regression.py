"""The regression gate, on simulated reports with known slowdowns: nothing here is timed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.instability import Instability
from onward.benchmarking.regression import RegressionGate, compare_reports, parse_percentage
from onward.benchmarking.report import Report
from onward.benchmarking.row import Latency, Row, Stages
from onward.benchmarking.row_change import SPEED_PROBE, VERDICTS, RowChange
from onward.benchmarking.spec import BenchOptions
from onward.errors import UsageError

#: Standard deviations of log latencies: between rounds, and between process runs.
ROUND_NOISE, RUN_NOISE = 0.02, 0.01
NUM_RUNS, NUM_ROUNDS = 5, 30
TORCH_MS, PROBE_MS = 4.0, 0.05


@dataclass(frozen=True)
class Surroundings:
    """A fingerprint with only what the gate uses."""

    packages: Mapping[str, str] = field(default_factory=lambda: {"torch": "2.14.0"})

    def differences(self, other: Surroundings) -> list[str]:
        pairs = {name: (self.packages.get(name), other.packages.get(name)) for name in self.packages}
        return [f"{name} {mine} → {theirs}" for name, (mine, theirs) in pairs.items() if mine != theirs]


@dataclass(frozen=True)
class Machine:
    """Makes reports.

    Args:
        seed: Of its noise.
        noise: Between rounds, for each row.
        run_noise: Between process runs, for each row but the reference.
        num_process_runs: Of each report.
        drift: Between rounds, of the speed probe and of all latencies.
    """

    seed: int = 0
    noise: float = ROUND_NOISE
    run_noise: float = RUN_NOISE
    num_process_runs: int = NUM_RUNS
    drift: float = 0.2

    def report(
        self,
        latencies_ms: Mapping[str, float],
        *,
        batch_sizes: tuple[int, ...] = (1,),
        target: str = "a.onw",
        reference: str = "torch",
    ) -> Report:
        """Of backend -> ms per input. The reference has the machine's drift, but no noise."""
        generator = np.random.default_rng(self.seed)
        shape = (self.num_process_runs, NUM_ROUNDS)
        levels = {size: np.exp(generator.normal(0, self.drift, shape)) for size in batch_sizes}
        rows = []
        for size in batch_sizes:
            for backend, latency_ms in latencies_ms.items():
                noise = generator.normal(0, self.noise, shape) + generator.normal(0, self.run_noise, (shape[0], 1))
                rounds = latency_ms * size * levels[size] * np.exp(0 if backend == "torch" else noise)
                rows.append(row_of(candidate(backend, target), size, rounds.tolist()))
        return Report(
            rows=tuple(rows),
            reference=candidate(reference if reference in latencies_ms else next(iter(latencies_ms)), target),
            options=BenchOptions(batch_sizes=batch_sizes, num_process_runs=self.num_process_runs),
            fingerprint=Surroundings(),  # type: ignore[arg-type]
            missing={},
            speed_probe_ms=tuple(
                {size: (PROBE_MS * levels[size][process_run]).tolist() for size in batch_sizes}
                for process_run in range(self.num_process_runs)
            ),
        )


def candidate(backend: str, target: str = "a.onw") -> Candidate:
    return Candidate(target, backend, "cpu", 1)


def row_of(whose: Candidate, batch_size: int, rounds_ms: list[list[float]]) -> Row:
    latency = Latency.of(np.concatenate([np.float32(some) for some in rounds_ms]))
    stages = Stages(0.1, 0.1, 0.1, None, None)
    return Row(whose, batch_size, "measured", latency=latency, rounds_ms=rounds_ms, stages=stages)


def verdicts(gate: RegressionGate) -> dict[str, str]:
    return {item.candidate.backend: item.verdict for item in gate.changes}


def one(gate: RegressionGate, backend: str = "onnxruntime") -> RowChange:
    (found,) = [item for item in gate.changes if item.candidate.backend == backend]
    return found


def pair(
    slowdown: float,
    *,
    noise: float = ROUND_NOISE,
    run_noise: float = RUN_NOISE,
    seed: int = 0,
    num_process_runs: int = NUM_RUNS,
) -> tuple[Report, Report]:
    """Two reports of onnxruntime and PyTorch, before and after a slowdown of onnxruntime."""
    before, after = (Machine(2 * seed + at, noise, run_noise, num_process_runs) for at in (0, 1))
    return (
        before.report({"torch": TORCH_MS, "onnxruntime": 2.0}),
        after.report({"torch": TORCH_MS, "onnxruntime": 2.0 * (1 + slowdown)}),
    )


def without_latency(report: Report, backend: str, status: str, reason: str) -> Report:
    rows = tuple(row for row in report.rows if row.candidate.backend != backend)
    return replace(report, rows=(*rows, Row(candidate(backend), 0, status, reason)))


def scaled(report: Report, factor: float) -> Report:
    """The same report from a machine that is `factor` times as slow."""
    rows = tuple(
        replace(row, rounds_ms=[[factor * figure for figure in some] for some in row.rounds_ms]) for row in report.rows
    )
    levels = tuple({size: [factor * one for one in some] for size, some in of.items()} for of in report.speed_probe_ms)
    return replace(report, rows=rows, speed_probe_ms=levels)


# Laws


@given(st.integers(0, 10**6), st.floats(0, 0.3), st.floats(0, 0.3), st.integers(1, 4), st.floats(0, 0.5))
def test_a_report_compared_with_itself_is_neither_worse_nor_better(
    seed: int, noise: float, run_noise: float, process_runs: int, fail_above: float
) -> None:
    report = Machine(seed, noise, run_noise, process_runs).report({"torch": 4, "onnxruntime": 2, "openvino": 1})
    gate = compare_reports(report, report, fail_above=fail_above)
    assert set(verdicts(gate).values()) <= {"same", "noisy"}
    assert gate.exit_code() == 0
    assert all(item.before == item.after for item in gate.changes)


@given(st.integers(0, 10**6), st.floats(-0.2, 0.2), st.floats(0.01, 100))
def test_a_slower_machine_changes_no_verdict(seed: int, slowdown: float, factor: float) -> None:
    before, after = pair(slowdown, seed=seed)
    there, scaled_too = (compare_reports(before, item, fail_above=0.05) for item in (after, scaled(after, factor)))
    assert one(there).verdict == one(scaled_too).verdict  # the reference's has no width: rounding decides


@given(st.integers(0, 10**6), st.floats(0.4, 2), st.sampled_from(["torch", "onnxruntime"]))
def test_swapping_the_reports_turns_worse_into_better(seed: int, slowdown: float, reference: str) -> None:
    before, after = (replace(item, reference=candidate(reference)) for item in pair(slowdown, seed=seed))
    assert one(compare_reports(before, after, fail_above=0.05)).verdict == "worse"
    assert one(compare_reports(after, before, fail_above=0.05)).verdict == "better"


@given(st.integers(0, 10**6), st.floats(-0.3, 0.3))
def test_swapping_the_reports_inverts_the_interval(seed: int, slowdown: float) -> None:
    before, after = pair(slowdown, seed=seed)
    there = one(compare_reports(before, after, fail_above=0)).factor
    back = one(compare_reports(after, before, fail_above=0)).factor
    assert there is not None
    assert back is not None
    assert there.low <= there.value <= there.high
    assert (back.value, back.low, back.high) == pytest.approx((1 / there.value, 1 / there.high, 1 / there.low))


@given(st.floats(0, 1000, allow_subnormal=False))
def test_percentages_read_back(percent: float) -> None:
    assert parse_percentage(f"{percent:.6f}%") == pytest.approx(percent / 100, abs=1e-8)


# Verdicts


@pytest.mark.parametrize(
    ("slowdown", "verdict"), [(0.2, "worse"), (0.02, "same"), (0.0, "same"), (-0.02, "better"), (-0.2, "better")]
)
def test_a_clear_change_has_its_verdict(slowdown: float, verdict: str) -> None:
    found = one(compare_reports(*pair(slowdown, noise=0.01, run_noise=0.001), fail_above=0.05))
    assert (found.verdict, found.normalised_by) == (verdict, "torch")
    assert found.change is not None
    assert found.change.value == pytest.approx(slowdown, abs=0.015)  # three standard errors of six medians
    assert found.before == pytest.approx(TORCH_MS / 2.0, rel=0.02)


def test_a_wide_interval_is_noisy() -> None:
    gate = compare_reports(*pair(0.05, noise=0.3, run_noise=0.1), fail_above=0.05)
    assert one(gate).verdict == "noisy"
    assert (gate.exit_code(), gate.exit_code(strict=True)) == (0, 1)


def test_a_slowdown_of_exactly_the_limit_is_not_worse() -> None:
    before, after = pair(0.0, noise=0, run_noise=0)
    assert one(compare_reports(before, after, fail_above=0)).verdict in ("same", "noisy")


@pytest.mark.parametrize(("slowdown", "exit_code"), [(0.2, 1), (0.0, 0), (-0.2, 0)])
def test_the_exit_code(slowdown: float, exit_code: int) -> None:
    gate = compare_reports(*pair(slowdown, noise=0.005, run_noise=0.001), fail_above=0.05)
    assert gate.exit_code() == gate.exit_code(strict=True) == exit_code


def test_a_new_failure_is_worse_and_a_row_that_was_wrong_before_is_new() -> None:
    before, after = pair(0.0)
    for status, expected in (("failed", "worse"), ("missing", "gone")):
        found = one(compare_reports(before, without_latency(after, "onnxruntime", status, "why"), fail_above=0.05))
        assert (found.verdict, found.batch_size, found.reasons) == (expected, 1, ("why",))
    wrong = replace(after, rows=tuple(replace(row, status="wrong", reason="WRONG") for row in after.rows))
    found = one(compare_reports(before, wrong, fail_above=0.05))
    assert (found.verdict, found.reasons) == ("worse", ("WRONG",))
    assert one(compare_reports(wrong, after, fail_above=0.05)).verdict == "new"


def test_an_imprecise_row_is_compared_like_any_other() -> None:
    before, after = pair(0.2, noise=0.01, run_noise=0.001)
    shaky = [
        replace(item, rows=tuple(replace(row, status="imprecise") for row in item.rows)) for item in (before, after)
    ]
    found = one(compare_reports(*shaky, fail_above=0.05))
    assert (found.verdict, found.normalised_by) == ("worse", "torch")
    alone = replace(after, rows=tuple(row for row in after.rows if row.candidate.backend == "torch"))
    gone = compare_reports(shaky[0], alone, fail_above=0.05).changes[-1]
    assert (gone.candidate.backend, gone.verdict) == ("onnxruntime", "gone")


def test_a_candidate_that_fails_in_a_later_process_run_is_worse_however_fast() -> None:
    before, after = pair(-0.5)
    broken = replace(after, rows=(*after.rows, Row(candidate("onnxruntime"), 0, "failed", "it crashed")))
    gate = compare_reports(before, broken, fail_above=0.05)
    assert (one(gate).verdict, one(gate).reasons) == ("worse", ("it crashed",))
    assert one(compare_reports(broken, broken, fail_above=0.05)).verdict == "same"  # it did before


def test_a_skipped_candidate_did_not_fail() -> None:
    before, after = pair(0.0)
    ended = replace(without_latency(after, "onnxruntime", "skipped", "skipped"), is_complete=False)
    gate = compare_reports(before, ended, fail_above=0.05)
    assert one(gate).verdict == "gone"
    assert "after: incomplete, the benchmark was interrupted" in gate.remarks


def test_a_row_of_only_one_report_is_new_or_gone() -> None:
    two = Machine().report({"torch": 4, "onnxruntime": 2}, batch_sizes=(1, 8))
    other = Machine(1).report({"torch": 4, "openvino": 1}, batch_sizes=(1,))
    gate = compare_reports(two, other, fail_above=0.05)
    found = {(item.candidate.backend, item.batch_size): item.verdict for item in gate.changes}
    assert found.pop(("torch", 1)) in ("same", "noisy")
    gone = dict.fromkeys([("onnxruntime", 1), ("torch", 8), ("onnxruntime", 8)], "gone")
    assert found == {("openvino", 1): "new"} | gone
    assert (gate.exit_code(), gate.exit_code(strict=True), gate.num_compared) == (0, 1, 1)


def test_a_backend_that_is_no_longer_installed_is_gone_with_a_hint() -> None:
    before = Machine().report({"torch": 4, "openvino": 2})
    after = replace(Machine(1).report({"torch": 4}), missing={"openvino": "pip install openvino"})
    found = one(compare_reports(before, after, fail_above=0.05), "openvino")
    assert (found.verdict, found.reasons) == ("gone", ("pip install openvino",))


def test_a_gate_that_compares_nothing_fails() -> None:
    gate = compare_reports(Machine().report({"torch": 4}), Machine().report({"openvino": 1}), fail_above=0.05)
    assert (gate.num_compared, gate.exit_code()) == (0, 1)


# Normalisation


def test_a_single_candidate_is_normalised_by_the_speed_probe() -> None:
    before, after = (Machine(seed, 0.01, 0.002).report({"onnxruntime": ms}) for seed, ms in ((0, 2.0), (1, 2.4)))
    found = one(compare_reports(before, scaled(after, 3.0), fail_above=0.05))
    assert (found.verdict, found.normalised_by) == ("worse", SPEED_PROBE)
    assert found.before == pytest.approx(PROBE_MS / 2.0, rel=0.02)


def test_the_reference_is_normalised_by_the_speed_probe_and_its_change_is_remarked_on() -> None:
    before, after = (
        Machine(seed, 0.01, 0.002).report({"torch": ms, "onnxruntime": 2}) for seed, ms in ((0, 4), (1, 8))
    )
    gate = compare_reports(before, after, fail_above=0.05)
    assert one(gate, "torch").normalised_by == SPEED_PROBE
    assert verdicts(gate) == {"torch": "worse", "onnxruntime": "better"}
    assert "PyTorch, batch 1: the reference itself is slower by 100.0%" in "\n".join(gate.remarks)


def test_with_different_references_everything_is_normalised_by_the_speed_probe() -> None:
    before = Machine().report({"torch": 4, "onnxruntime": 2})
    after = Machine(1).report({"torch": 4, "onnxruntime": 2}, reference="onnxruntime")
    gate = compare_reports(before, after, fail_above=0.05)
    assert {item.normalised_by for item in gate.changes} == {SPEED_PROBE}
    assert "another reference (PyTorch before, onnxruntime after)" in "\n".join(gate.remarks)


def test_without_a_speed_probe_the_reference_is_noisy() -> None:
    before, after = (replace(item, speed_probe_ms=()) for item in pair(0.5))
    found = one(compare_reports(before, after, fail_above=0.05), "torch")
    assert (found.verdict, found.factor) == ("noisy", None)


def test_an_interrupted_process_run_is_compared_up_to_its_last_round() -> None:
    before, after = pair(0.2, noise=0.005, run_noise=0.001)
    rows = tuple(
        replace(row, rounds_ms=[*row.rounds_ms[:-1], row.rounds_ms[-1][:2]])
        if row.candidate.backend == "torch"
        else row
        for row in after.rows
    )
    assert one(compare_reports(before, replace(after, rows=rows), fail_above=0.05)).verdict == "worse"


def test_the_speed_probe_is_that_of_the_same_batch_size() -> None:
    before, after = (
        Machine(seed, 0.01, 0.002, drift=1.0).report({"onnxruntime": ms}, batch_sizes=(1, 8))
        for seed, ms in ((0, 2.0), (1, 2.4))
    )
    gate = compare_reports(before, after, fail_above=0.05)
    assert [(item.batch_size, item.verdict) for item in gate.changes] == [(1, "worse"), (8, "worse")]


def test_a_process_run_without_a_speed_probe_is_left_out() -> None:
    before, after = (Machine(seed, 0.01, 0.002).report({"onnxruntime": ms}) for seed, ms in ((0, 2.0), (1, 2.4)))
    after = replace(after, speed_probe_ms=(*after.speed_probe_ms[:-1], {}))
    assert one(compare_reports(before, after, fail_above=0.05)).verdict == "worse"


# Matching


def test_a_single_target_may_be_anywhere() -> None:
    before = Machine().report({"torch": 4, "onnxruntime": 2}, target="/build/1/a.onw")
    after = Machine(1).report({"torch": 4, "onnxruntime": 2}, target="/build/2/a.onw")
    gate = compare_reports(before, after, fail_above=0.1)
    assert (gate.num_compared, one(gate).normalised_by) == (2, "torch")


def test_several_targets_are_distinguished() -> None:
    one, other = Machine(0).report({"torch": 4}, target="a"), Machine(1).report({"torch": 8}, target="b")
    both = replace(one, rows=one.rows + other.rows)
    gate = compare_reports(both, replace(one, rows=one.rows), fail_above=0.05)
    assert [(item.candidate.target, item.verdict) for item in gate.changes][1:] == [("b", "gone")]
    gate = compare_reports(both, replace(both, rows=both.rows[::-1]), fail_above=0.05)
    assert [item.candidate.target for item in gate.changes] == ["b", "a"]
    assert all(item.before == item.after for item in gate.changes)


# Texts


def test_other_environments_and_options_are_remarked_on() -> None:
    before, after = pair(0.0)
    after = replace(
        after,
        fingerprint=Surroundings({"torch": "2.15.0"}),  # type: ignore[arg-type]
        options=BenchOptions(num_process_runs=1, num_rounds=9, batch_sizes=(1, 2), seed=5),
    )
    remarks = compare_reports(before, after, fail_above=0.05).remarks
    assert remarks[:2] == (
        "another environment: torch 2.14.0 → 2.15.0",
        "other options: num_process_runs 5 → 1; num_rounds 30 → 9",
    )
    assert remarks[2].startswith("after: one process run does not show")


def test_external_instabilities_are_reasons_and_change_no_verdict() -> None:
    before, after = pair(0.2, noise=0.005, run_noise=0.001)
    shaken = (Instability("load", "another program ran"), Instability("rounds", "rounds disagree"))
    after = replace(after, rows=tuple(replace(row, instabilities=shaken) for row in after.rows))
    gate = compare_reports(before, after, fail_above=0.05)
    assert (one(gate).verdict, one(gate).reasons) == ("worse", ("after: another program ran",))
    assert "onnxruntime, batch 1: after: another program ran" in gate.lines()


def test_the_table_and_the_json_have_every_row() -> None:
    before, after = pair(0.2, noise=0.001, run_noise=0.0)
    gate = compare_reports(before, without_latency(after, "torch", "failed", "no memory"), fail_above=0.05)
    columns, rows = gate.table()
    assert columns == [">batch", "backend", ">before ×", ">after ×", "of", ">latency", ">95 %", ""]
    assert {len(row) for row in rows} == {len(columns)}
    assert [row[-1] for row in rows] == ["WORSE", "WORSE"]
    assert ["1", "PyTorch", "–", "–", "", "–", "", "WORSE"] in rows
    document: dict[str, Any] = json.loads(json.dumps(gate.to_json()))
    assert (document["worse"], document["fail_above"], document["num_compared"]) == (True, 0.05, 2)
    first = document["changes"][0]
    assert first["verdict"] in VERDICTS
    assert {
        "target",
        "backend",
        "provider",
        "threads",
        "batch_size",
        "normalised_by",
        "before",
        "after",
    } <= first.keys()
    assert first["change"]["low"] <= first["change"]["value"] <= first["change"]["high"]


def test_the_speed_probe_reads_back() -> None:
    report = Machine().report({"torch": 4}, batch_sizes=(1, 8))
    from onward.host.fingerprint import take_fingerprint

    report = replace(report, fingerprint=take_fingerprint())
    written = json.loads(json.dumps(report.to_json()))
    assert written["speed_probe_ms"]
    assert json.loads(json.dumps(Report.from_json(written).to_json())) == written


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), ("5 %", 0.05), ("0.05", 0.05), (".5%", 0.005), ("0", 0)])
def test_percentages(text: str, value: float) -> None:
    assert parse_percentage(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "%", "-5%", "-0.05", "5", "five", "5%%", "nan", "inf%", "1e-2", "5% 3"])
def test_an_invalid_percentage_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"write 5% or 0\.05"):
        parse_percentage(text)


# Error rates on simulated pairs; with fixed seeds each is a fixed number

NUM_PAIRS = 100


def rates(slowdown: float, fail_above: float, **noise: float) -> Counter[str]:
    gates = (compare_reports(*pair(slowdown, seed=seed, **noise), fail_above=fail_above) for seed in range(NUM_PAIRS))
    return Counter(one(gate).verdict for gate in gates)


@pytest.mark.parametrize("fail_above", [0.03, 0.05, 0.1])
def test_an_unchanged_row_is_seldom_worse_or_better(fail_above: float) -> None:
    found = rates(0.0, fail_above)
    assert found["worse"] <= 1
    assert found["better"] <= 6  # 2.5 % of them are 2.5; 6 or fewer in 98 of 100 sets of 100


def test_a_slowdown_of_the_limit_is_seldom_worse_or_the_same() -> None:
    found = rates(0.05, 0.05)
    assert max(found["worse"], found["same"]) <= 6
    assert found["noisy"] > 0.9 * NUM_PAIRS


def test_a_slowdown_of_ten_percent_is_found() -> None:
    found = rates(0.1, 0.05)
    assert found["worse"] >= 0.8 * NUM_PAIRS
    assert found["same"] == found["better"] == 0
