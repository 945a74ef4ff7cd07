from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from onward.errors import BackendError
from onward.parity import (
    BATCH_SIZES,
    CONSTANT,
    MAX_NOISE_RATIO,
    MAX_RELATIVE_ERROR,
    Comparison,
    Noise,
    Verdict,
    batchings,
    compare,
    judge,
    measure_noise,
    regroup,
)

LAW = settings(max_examples=60, deadline=None)
NOISE = Noise(floor=1e-6, rms=3e-7, scale=1.0)
UNMEASURED = Noise(floor=1e-6, rms=3e-7, scale=1.0, is_measured=False)
#: Far above the smallest normal number, so that scaling by a power of two rounds nothing.
SIZES = st.floats(0.125, 8, width=32) | st.floats(-8, -0.125, width=32)
TABLE = arrays(np.float64, (3, 4), elements=SIZES)
#: Errors of the size of float32's own, exact in it next to numbers of up to 8.
ERRORS = arrays(np.float64, (3, 4), elements=st.integers(-64, 64).map(lambda ulps: ulps * 2.0**-20))


def row(
    candidate: NDArray[Any], reference: NDArray[np.float64], noise: Noise = NOISE, kind: str = "random"
) -> Comparison:
    return compare("logits", kind, [candidate], reference, reference.astype(np.float32), noise)


def reference_table() -> NDArray[np.float64]:
    return np.linspace(-1, 1, 12).reshape(3, 4)


@LAW
@given(TABLE, ERRORS, ERRORS, st.integers(-20, 20))
def test_the_noise_ratio_does_not_depend_on_the_scale(
    reference: NDArray[np.float64], of_eager: NDArray[np.float64], of_candidate: NDArray[np.float64], power: int
) -> None:
    def measured(scale: float) -> Comparison:
        eager = ((reference + of_eager) * scale).astype(np.float32)
        noise = measure_noise(reference * scale, [eager])
        candidate = ((reference + of_candidate) * scale).astype(np.float32)
        return compare("logits", "random", [candidate], reference * scale, eager, noise)

    one, other = measured(1.0), measured(2.0**power)
    assert (one.noise_ratio, one.rms_ratio) == (other.noise_ratio, other.rms_ratio)
    assert one.passed == other.passed


@LAW
@given(TABLE, st.lists(ERRORS, min_size=1, max_size=4))
def test_pytorch_itself_is_never_above_its_own_floor(
    reference: NDArray[np.float64], errors: list[NDArray[np.float64]]
) -> None:
    ways = [(reference + error).astype(np.float32) for error in errors]
    noise = measure_noise(reference, ways)
    verdict = compare("logits", "random", ways, reference, ways[0], noise)
    assert verdict.noise_ratio <= 1
    assert verdict.rms_ratio <= 1
    assert verdict.passed


@LAW
@given(TABLE, ERRORS, ERRORS)
def test_more_ways_never_lower_the_floor(
    reference: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]
) -> None:
    assert measure_noise(reference, [reference + one, reference + other]).floor == max(
        measure_noise(reference, [reference + error]).floor for error in (one, other)
    )


def test_a_lucky_floor_is_lifted_to_four_units_in_the_last_place() -> None:
    reference = reference_table()
    noise = measure_noise(reference, [reference])
    assert noise.floor == 4 * float(np.spacing(np.float32(1)))
    assert noise.rms > 0
    assert noise.scale == 1


def test_a_floor_above_a_share_of_the_scale_is_ill_conditioned() -> None:
    assert Noise(floor=1.01 * MAX_RELATIVE_ERROR * 5, rms=1e-6, scale=5.0).is_ill_conditioned
    assert not Noise(floor=0.99 * MAX_RELATIVE_ERROR * 5, rms=1e-6, scale=5.0).is_ill_conditioned


@pytest.mark.parametrize(("times", "passed"), [(0.0, True), (0.99, True), (1.01, False), (100.0, False)])
def test_the_gate_is_at_its_noise_ratio(times: float, passed: bool) -> None:
    reference = reference_table()
    candidate = reference.copy()
    candidate[1, 2] += times * MAX_NOISE_RATIO * NOISE.floor
    assert row(candidate, reference).passed is passed


@pytest.mark.parametrize(("times", "passed"), [(0.99, True), (1.01, False)])
def test_constant_images_fail_only_above_a_share_of_the_scale(times: float, passed: bool) -> None:
    reference = reference_table()
    candidate = reference + times * MAX_RELATIVE_ERROR * NOISE.scale
    verdict = row(candidate, reference, kind=CONSTANT)
    assert verdict.noise_ratio > MAX_NOISE_RATIO
    assert verdict.passed is passed


@pytest.mark.parametrize(("delta", "passed"), [(1e-5, True), (1e-4, False)])
def test_without_a_measured_floor_assert_close_decides(delta: float, passed: bool) -> None:
    verdict = row(reference_table() + delta, reference_table(), UNMEASURED)
    assert verdict.noise_ratio > MAX_NOISE_RATIO
    assert verdict.passed is verdict.assert_close is passed


@pytest.mark.parametrize("difference", [0.0, 5e-6, 0.99e-5, 1.2e-5, 1e-3])
def test_assert_close_says_what_torch_says(difference: float) -> None:
    torch = pytest.importorskip("torch", reason="the runtime floor is tested without PyTorch, too")
    eager = reference_table().astype(np.float32)
    candidate = (eager + np.float32(difference)).astype(np.float32)
    said = compare("logits", "random", [candidate], eager.astype(np.float64), eager, NOISE).assert_close
    try:
        torch.testing.assert_close(torch.tensor(candidate), torch.tensor(eager))
    except AssertionError:
        assert not said
    else:
        assert said


@pytest.mark.parametrize("noise", [NOISE, UNMEASURED], ids=["measured", "unmeasured"])
@pytest.mark.parametrize("kind", ["real", "random", CONSTANT])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_fails(value: float, kind: str, noise: Noise) -> None:
    candidate = reference_table()
    candidate[2, 3] = value
    verdict = row(candidate, reference_table(), noise, kind)
    assert not verdict.passed
    assert not verdict.assert_close
    assert not Verdict("onnx", (row(reference_table(), reference_table()), verdict)).passed


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_floor_that_is_no_number_fails() -> None:
    reference = reference_table()
    noise = measure_noise(reference, [reference, np.full_like(reference, np.nan)])
    assert not row(reference, reference, noise).passed


def test_the_worst_of_several_candidates_counts() -> None:
    reference = reference_table()
    good, bad = reference, reference + 5 * NOISE.floor
    both = compare("logits", "random", [good, bad], reference, reference.astype(np.float32), NOISE)
    assert both.error == row(bad, reference).error
    assert not both.passed
    assert both.num_samples == 3


def test_nothing_compared_is_nothing_passed() -> None:
    assert not Verdict("onnx", ()).passed


def test_the_worst_row_is_a_nan_then_the_largest_ratio_then_constant_images() -> None:
    reference = reference_table()
    calm, loud = row(reference, reference), row(reference + 1e-3, reference)
    constant = row(reference + 1, reference, kind=CONSTANT)
    broken = row(np.full_like(reference, np.nan), reference)
    assert Verdict("onnx", (calm, constant, loud)).worst is loud
    assert Verdict("onnx", (calm, broken, loud)).worst is broken
    assert Verdict("onnx", (constant,)).worst is constant


def test_the_json_form_holds_every_figure_and_the_verdict() -> None:
    verdict = Verdict("onnx", (row(reference_table() + 1e-3, reference_table()),))
    document = json.loads(json.dumps(verdict.to_json()))
    assert (document["artifact"], document["passed"]) == ("onnx", False)
    assert document["noise_ratio"] == pytest.approx(1000)
    (comparison,) = document["comparisons"]
    assert comparison["noise"] == {"floor": 1e-6, "rms": 3e-7, "scale": 1.0, "is_measured": True}
    assert comparison["top1_agreement"] is None, "without a task nothing is known of it"
    assert {"error", "rms_error", "noise_ratio", "rms_ratio", "max_delta", "assert_close", "passed"} <= set(comparison)


@LAW
@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.just(2), st.just(2), st.just(1))), st.integers(1, 45))
def test_splitting_a_batch_changes_nothing(images: NDArray[np.uint8], batch_size: int) -> None:
    sizes: list[int] = []

    def run(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        sizes.append(len(batch))
        return {"sum": batch.sum((1, 2)).astype(np.float32), "first": batch[:, 0, 0].astype(np.float32)}

    joined = regroup(run, images, batch_size)
    assert set(sizes[:-1]) <= {batch_size}
    assert sum(sizes) == len(images)
    for name, whole in run(images).items():
        np.testing.assert_array_equal(joined[name], whole)


@pytest.fixture
def model() -> Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]:
    weights = np.random.default_rng(0).normal(size=(4, 3))
    return lambda images: {"logits": images.reshape(len(images), 4) / 255 @ weights}


def judged(run: Any, model: Any) -> Verdict:
    inputs = {"random": np.random.default_rng(1).integers(0, 256, (33, 2, 2, 1), np.uint8)}
    reference = {kind: model(images) for kind, images in inputs.items()}
    eager = {kind: {name: array.astype(np.float32) for name, array in reference[kind].items()} for kind in inputs}
    noise = {
        kind: {name: measure_noise(reference[kind][name], [eager[kind][name]]) for name in eager[kind]}
        for kind in inputs
    }
    return judge("candidate", run, inputs, reference, eager, noise)


def test_a_candidate_is_run_at_every_batch_size(model: Any) -> None:
    sizes: set[int] = set()

    def run(images: NDArray[np.uint8]) -> Any:
        sizes.add(len(images))
        return model(images)

    assert judged(run, model).passed
    assert set(BATCH_SIZES) <= sizes


@pytest.mark.parametrize("faulty_size", BATCH_SIZES)
def test_a_candidate_that_fails_at_one_batch_size_fails(faulty_size: int, model: Any) -> None:
    def run(images: NDArray[np.uint8]) -> Any:
        return {name: array + 1e-2 * (len(images) == faulty_size) for name, array in model(images).items()}

    assert not judged(run, model).passed


def test_a_candidate_that_gives_the_same_number_of_rows_for_every_batch_is_an_error() -> None:
    def run(feed: Any) -> dict[str, NDArray[np.float32]]:
        return {"logits": np.zeros((2, 4), np.float32)}

    images = np.zeros((4, 8, 8, 1), np.uint8)
    assert regroup(run, images, 2)["logits"].shape == (4, 4)
    with pytest.raises(BackendError, match=r"logits has the shape \(2, 4\) for a batch of size 1"):
        regroup(run, images, 1)


def test_a_candidate_that_reads_over_into_its_neighbours_fails(model: Any) -> None:
    def run(images: NDArray[np.uint8]) -> Any:
        return {name: array - 1e-3 * array.mean(0) for name, array in model(images).items()}

    assert not judged(run, model).passed


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9, 32, 33, 64])
def test_every_batching_holds_every_sample_once(count: int) -> None:
    assert all(sum(sizes) == count and min(sizes) > 0 for sizes in batchings(count))
    assert max(batchings(count)[-1]) == min(count, max(BATCH_SIZES))
    assert batchings(count)[0][0] == 1


def test_few_samples_run_twice_and_many_in_batches_of_each_size() -> None:
    assert batchings(8) == [(1, 2, 5), (8,)]
    assert batchings(1) == [(1,)]
    assert batchings(5, CONSTANT) == [(5,)]
    assert [max(sizes) for sizes in batchings(64)] == list(BATCH_SIZES)


@pytest.mark.parametrize(
    ("ratio", "kind", "is_certain"),
    [
        *((1.5, "random", True), (1.51, "random", False), (3.0, "random", False), (12.0, "random", False)),
        *((12.1, "random", True), (float("nan"), "random", True), (5.0, CONSTANT, True)),
    ],
)
def test_a_verdict_near_the_limit_is_not_certain(ratio: float, kind: str, is_certain: bool) -> None:
    row = Comparison("logits", kind, 8, ratio, ratio, Noise(1.0, 1.0, 1e5), 0.0, True, None)
    assert row.is_certain is is_certain
    assert Verdict("onnx", (row,)).is_certain is is_certain


def test_one_certain_failure_makes_a_verdict_certain() -> None:
    doubtful, failed = (
        Comparison("logits", "random", 8, ratio, ratio, Noise(1.0, 1.0, 1e5), 0.0, True, None) for ratio in (2.0, 99.0)
    )
    assert Verdict("onnx", (doubtful, failed)).is_certain
    assert not Verdict("onnx", (doubtful,)).is_certain
