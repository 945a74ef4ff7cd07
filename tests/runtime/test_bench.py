from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.bench import BACKENDS, Plan, Timing, bench
from runtime.bundle import Bundle
from runtime.errors import ProviderError, UsageError

QUICK = Plan(batch_sizes=(1, 3), num_rounds=2, warm_up_s=0.0)


@pytest.fixture(scope="module")
def rounds() -> list[None]:
    return []


@pytest.fixture(scope="module")
def timings(shared_bundle: Bundle, rounds: list[None]) -> list[Timing]:
    return bench(shared_bundle, QUICK, on_round=lambda: rounds.append(None))


def test_every_backend_has_a_row_at_every_batch_size(timings: list[Timing]) -> None:
    expected = [(name, size) for size in QUICK.batch_sizes for name in BACKENDS]
    assert [(row.backend, row.batch_size) for row in timings] == expected


def test_the_ratio_is_over_pytorch(timings: list[Timing]) -> None:
    assert [row.ratio for row in timings if row.backend == "torch"] == [1, 1]
    assert all(row.ratio is not None and row.ratio > 0 for row in timings)


def test_percentiles_are_in_order_and_among_the_latencies(timings: list[Timing]) -> None:
    for row in timings:
        assert 0 < row.median_ms <= row.p90_ms <= row.p99_ms <= max(row.latencies_ms)
        assert row.num_inferences == len(row.latencies_ms) >= QUICK.num_rounds


def test_throughput_is_the_batch_over_the_median(timings: list[Timing]) -> None:
    for row in timings:
        assert row.images_per_s == pytest.approx(row.batch_size / (row.median_ms / 1000))
        assert row.deviation >= 0


@pytest.mark.usefixtures("timings")
def test_every_round_is_told(rounds: list[None]) -> None:
    assert len(rounds) == QUICK.num_rounds * len(QUICK.batch_sizes)


def test_the_json_form_leaves_out_the_single_latencies(timings: list[Timing]) -> None:
    document = json.loads(json.dumps(timings[0].to_json()))
    assert "latencies_ms" not in document
    assert document["backend"] == "torch"


def test_without_pytorch_there_is_no_ratio(shared_bundle: Bundle) -> None:
    plan = Plan(batch_sizes=(1,), num_rounds=1, warm_up_s=0.0, num_threads=1)
    (row,) = bench(shared_bundle, plan, backends=["onnxruntime"])
    assert (row.backend, row.ratio) == ("onnxruntime", None)


def test_an_unknown_backend_is_a_usage_error(shared_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="'tflite' is unknown; expected torch, torchscript, onnxruntime"):
        bench(shared_bundle, QUICK, backends=["onnxruntime", "tflite"])


@pytest.mark.parametrize("change", [{"batch_sizes": ()}, {"batch_sizes": (1, 0)}, {"num_rounds": 0}])
def test_a_plan_that_times_nothing_is_a_usage_error(shared_bundle: Bundle, change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        bench(shared_bundle, Plan(**change))


def test_a_provider_is_asked_for_strictly(shared_bundle: Bundle) -> None:
    with pytest.raises(ProviderError, match="'gpu' is unknown"):
        bench(shared_bundle, Plan(provider="gpu"))
