"""What a lower precision loses: the figures, their bounds, and the sentences of a verdict."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onward.errors import BundleError, UsageError
from onward.fidelity import Budget, Fidelity, net_loss_bound
from onward.tasks.class_fidelity import measure_fidelity
from onward.tasks.task import NO_TARGET

LAW = settings(max_examples=60, deadline=None)
LABELS = ("boot", "coat", "shirt")
#: Of sums of numbers near 1 in float64, in another order.
ROUNDING = 1e-9
NO_NOISE = 0.0


def logits_of(answers: Any, *, margin: float = 4.0) -> NDArray[np.float64]:
    """Logits of a model that gives these classes, sure of each by a margin."""
    return np.eye(len(LABELS))[np.asarray(answers)] * margin


def measure(before: Any, after: Any, targets: Any, **options: Any) -> Fidelity:
    """Of two models that give these classes."""
    known = None if targets is None else np.asarray(targets, np.int64)
    return measure_fidelity(LABELS, logits_of(before), logits_of(after), known, NO_NOISE, **options)


@st.composite
def measurements(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Logits of two models and targets, of which some are missing."""
    count = draw(st.integers(2, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    reference = generator.normal(size=(count, 3)) * 3
    candidate = reference + generator.normal(size=(count, 3)) * draw(st.sampled_from([0.01, 0.5, 3]))
    return reference, candidate, generator.integers(NO_TARGET, 3, count)


@LAW
@given(measurements(), st.sampled_from([0.0, 0.01, 1.0]))
def test_a_model_loses_nothing_against_itself(drawn: Any, noise_floor: float) -> None:
    reference, _, targets = drawn
    found = measure_fidelity(LABELS, reference, reference, targets, noise_floor)
    assert (found.lost, found.won, found.kl, found.kl_p99, found.agreement) == (0, 0, 0, 0, 1)
    assert (found.num_within_noise, found.num_unanswered, found.worse_classes) == (0, 0, ())
    assert found.accuracy_after == found.accuracy_before
    assert found.nll_change in (0, None)


@LAW
@given(measurements())
def test_swapping_the_models_swaps_what_is_lost_and_won(drawn: Any) -> None:
    reference, candidate, targets = drawn
    there = measure_fidelity(LABELS, reference, candidate, targets, NO_NOISE)
    back = measure_fidelity(LABELS, candidate, reference, targets, NO_NOISE)
    assert (back.lost, back.won, back.agreement) == (there.won, there.lost, there.agreement)
    assert (back.accuracy_before, back.accuracy_after) == (there.accuracy_after, there.accuracy_before)
    if there.num_labelled:
        assert there.loss == -back.loss  # type: ignore[operator]
        assert back.nll_change == pytest.approx(-there.nll_change, abs=ROUNDING)  # type: ignore[operator]


@LAW
@given(measurements(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(drawn: Any, random: Any) -> None:
    order = list(range(len(drawn[0])))
    random.shuffle(order)
    one = measure_fidelity(LABELS, *drawn, NO_NOISE).to_json()
    other = measure_fidelity(LABELS, *(array[order] for array in drawn), NO_NOISE).to_json()
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert other[key] == (pytest.approx(value, abs=ROUNDING) if isinstance(value, float) else value)


@LAW
@given(measurements(), st.integers(2, 5))
def test_more_images_of_the_same_kind_bring_the_bounds_nearer(drawn: Any, times: int) -> None:
    one = measure_fidelity(LABELS, *drawn, NO_NOISE)
    more = measure_fidelity(LABELS, *(np.concatenate([array] * times) for array in drawn), NO_NOISE)
    assert more.kl == pytest.approx(one.kl, abs=ROUNDING)
    if one.num_labelled:
        assert more.loss == pytest.approx(one.loss)
        assert one.loss < more.loss_bound < one.loss_bound  # type: ignore[operator]
    if one.num_labelled > 1:
        assert more.nll_change - ROUNDING <= more.nll_bound <= one.nll_bound + ROUNDING  # type: ignore[operator]


@LAW
@given(measurements())
def test_it_reads_back_equal(drawn: Any) -> None:
    found = measure_fidelity(LABELS, *drawn, NO_NOISE, Budget(max_loss=0.02))
    assert Fidelity.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_figures_of_a_small_example() -> None:
    found = measure([0, 0, 1, 2, 2], [0, 1, 1, 1, 2], [0, 0, 1, 1, NO_TARGET])
    assert (found.num_images, found.num_labelled, found.num_answers, found.chance) == (5, 4, 3, 0.5)
    assert (found.lost, found.won, found.accuracy_before, found.accuracy_after) == (1, 1, 0.75, 0.75)
    assert found.loss == 0
    assert found.loss_bound == pytest.approx((1.645**2 / 2 + 1.645 * math.sqrt(2 + 1.645**2 / 4)) / 4)
    assert found.agreement == 0.6
    # softmax of (4, 0, 0): p of the largest, q of each other one; where they differ the divergence is 4 (p - q)
    p, q = np.exp([4, 0]) / (np.exp(4) + 2)
    assert found.kl == pytest.approx(4 * (p - q) * 2 / 5)
    # an image that is lost raises the NLL by 4, one that is won lowers it by 4
    assert found.nll_change == pytest.approx(0)
    assert found.nll_bound == pytest.approx(1.645 * np.std([0, 4, 0, -4], ddof=1) / 2)


@pytest.mark.parametrize(("noise_floor", "counted"), [(0.0, 1), (0.049, 1), (0.051, 0)])
def test_a_disagreement_counts_where_the_margin_is_above_the_noise(noise_floor: float, counted: int) -> None:
    reference, candidate = np.float64([[0.1, 0, 0], [4, 0, 0]]), np.float64([[0, 0.1, 0], [4, 0, 0]])
    found = measure_fidelity(LABELS, reference, candidate, None, noise_floor)
    assert (found.agreement, found.num_within_noise) == (1 - counted / 2, 1 - counted)


def test_an_output_that_is_not_finite_is_wrong_and_agrees_with_nothing() -> None:
    candidate = logits_of([0] * 300 + [1] * 300)
    candidate[0, 2] = np.nan
    found = measure_fidelity(LABELS, logits_of([0] * 300 + [1] * 300), candidate, None, 100.0)
    assert (found.num_unanswered, found.num_within_noise, found.agreement) == (1, 0, 1 - 1 / 600)
    assert found.kl == 0
    assert found.problems() == ["The outputs for 1 of 600 images are NaN or infinite."]
    labelled = measure_fidelity(LABELS, logits_of([0, 1]), np.full((2, 3), np.nan), np.int64([0, 1]), 0.0)
    assert (labelled.lost, labelled.nll_change, labelled.nll_bound) == (2, None, None)
    assert not labelled.passed


@pytest.mark.parametrize(("lost_share", "won_share"), [(0.002, 0), (0.005, 0), (0.003, 0.003), (0.02, 0.01)])
@pytest.mark.parametrize("count", [600, 2000, 10_000])
def test_the_bound_holds_in_95_of_100_draws(count: int, lost_share: float, won_share: float) -> None:
    draws = np.random.default_rng(7).multinomial(count, [lost_share, won_share, 1 - lost_share - won_share], 4000)
    true = lost_share - won_share
    held = np.mean([net_loss_bound(int(lost), int(won), count) >= true - ROUNDING for lost, won, _ in draws])
    assert held > 0.94  # 0.95 less three standard errors of 4,000 draws


def test_the_bound_of_the_likelihood_holds_in_95_of_100_draws() -> None:
    generator = np.random.default_rng(7)
    held, num_draws = 0, 500
    for _ in range(num_draws):
        shift = generator.normal(0.01, 0.2, 400)  # of the second logit: the first one's NLL rises with it
        reference = np.zeros((400, 2))
        candidate = np.stack([np.zeros(400), shift], 1)
        true = 0.01 / 2 + (0.2**2 + 0.01**2) / 8  # log(1 + exp(s)) - log 2, to second order
        found = measure_fidelity(("a", "b"), reference, candidate, np.zeros(400, np.int64), 0.0)
        assert found.nll_bound is not None
        held += found.nll_bound >= true
    assert 0.92 < held / num_draws < 0.98


def balanced(count: int) -> NDArray[np.int64]:
    return np.arange(count) % 3


def change(targets: NDArray[np.int64], places: Any) -> NDArray[np.int64]:
    """The same classes with the next one at these places."""
    changed = targets.copy()
    changed[places] = (changed[places] + 1) % 3
    return changed


def test_it_is_described_in_half_a_sentence() -> None:
    targets = balanced(3000)
    lost, won = change(targets, range(6)), change(targets, range(30, 36))
    assert measure(targets, lost, targets).describe() == (
        "it loses 0.2 points of accuracy on 3,000 images, at most 0.387 points (95 %), and the budget is 0.5 points; "
        "99.80% of 3,000 images have the same answer as in float32"
    )
    assert measure(won, targets, targets).describe().startswith(
        "it wins 0.2 points of accuracy on 3,000 images, and loses at most 0 points (95 %)"
    )  # fmt: skip
    assert measure(targets, lost, None).describe() == (
        "99.80% of 3,000 images have the same answer as in float32, the budget is 98.00%; what accuracy it loses is "
        "unknown, because no image had a label"
    )


def test_within_the_budget_nothing_is_said() -> None:
    targets = balanced(3000)
    found = measure(targets, change(targets, [5]), targets)
    assert found.problems() == []
    assert found.passed
    assert found.is_loss_proven


def test_a_loss_above_the_budget_is_said_with_its_figures() -> None:
    targets = balanced(3000)
    found = measure(targets, change(targets, range(12)), targets)
    problems = found.problems()
    assert problems[0] == (
        "The loss of accuracy may be as large as 0.64 points (95 %), and the budget is 0.5 points: of 3,000 labelled "
        "images 12 are lost and 0 won."
    )
    assert problems[1].startswith("The rise of the negative log-likelihood may be as large as 0.0")
    assert not found.passed
    assert not found.is_loss_proven
    assert replace(found, budget=Budget(max_loss=0.01, max_nll=0.1)).passed


def test_too_few_images_are_said_with_how_many_are_needed() -> None:
    assert Budget().min_labelled == 542
    for count, enough in ((541, False), (542, True)):
        found = measure(balanced(count), balanced(count), balanced(count))
        assert found.passed == found.is_loss_proven == enough
    found = measure(balanced(100), balanced(100), balanced(100))
    assert found.problems() == [
        "100 labelled images are too few to prove a loss of at most 0.5 points: even if none is lost, 542 are needed."
    ]


def test_without_labels_divergence_and_agreement_decide_and_the_loss_is_not_proven() -> None:
    answers = balanced(3000)
    same = measure(answers, answers, None)
    assert same.passed
    assert not same.is_loss_proven
    assert (same.num_labelled, same.accuracy_before, same.loss, same.loss_bound, same.nll_bound) == (0, *[None] * 4)
    found = measure(answers, change(answers, range(90)), np.full(3000, NO_TARGET))
    assert [problem.split(" is ")[0] for problem in found.problems()] == [
        "The mean KL divergence",
        "97.00% of 3,000 images have the same answer as with float32, and the budget",
    ]
    few = measure(balanced(100), balanced(100), None).problems()
    assert few == ["100 images are too few to prove that 98.00% agree: even if all do, 136 are needed."]
    (one,) = measure([1] * 200, [1] * 200, None).problems()
    assert "says the same class for every image" in one


@pytest.mark.parametrize("answers", [[0] * 900, np.random.default_rng(0).integers(0, 3, 900)])
def test_a_model_at_chance_proves_nothing(answers: Any) -> None:
    (problem,) = measure(answers, answers, balanced(900)).problems()
    assert "at chance, so it has nothing to lose" in problem


def test_images_of_one_class_prove_nothing() -> None:
    (problem,) = measure([0] * 900, [0] * 900, [0] * 900).problems()
    assert "100.00% of them have the most frequent label" in problem


def test_a_class_that_loses_alone_is_named_and_no_other() -> None:
    targets = balanced(6000)
    before = change(targets, range(0, 300, 3))  # 100 of the first class are wrong
    after = change(change(targets, range(0, 300, 3)), range(1, 120, 3))  # 40 of the second are lost
    after[range(2, 20, 3)] = 0  # 6 of the third
    (worse,) = measure(before, after, targets).worse_classes
    assert (worse.label, worse.num_images, worse.lost, worse.won) == ("coat", 2000, 40, 0)
    assert 0 < worse.bound < 40 / 2000
    text = measure(before, after, targets).describe()
    assert text.endswith("; these classes lose more than the others: coat (40 of 2,000 images)")
    few = measure([1] * 9 + [0] * 3000, [0] * 9 + [0] * 3000, [1] * 9 + [0] * 3000)
    assert few.worse_classes == ()


def test_classes_are_rarely_named_by_chance() -> None:
    """One in twenty measurements, where all classes lose alike."""
    generator, labels = np.random.default_rng(3), tuple(map(str, range(20)))
    targets, identity = np.arange(2000) % 20, np.eye(20)
    named = 0
    for _ in range(200):
        after = np.where(generator.random(2000) < 0.05, (targets + 1) % 20, targets)
        named += bool(measure_fidelity(labels, identity[targets], identity[after], targets, 0.0).worse_classes)
    assert named / 200 < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference_logits": np.zeros((2, 2))}, r"the reference have shape \(2, 2\), expected \(2, 3\)"),
        ({"candidate_logits": np.zeros((3, 3))}, r"the candidate have shape \(3, 3\), expected \(2, 3\)"),
        ({"targets": np.int64([0, 3])}, "targets do not fit: expected a class from 0 to 2"),
        ({"targets": np.int64([0])}, "targets do not fit"),
        ({"reference_logits": np.full((2, 3), np.inf)}, "float32 model are NaN or infinite"),
        ({"reference_logits": np.zeros((0, 3)), "candidate_logits": np.zeros((0, 3)), "targets": None}, "no images"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    fitting = {"reference_logits": np.zeros((2, 3)), "candidate_logits": np.zeros((2, 3)), "targets": None}
    with pytest.raises(UsageError, match=message):
        measure_fidelity(LABELS, noise_floor=0.0, **{**fitting, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values", [{"max_loss": 0.0}, {"max_loss": 1.5}, {"max_nll": math.nan}, {"max_kl": -1.0}, {"min_agreement": 1.0}]
)
def test_a_budget_out_of_range_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"the budget's {next(iter(values))} is"):
        Budget(**values)


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        ({"agreement": 1.5}, "agreement of a fidelity is 1.5, expected a number from 0 to 1"),
        ({"kl": math.inf}, "kl of a fidelity is inf"),
        ({"num_images": -1}, "num_images of a fidelity is -1"),
        ({"chance": None}, "has 3 labelled images"),
        ({"budget": {"max_loss": 2.0}}, "the fidelity: budget: the budget's max_loss is 2.0"),
        ({"lost": "1"}, "the fidelity: lost is '1', expected a whole number"),
    ],
)
def test_a_forged_record_is_refused(forged: dict[str, Any], message: str) -> None:
    document = measure([0, 1, 2], [0, 1, 2], [0, 1, 2]).to_json() | forged
    with pytest.raises(BundleError, match=message):
        Fidelity.from_json(document)
