"""Reports are made by hand, with slowdowns planted in them: nothing here is timed."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.benchmarking.regression import LEVEL, VERDICTS, Comparison, Gate, compare_reports, parse_percentage
from onward.benchmarking.report import Report
from onward.benchmarking.spec import Competitor, Options
from onward.benchmarking.summary import Instability, Latency, Row
from onward.errors import UsageError
from onward.statistics import Launches, change_interval, level_of, ratio_interval, students_t

#: Of the latency of one round, and of the launch that it is of, as standard deviations of their logarithms.
ROUND_NOISE, LAUNCH_NOISE = 0.02, 0.01
NUM_LAUNCHES, NUM_ROUNDS = 5, 30
TORCH_MS, LEVEL_MS = 4.0, 0.05


@dataclass(frozen=True)
class Surroundings:
    """A fingerprint, as far as the gate asks for one."""

    packages: Mapping[str, str] = field(default_factory=lambda: {"torch": "2.14.0"})

    def differences(self, other: Surroundings) -> list[str]:
        pairs = {name: (self.packages.get(name), other.packages.get(name)) for name in self.packages}
        return [f"{name} {mine} → {theirs}" for name, (mine, theirs) in pairs.items() if mine != theirs]


@dataclass(frozen=True)
class Machine:
    """Whose reports they are.

    Args:
        seed: Of its noise.
        noise: Of a round, of each row.
        launch_noise: Of a launch, of each row but the reference.
        num_launches: Of a run.
        drift: How much its level moves between rounds, and with it all latencies.
    """

    seed: int = 0
    noise: float = ROUND_NOISE
    launch_noise: float = LAUNCH_NOISE
    num_launches: int = NUM_LAUNCHES
    drift: float = 0.2

    def report(
        self,
        latencies_ms: Mapping[str, float],
        *,
        batch_sizes: tuple[int, ...] = (1,),
        target: str = "a.onw",
        reference: str = "torch",
    ) -> Report:
        """Backend -> what it takes for a sample; the reference follows the machine's level and has no noise."""
        generator = np.random.default_rng(self.seed)
        shape = (self.num_launches, NUM_ROUNDS)
        levels = {size: np.exp(generator.normal(0, self.drift, shape)) for size in batch_sizes}
        rows = []
        for size in batch_sizes:
            for backend, latency_ms in latencies_ms.items():
                noise = generator.normal(0, self.noise, shape) + generator.normal(0, self.launch_noise, (shape[0], 1))
                rounds = latency_ms * size * levels[size] * np.exp(0 if backend == "torch" else noise)
                rows.append(row_of(competitor(backend, target), size, rounds.tolist()))
        return Report(
            rows=tuple(rows),
            reference=competitor(reference if reference in latencies_ms else next(iter(latencies_ms)), target),
            options=Options(batch_sizes=batch_sizes, num_launches=self.num_launches),
            fingerprint=Surroundings(),  # type: ignore[arg-type]
            missing={},
            levels_ms=tuple(
                {size: (LEVEL_MS * levels[size][launch]).tolist() for size in batch_sizes}
                for launch in range(self.num_launches)
            ),
        )


def competitor(backend: str, target: str = "a.onw") -> Competitor:
    return Competitor(target, backend, "cpu", 1)


def row_of(whose: Competitor, batch_size: int, rounds_ms: list[list[float]]) -> Row:
    latency = Latency.of(np.concatenate([np.float32(some) for some in rounds_ms]))
    return Row(whose, batch_size, "measured", latency=latency, rounds_ms=rounds_ms)


def verdicts(gate: Gate) -> dict[str, str]:
    return {item.competitor.backend: item.verdict for item in gate.comparisons}


def one(gate: Gate, backend: str = "onnxruntime") -> Comparison:
    (found,) = [item for item in gate.comparisons if item.competitor.backend == backend]
    return found


def pair(
    slowdown: float,
    *,
    noise: float = ROUND_NOISE,
    launch_noise: float = LAUNCH_NOISE,
    seed: int = 0,
    launches: int = NUM_LAUNCHES,
) -> tuple[Report, Report]:
    """Of onnxruntime beside PyTorch."""
    before, after = (Machine(2 * seed + at, noise, launch_noise, launches) for at in (0, 1))
    return (
        before.report({"torch": TORCH_MS, "onnxruntime": 2.0}),
        after.report({"torch": TORCH_MS, "onnxruntime": 2.0 * (1 + slowdown)}),
    )


def without_latency(report: Report, backend: str, status: str, reason: str) -> Report:
    rows = tuple(row for row in report.rows if row.competitor.backend != backend)
    return replace(report, rows=(*rows, Row(competitor(backend), 0, status, reason)))


def scaled(report: Report, factor: float) -> Report:
    """The same on a machine that is so many times as slow."""
    rows = tuple(
        replace(row, rounds_ms=[[factor * figure for figure in some] for some in row.rounds_ms]) for row in report.rows
    )
    levels = tuple({size: [factor * one for one in some] for size, some in of.items()} for of in report.levels_ms)
    return replace(report, rows=rows, levels_ms=levels)


# Laws


@given(st.integers(0, 10**6), st.floats(0, 0.3), st.floats(0, 0.3), st.integers(1, 4), st.floats(0, 0.5))
def test_a_report_beside_itself_is_neither_worse_nor_better(
    seed: int, noise: float, launch_noise: float, launches: int, fail_above: float
) -> None:
    report = Machine(seed, noise, launch_noise, launches).report({"torch": 4, "onnxruntime": 2, "openvino": 1})
    gate = compare_reports(report, report, fail_above=fail_above)
    assert set(verdicts(gate).values()) <= {"same", "noisy"}
    assert gate.exit_code() == 0
    assert all(item.before == item.after for item in gate.comparisons)


@given(st.integers(0, 10**6), st.floats(-0.2, 0.2), st.floats(0.01, 100))
def test_a_machine_that_is_slower_as_a_whole_changes_no_verdict(seed: int, slowdown: float, factor: float) -> None:
    before, after = pair(slowdown, seed=seed)
    there, scaled_too = (compare_reports(before, item, fail_above=0.05) for item in (after, scaled(after, factor)))
    assert one(there).verdict == one(scaled_too).verdict  # the reference's has no width: rounding decides


@given(st.integers(0, 10**6), st.floats(0.4, 2), st.sampled_from(["torch", "onnxruntime"]))
def test_before_and_after_the_other_way_round_turn_worse_into_better(
    seed: int, slowdown: float, reference: str
) -> None:
    before, after = (replace(item, reference=competitor(reference)) for item in pair(slowdown, seed=seed))
    assert one(compare_reports(before, after, fail_above=0.05)).verdict == "worse"
    assert one(compare_reports(after, before, fail_above=0.05)).verdict == "better"


@given(st.integers(0, 10**6), st.floats(-0.3, 0.3))
def test_the_interval_is_around_the_change_and_turns_over(seed: int, slowdown: float) -> None:
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
def test_a_clear_change_is_told(slowdown: float, verdict: str) -> None:
    found = one(compare_reports(*pair(slowdown, noise=0.01, launch_noise=0.001), fail_above=0.05))
    assert (found.verdict, found.yardstick) == (verdict, "torch")
    assert found.change is not None
    assert found.change.value == pytest.approx(slowdown, abs=0.015)  # three standard errors of six medians
    assert found.before == pytest.approx(TORCH_MS / 2.0, rel=0.02)


def test_what_is_noisy_is_said_to_be() -> None:
    gate = compare_reports(*pair(0.05, noise=0.3, launch_noise=0.1), fail_above=0.05)
    assert one(gate).verdict == "noisy"
    assert (gate.exit_code(), gate.exit_code(strict=True)) == (0, 1)


def test_what_is_exactly_as_much_as_allowed_is_not_worse() -> None:
    before, after = pair(0.0, noise=0, launch_noise=0)
    assert one(compare_reports(before, after, fail_above=0)).verdict in ("same", "noisy")


@pytest.mark.parametrize(("slowdown", "exit_code"), [(0.2, 1), (0.0, 0), (-0.2, 0)])
def test_the_exit_code(slowdown: float, exit_code: int) -> None:
    gate = compare_reports(*pair(slowdown, noise=0.005, launch_noise=0.001), fail_above=0.05)
    assert gate.exit_code() == gate.exit_code(strict=True) == exit_code


def test_a_row_that_fails_now_is_worse_and_one_that_was_wrong_before_is_new() -> None:
    before, after = pair(0.0)
    for status, expected in (("failed", "worse"), ("missing", "gone")):
        found = one(compare_reports(before, without_latency(after, "onnxruntime", status, "why"), fail_above=0.05))
        assert (found.verdict, found.batch_size, found.reasons) == (expected, 1, ("why",))
    wrong = replace(after, rows=tuple(replace(row, status="wrong", reason="WRONG") for row in after.rows))
    found = one(compare_reports(before, wrong, fail_above=0.05))
    assert (found.verdict, found.reasons) == ("worse", ("WRONG",))
    assert one(compare_reports(wrong, after, fail_above=0.05)).verdict == "new"


def test_an_imprecise_row_has_figures_as_any_other() -> None:
    before, after = pair(0.2, noise=0.01, launch_noise=0.001)
    shaky = [
        replace(item, rows=tuple(replace(row, status="imprecise") for row in item.rows)) for item in (before, after)
    ]
    found = one(compare_reports(*shaky, fail_above=0.05))
    assert (found.verdict, found.yardstick) == ("worse", "torch")
    alone = replace(after, rows=tuple(row for row in after.rows if row.competitor.backend == "torch"))
    gone = compare_reports(shaky[0], alone, fail_above=0.05).comparisons[-1]
    assert (gone.competitor.backend, gone.verdict) == ("onnxruntime", "gone")


def test_a_competitor_that_fails_in_a_later_launch_is_worse_whatever_it_was_before() -> None:
    before, after = pair(-0.5)
    broken = replace(after, rows=(*after.rows, Row(competitor("onnxruntime"), 0, "failed", "it crashed")))
    gate = compare_reports(before, broken, fail_above=0.05)
    assert (one(gate).verdict, one(gate).reasons) == ("worse", ("it crashed",))
    assert one(compare_reports(broken, broken, fail_above=0.05)).verdict == "same"  # it did before


def test_who_was_not_reached_in_a_run_that_was_ended_did_not_fail() -> None:
    before, after = pair(0.0)
    ended = replace(without_latency(after, "onnxruntime", "unreached", "not reached"), is_complete=False)
    gate = compare_reports(before, ended, fail_above=0.05)
    assert one(gate).verdict == "gone"
    assert "after: incomplete, the run was ended early" in gate.remarks


def test_rows_of_one_report_only_are_new_or_gone() -> None:
    two = Machine().report({"torch": 4, "onnxruntime": 2}, batch_sizes=(1, 8))
    other = Machine(1).report({"torch": 4, "openvino": 1}, batch_sizes=(1,))
    gate = compare_reports(two, other, fail_above=0.05)
    found = {(item.competitor.backend, item.batch_size): item.verdict for item in gate.comparisons}
    assert found.pop(("torch", 1)) in ("same", "noisy")
    gone = dict.fromkeys([("onnxruntime", 1), ("torch", 8), ("onnxruntime", 8)], "gone")
    assert found == {("openvino", 1): "new"} | gone
    assert (gate.exit_code(), gate.exit_code(strict=True), gate.num_compared) == (0, 1, 1)


def test_a_backend_that_is_not_installed_any_more_is_gone_with_the_remedy() -> None:
    before = Machine().report({"torch": 4, "openvino": 2})
    after = replace(Machine(1).report({"torch": 4}), missing={"openvino": "pip install openvino"})
    found = one(compare_reports(before, after, fail_above=0.05), "openvino")
    assert (found.verdict, found.reasons) == ("gone", ("pip install openvino",))


def test_where_nothing_is_compared_the_gate_is_shut() -> None:
    gate = compare_reports(Machine().report({"torch": 4}), Machine().report({"openvino": 1}), fail_above=0.05)
    assert (gate.num_compared, gate.exit_code()) == (0, 1)


# Yardsticks


def test_a_single_competitor_is_held_against_the_machines_level() -> None:
    before, after = (Machine(seed, 0.01, 0.002).report({"onnxruntime": ms}) for seed, ms in ((0, 2.0), (1, 2.4)))
    found = one(compare_reports(before, scaled(after, 3.0), fail_above=0.05))
    assert (found.verdict, found.yardstick) == ("worse", LEVEL)
    assert found.before == pytest.approx(LEVEL_MS / 2.0, rel=0.02)


def test_the_reference_is_held_against_the_level_and_what_it_moves_is_said() -> None:
    before, after = (
        Machine(seed, 0.01, 0.002).report({"torch": ms, "onnxruntime": 2}) for seed, ms in ((0, 4), (1, 8))
    )
    gate = compare_reports(before, after, fail_above=0.05)
    assert one(gate, "torch").yardstick == LEVEL
    assert verdicts(gate) == {"torch": "worse", "onnxruntime": "better"}
    assert "PyTorch, batch 1: the reference itself is slower by 100.0%" in "\n".join(gate.remarks)


def test_other_references_leave_the_level() -> None:
    before = Machine().report({"torch": 4, "onnxruntime": 2})
    after = Machine(1).report({"torch": 4, "onnxruntime": 2}, reference="onnxruntime")
    gate = compare_reports(before, after, fail_above=0.05)
    assert {item.yardstick for item in gate.comparisons} == {LEVEL}
    assert "other references (PyTorch before, onnxruntime after)" in "\n".join(gate.remarks)


def test_without_a_yardstick_nothing_is_claimed() -> None:
    before, after = (replace(item, levels_ms=()) for item in pair(0.5))
    found = one(compare_reports(before, after, fail_above=0.05), "torch")
    assert (found.verdict, found.factor) == ("noisy", None)


def test_a_launch_that_was_cut_short_is_compared_as_far_as_it_goes() -> None:
    before, after = pair(0.2, noise=0.005, launch_noise=0.001)
    rows = tuple(
        replace(row, rounds_ms=[*row.rounds_ms[:-1], row.rounds_ms[-1][:2]])
        if row.competitor.backend == "torch"
        else row
        for row in after.rows
    )
    assert one(compare_reports(before, replace(after, rows=rows), fail_above=0.05)).verdict == "worse"


def test_the_level_is_that_of_the_same_batch_size() -> None:
    before, after = (
        Machine(seed, 0.01, 0.002, drift=1.0).report({"onnxruntime": ms}, batch_sizes=(1, 8))
        for seed, ms in ((0, 2.0), (1, 2.4))
    )
    gate = compare_reports(before, after, fail_above=0.05)
    assert [(item.batch_size, item.verdict) for item in gate.comparisons] == [(1, "worse"), (8, "worse")]


def test_a_launch_without_a_level_is_left_out() -> None:
    before, after = (Machine(seed, 0.01, 0.002).report({"onnxruntime": ms}) for seed, ms in ((0, 2.0), (1, 2.4)))
    after = replace(after, levels_ms=(*after.levels_ms[:-1], {}))
    assert one(compare_reports(before, after, fail_above=0.05)).verdict == "worse"


# Matching


def test_one_target_may_lie_anywhere() -> None:
    before = Machine().report({"torch": 4, "onnxruntime": 2}, target="/build/1/a.onw")
    after = Machine(1).report({"torch": 4, "onnxruntime": 2}, target="/build/2/a.onw")
    gate = compare_reports(before, after, fail_above=0.1)
    assert (gate.num_compared, one(gate).yardstick) == (2, "torch")


def test_several_targets_are_told_apart() -> None:
    one, other = Machine(0).report({"torch": 4}, target="a"), Machine(1).report({"torch": 8}, target="b")
    both = replace(one, rows=one.rows + other.rows)
    gate = compare_reports(both, replace(one, rows=one.rows), fail_above=0.05)
    assert [(item.competitor.target, item.verdict) for item in gate.comparisons][1:] == [("b", "gone")]
    gate = compare_reports(both, replace(both, rows=both.rows[::-1]), fail_above=0.05)
    assert [item.competitor.target for item in gate.comparisons] == ["b", "a"]
    assert all(item.before == item.after for item in gate.comparisons)


# What is said


def test_the_environment_and_the_options_are_remarked_on() -> None:
    before, after = pair(0.0)
    after = replace(
        after,
        fingerprint=Surroundings({"torch": "2.15.0"}),  # type: ignore[arg-type]
        options=Options(num_launches=1, num_rounds=9, batch_sizes=(1, 2), seed=5),
    )
    remarks = compare_reports(before, after, fail_above=0.05).remarks
    assert remarks[:2] == (
        "another environment: torch 2.14.0 → 2.15.0",
        "other options: num_launches 5 → 1; num_rounds 30 → 9",
    )
    assert remarks[2].startswith("after: one launch does not show")


def test_doubts_are_shown_and_change_no_verdict() -> None:
    before, after = pair(0.2, noise=0.005, launch_noise=0.001)
    shaken = (Instability("load", "something else ran"), Instability("rounds", "rounds disagree"))
    after = replace(after, rows=tuple(replace(row, instabilities=shaken) for row in after.rows))
    gate = compare_reports(before, after, fail_above=0.05)
    assert (one(gate).verdict, one(gate).reasons) == ("worse", ("after: something else ran",))
    assert "onnxruntime, batch 1: after: something else ran" in gate.lines()


def test_the_table_and_the_json_have_a_row_each() -> None:
    before, after = pair(0.2, noise=0.001, launch_noise=0.0)
    gate = compare_reports(before, without_latency(after, "torch", "failed", "no memory"), fail_above=0.05)
    columns, rows = gate.table()
    assert columns == [">batch", "backend", ">before ×", ">after ×", "of", ">latency", ">95 %", ""]
    assert {len(row) for row in rows} == {len(columns)}
    assert [row[-1] for row in rows] == ["WORSE", "WORSE"]
    assert ["1", "PyTorch", "–", "–", "", "–", "", "WORSE"] in rows
    document: dict[str, Any] = json.loads(json.dumps(gate.to_json()))
    assert (document["worse"], document["fail_above"], document["num_compared"]) == (True, 0.05, 2)
    first = document["comparisons"][0]
    assert first["verdict"] in VERDICTS
    assert {"target", "backend", "provider", "threads", "batch_size", "yardstick", "before", "after"} <= first.keys()
    assert first["change"]["low"] <= first["change"]["value"] <= first["change"]["high"]


def test_levels_read_back() -> None:
    report = Machine().report({"torch": 4}, batch_sizes=(1, 8))
    from onward.host.fingerprint import take_fingerprint

    report = replace(report, fingerprint=take_fingerprint())
    again = Report.from_json(json.loads(json.dumps(report.to_json())))
    assert again.levels_ms == report.levels_ms
    assert dataclasses.asdict(again.rows[0]) == dataclasses.asdict(report.rows[0])


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), ("5 %", 0.05), ("0.05", 0.05), (".5%", 0.005), ("0", 0)])
def test_percentages(text: str, value: float) -> None:
    assert parse_percentage(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "%", "-5%", "-0.05", "5", "five", "5%%", "nan", "inf%", "1e-2", "5% 3"])
def test_what_is_no_percentage_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is no percentage, expected"):
        parse_percentage(text)


# Error rates, of simulated pairs; the seeds make each of them one fixed figure

NUM_PAIRS = 100


def rates(slowdown: float, fail_above: float, **noise: float) -> Counter[str]:
    gates = (compare_reports(*pair(slowdown, seed=seed, **noise), fail_above=fail_above) for seed in range(NUM_PAIRS))
    return Counter(one(gate).verdict for gate in gates)


@pytest.mark.parametrize("fail_above", [0.03, 0.05, 0.1])
def test_no_change_is_seldom_called_worse_or_better(fail_above: float) -> None:
    found = rates(0.0, fail_above)
    assert found["worse"] <= 1
    assert found["better"] <= 6  # 2.5 % of them are 2.5; 6 or fewer in 98 of 100 sets of 100


def test_what_is_slower_by_as_much_as_allowed_is_seldom_called_worse_or_the_same() -> None:
    found = rates(0.05, 0.05)
    assert max(found["worse"], found["same"]) <= 6
    assert found["noisy"] > 0.9 * NUM_PAIRS


def test_a_tenth_is_found() -> None:
    found = rates(0.1, 0.05)
    assert found["worse"] >= 0.8 * NUM_PAIRS
    assert found["same"] == found["better"] == 0


#: Share of the rounds that a neighbour makes 1.85 times as long, and of another program's 1.6 times.
NEIGHBOURS = [0.0, 0.3, 0.6]
FACTORS = 1.85, 1.6


def launches_of(generator: np.random.Generator, round_noise: float, launch_noise: float, busy: float) -> Launches:
    """Of two programs that take as long as each other on a machine left alone."""
    shape = (2, NUM_LAUNCHES, NUM_ROUNDS)
    logs = generator.normal(0, round_noise, shape) + generator.normal(0, launch_noise, (2, NUM_LAUNCHES, 1))
    first, second = np.where(generator.random(shape) < busy, np.reshape(FACTORS, (2, 1, 1)), 1) * np.exp(logs)
    return list(zip(first.tolist(), second.tolist(), strict=True))


@pytest.mark.parametrize("busy", NEIGHBOURS)
@pytest.mark.parametrize(("round_noise", "launch_noise"), [(0.02, 0.01), (0.01, 0.03)])
def test_the_intervals_have_the_truth_as_often_as_they_say(
    round_noise: float, launch_noise: float, busy: float
) -> None:
    generator = np.random.default_rng(0)
    hits, num_pairs = Counter[str](), 200
    for _ in range(num_pairs):
        before, after = (launches_of(generator, round_noise, launch_noise, share) for share in (0.3, busy))
        change, ratio = change_interval(before, after), ratio_interval(after)
        hits.update(change=change.low <= 1 <= change.high, ratio=ratio.low <= 1 <= ratio.high)
    assert min(hits.values()) / num_pairs >= 0.92  # two standard errors below 95 %


def test_one_launch_is_not_taken_for_all() -> None:
    before, after = [([1.0] * 7, [1.0] * 7)], [([1.03] * 7, [1.0] * 7)]
    interval = change_interval(before, after)
    assert interval.low < 1 < 1.05 < interval.high
    assert interval.value == pytest.approx(1.03)
    assert level_of(after) == pytest.approx(1.03)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.706), (4, 2.776), (10, 2.228), (11, 2.201), (20, 2.086), (60, 2.000), (0, 1.960)]
)
def test_students_t(freedom: int, expected: float) -> None:
    assert students_t(freedom) == pytest.approx(expected, abs=6e-4)
