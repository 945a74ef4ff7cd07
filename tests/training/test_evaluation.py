"""Evaluation: the laws of its figures, scikit-learn's figures beside ours, and the page that shows them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from onward.cli.console import print_json
from onward.errors import DataError, Refusal
from onward.tasks.classification import PROBABILITIES
from onward_training.checkpoint import Checkpoint, Epoch
from onward_training.data import Dataset, FileSplit, Split, load
from onward_training.evaluation import CLASS_COLUMNS, NUM_LISTED, Evaluation, class_rows
from onward_training.evaluation_page import NUM_CARDS, NUM_ROWS, write_evaluation_page
from onward_training.evaluator import BATCH_SIZE, checkpoint_runner, evaluate
from onward_training.text import print_evaluation
from tests.bundles import UNDEFINED, path_of

LAW = settings(max_examples=60, deadline=None)
#: Float64 sums of a few hundred terms, added in another order.
ROUNDING = 1e-12
#: The loss beside scikit-learn's, which scales the float32 rows to a sum of 1 first: they are off it by float32's step.
FLOAT32_ROUNDING = 1e-5
EVIL = "\"'><b>bold</b>&amp;"


def made_up(count: int, num_classes: int, *, seed: int = 0, skill: float = 1.5) -> Evaluation:
    """Softmax of noise, with `skill` more for the true class; without equal probabilities."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, num_classes, count)
    scores = generator.normal(size=(count, num_classes))
    scores[np.arange(count), targets] += skill
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return Evaluation(probabilities.astype(np.float32), targets)


@st.composite
def evaluations(draw: st.DrawFn) -> Evaluation:
    """Few images, few classes, many equal probabilities and absent classes."""
    count, num_classes = draw(st.integers(1, 40)), draw(st.integers(1, 7))
    levels = draw(
        arrays(np.float32, (count, num_classes), elements=st.sampled_from([0, 0.25, 1, 3]), fill=st.nothing())
    )
    levels[:, 0] += levels.sum(1) == 0
    targets = draw(arrays(np.int64, count, elements=st.integers(0, num_classes - 1), fill=st.nothing()))
    return Evaluation(levels / levels.sum(1, keepdims=True), targets)


@LAW
@given(evaluations())
def test_the_confusion_matrix_counts_each_image_once(evaluation: Evaluation) -> None:
    assert evaluation.confusion.sum() == len(evaluation.targets)
    assert evaluation.by_class.num_images.sum() == evaluation.by_class.num_predicted.sum() == len(evaluation.targets)


@LAW
@given(evaluations())
def test_recall_weighted_by_images_is_the_accuracy(evaluation: Evaluation) -> None:
    figures = evaluation.by_class
    weighted = np.nansum(figures.recall * figures.num_images) / figures.num_images.sum()
    assert weighted == pytest.approx(evaluation.accuracy, abs=ROUNDING)


@LAW
@given(evaluations())
def test_top_k_accuracy_begins_at_the_accuracy_and_rises_to_one(evaluation: Evaluation) -> None:
    shares = [evaluation.top_k_accuracy(k) for k in range(evaluation.num_classes + 2)]
    assert shares[0] == 0
    assert shares[1] == evaluation.accuracy
    assert shares == sorted(shares)
    assert shares[-2] == shares[-1] == 1


@LAW
@given(evaluations())
def test_ranks_are_those_of_a_stable_sort(evaluation: Evaluation) -> None:
    ranked = np.argsort(-evaluation.probabilities, axis=1, kind="stable")
    np.testing.assert_array_equal(evaluation.ranks, np.argmax(ranked == evaluation.targets[:, None], 1))


@LAW
@given(evaluations())
def test_the_calibration_error_is_the_mean_gap_of_the_bins_and_at_most_one(evaluation: Evaluation) -> None:
    gaps = np.zeros(15)
    counts = [0] * 15
    for confidence, is_right in zip(
        evaluation.confidence.tolist(), evaluation.predicted == evaluation.targets, strict=True
    ):
        place = next(place for place in range(15) if confidence <= (place + 1) / 15)
        gaps[place] += is_right - confidence
        counts[place] += 1
    assert [item.num_images for item in evaluation.calibration_bins] == counts
    assert evaluation.calibration_error == pytest.approx(np.abs(gaps).sum() / len(evaluation.targets), abs=ROUNDING)
    assert 0 <= evaluation.calibration_error <= 1


def drawn(count: int, sharpness: float, *, seed: int = 0) -> Evaluation:
    """A network whose confidences are right, or too high where `sharpness` is above 1."""
    generator = np.random.default_rng(seed)
    truth = generator.dirichlet((0.4,) * 5, count)
    targets = (truth.cumsum(1) > generator.random((count, 1))).argmax(1)
    probabilities = truth**sharpness
    return Evaluation((probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32), targets)


@pytest.mark.parametrize("count", [30, 400])
def test_a_calibrated_network_has_about_the_calibration_error_of_chance(count: int) -> None:
    found = [drawn(count, 1.0, seed=seed) for seed in range(200)]
    ratio = np.mean([item.calibration_error for item in found]) / np.mean(
        [item.calibration_error_by_chance for item in found]
    )
    assert 0.9 < ratio < 1.1
    within = np.mean([item.overconfidence[1] <= 0 <= item.overconfidence[2] for item in found])
    assert 0.92 <= within <= 1


def test_few_images_say_nothing_of_the_calibration_in_the_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    """The confidence is 0.7; of four images two or three are right, of 400 half."""
    for num_images, num_right, is_shown in ((4, 3, False), (4, 2, False), (400, 200, True)):
        targets = np.where(np.arange(num_images) < num_right, 0, 1)
        probabilities = np.tile(np.float32([0.7, 0.3]), (num_images, 1))
        print_evaluation(Evaluation(probabilities, targets, np.arange(num_images)), ("a", "b"))
        assert ("on so few images" not in capsys.readouterr().out) == is_shown, num_right


def test_too_few_images_give_no_verdict_on_the_calibration(write: Write) -> None:
    few, many = drawn(44, 1.0), drawn(4000, 2.0)
    assert "44 images do not show whether the network is over- or underconfident." in write(few).text
    assert "by chance, so few images give about" in write(few).text
    assert re.search(r"the network is overconfident by \S+ points \(95 % interval: ", write(many).text)
    assert "so few images" not in write(many).text
    assert many.overconfidence[0] == pytest.approx(float(many.confidence.mean()) - many.accuracy, abs=1e-6)
    assert many.to_json()["overconfidence_interval_95"][0] > 0


def leaves(value: object) -> list[float]:
    """Every number of a JSON document, in its order."""
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


@LAW
@given(evaluations(), st.data())
def test_the_order_of_the_images_changes_no_figure(evaluation: Evaluation, data: st.DataObject) -> None:
    order = np.array(data.draw(st.permutations(range(len(evaluation.targets)))))
    one = evaluation.to_json()
    other = Evaluation(evaluation.probabilities[order], evaluation.targets[order], order).to_json()
    worst, others_worst = one.pop("worst_mistakes"), other.pop("worst_mistakes")
    assert leaves(one) == pytest.approx(leaves(other), abs=ROUNDING, nan_ok=True)
    assert [item["confidence"] for item in worst] == [item["confidence"] for item in others_worst]
    if len(worst) < NUM_LISTED:  # all are there, in whatever order of equals
        assert {item["index"] for item in worst} == {item["index"] for item in others_worst}


@LAW
@given(evaluations(), st.integers(0, 50))
def test_the_worst_mistakes_are_mistakes_and_the_most_confident_of_them(evaluation: Evaluation, count: int) -> None:
    chosen = evaluation.worst_mistakes(count)
    wrong = evaluation.predicted != evaluation.targets
    assert len(chosen) == min(count, wrong.sum())
    assert wrong[chosen].all()
    assert (np.diff(evaluation.confidence[chosen]) <= 0).all()
    others = wrong.copy()
    others[chosen] = False
    if len(chosen) and others.any():
        assert evaluation.confidence[others].max() <= evaluation.confidence[chosen].min()


@LAW
@given(evaluations())
def test_the_confusions_add_up_to_the_mistakes(evaluation: Evaluation) -> None:
    pairs = evaluation.most_confused(10**6)
    counts = [pair.num_images for pair in pairs]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == (evaluation.predicted != evaluation.targets).sum()
    assert all(pair.true != pair.predicted and pair.num_images for pair in pairs)
    assert all(evaluation.confusion[pair.true, pair.predicted] == pair.num_images for pair in pairs)
    assert evaluation.most_confused(2) == pairs[:2]


def test_a_classifier_that_is_always_right_and_certain_has_no_calibration_error_and_no_loss() -> None:
    targets = np.arange(50) % 5
    evaluation = Evaluation(np.eye(5, dtype=np.float32)[targets], targets)
    assert evaluation.calibration_error == evaluation.loss == 0
    assert evaluation.accuracy == evaluation.by_class.macro("f1") == 1
    assert evaluation.most_confused(5) == []
    assert not len(evaluation.worst_mistakes(5))


def test_a_classifier_that_is_always_wrong_and_certain_has_the_largest_calibration_error_and_a_finite_loss() -> None:
    targets = np.zeros(10, np.int64)
    evaluation = Evaluation(np.eye(2, dtype=np.float32)[targets + 1], targets)
    assert evaluation.calibration_error == 1
    assert evaluation.loss == pytest.approx(-math.log(2.0**-126))  # the smallest normal float32


def calibrated(count: int, sharpen: float = 1.0) -> Evaluation:
    """Targets drawn from the probabilities themselves; the network then says them to the power of `sharpen`."""
    generator = np.random.default_rng(0)
    truth = generator.dirichlet(np.full(4, 0.5), count)
    targets = (truth.cumsum(1) < generator.random((count, 1))).sum(1).clip(max=3)
    said = truth**sharpen / (truth**sharpen).sum(1, keepdims=True)
    return Evaluation(said.astype(np.float32), targets.astype(np.int64))


def test_the_calibration_error_of_calibrated_predictions_falls_to_that_of_sampling() -> None:
    count = 40_000
    # A bin's accuracy has a standard deviation of at most 0.5 / sqrt(n); summed over 15 bins by their shares that is
    # at most 0.5 * sqrt(15 / count), by Cauchy and Schwarz.
    by_sampling = 0.5 * math.sqrt(15 / count)
    assert calibrated(count).calibration_error < by_sampling
    assert calibrated(count, sharpen=2).calibration_error > 5 * by_sampling
    assert calibrated(count, sharpen=0.5).calibration_error > 5 * by_sampling


@pytest.mark.parametrize(("count", "num_classes"), [(300, 3), (500, 12), (40, 30)])
def test_the_figures_are_scikit_learns(count: int, num_classes: int) -> None:
    from sklearn import metrics

    evaluation = made_up(count, num_classes, seed=num_classes)
    truth, predicted, labels = evaluation.targets, evaluation.predicted, np.arange(num_classes)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=labels, zero_division=np.nan
    )
    figures = evaluation.by_class
    for ours, theirs in ((figures.precision, precision), (figures.recall, recall), (figures.f1, f1)):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(figures.num_images, support)
    macro = metrics.precision_recall_fscore_support(
        truth, predicted, labels=np.unique(truth), average="macro", zero_division=0
    )
    assert [figures.macro(name) for name in ("precision", "recall", "f1")] == pytest.approx(macro[:3], abs=ROUNDING)
    np.testing.assert_array_equal(evaluation.confusion, metrics.confusion_matrix(truth, predicted, labels=labels))
    for k in (1, 2, 3, 5):
        if k < num_classes:
            theirs = metrics.top_k_accuracy_score(truth, evaluation.probabilities, k=k, labels=labels)
            assert evaluation.top_k_accuracy(k) == pytest.approx(theirs, abs=ROUNDING)


def test_the_loss_is_scikit_learns() -> None:
    from sklearn import metrics

    evaluation = made_up(500, 12)
    exact = evaluation.probabilities.astype(np.float64)
    theirs = metrics.log_loss(evaluation.targets, exact / exact.sum(1, keepdims=True), labels=np.arange(12))
    assert evaluation.loss == pytest.approx(theirs, abs=FLOAT32_ROUNDING)


def test_the_loss_and_the_accuracy_are_those_of_the_training(checkpoint: Checkpoint, digits: Dataset) -> None:
    best = checkpoint.history[checkpoint.provenance["best_epoch"] - 1]
    evaluation = evaluate(checkpoint_runner(checkpoint), digits.validation)
    assert evaluation.loss == pytest.approx(best.validation_loss, abs=FLOAT32_ROUNDING)
    assert evaluation.accuracy == pytest.approx(best.validation_accuracy)


def test_the_interval_holds_the_accuracy_and_narrows_with_more_images() -> None:
    def width(count: int) -> float:
        probabilities = np.eye(2, dtype=np.float32)[np.arange(count) % 2]
        evaluation = Evaluation(probabilities, np.zeros(count, np.int64))
        low, high = evaluation.interval_95
        assert low < evaluation.accuracy == 0.5 < high
        return high - low

    assert width(1000) < width(100) < width(10)


def test_figures_of_an_evaluation_are_those_of_its_confusion_matrix() -> None:
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], np.float32)
    evaluation = Evaluation(probabilities, np.array([0, 1, 1, 2]))
    document = evaluation.to_json()
    assert document["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert document["accuracy"] == 0.75
    assert document["recall"] == [1, 0.5, 1]
    assert document["precision"] == [0.5, 1, 1]
    assert document["most_confused"] == [{"true": 1, "predicted": 0, "num_images": 1}]
    assert document["worst_mistakes"] == [{"index": 2, "true": 1, "predicted": 0, "confidence": 0.5}]
    assert evaluation.top_k_accuracy(2) == 1


def absent_and_unnamed() -> Evaluation:
    """Class 2 is never named, class 3 never there, class 4 neither."""
    predicted, targets = np.array([0, 1, 0, 3]), np.array([0, 1, 2, 1])
    return Evaluation(np.eye(5, dtype=np.float32)[predicted], targets)


def test_a_class_without_images_has_no_recall_and_one_that_is_never_named_no_precision() -> None:
    figures = absent_and_unnamed().by_class
    assert np.isnan(figures.recall).tolist() == [False, False, False, True, True]
    assert np.isnan(figures.precision).tolist() == [False, False, True, False, True]
    assert np.isnan(figures.f1).tolist() == [False, False, False, False, True]
    assert figures.macro("precision") == pytest.approx((0.5 + 1 + 0) / 3)
    assert figures.macro("recall") == pytest.approx((1 + 0.5 + 0) / 3)


def test_the_json_has_plain_types_and_null_for_what_there_is_none_of(capsys: pytest.CaptureFixture[str]) -> None:
    document = absent_and_unnamed().to_json()
    json.dumps(document)  # numpy's own scalars and arrays are refused here
    print_json(document)
    read = json.loads(capsys.readouterr().out)
    assert read["recall"] == [1, 0.5, 0, None, None]
    assert read["precision"][2] is None
    assert read["top_3_accuracy"] == document["top_3_accuracy"]
    assert read["top_5_accuracy"] is None  # of 5 classes that would be 1, whatever the network
    assert read["calibration_bins"][0]["accuracy"] is None
    assert all(re.fullmatch("[a-z0-9_]+", key) for key in read)


def test_the_table_has_a_row_a_class_and_a_dash_for_what_there_is_none_of() -> None:
    rows = class_rows(absent_and_unnamed(), list("abcde"))
    assert all(len(row) == len(CLASS_COLUMNS) for row in rows)
    assert rows[1] == ["b", "2", "50.0%", "100.0%", "66.7%", "d (1)"]
    assert rows[2] == ["c", "1", "0.0%", "–", "0.0%", "a (1)"]
    assert rows[4] == ["e", "0", "–", "–", "–", "–"]


def test_a_short_table_has_the_worst_classes_and_those_without_images_last() -> None:
    assert [row[0] for row in class_rows(absent_and_unnamed(), list("abcde"), count=4)] == ["c", "a", "b", "d"]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_images_without_an_answer_count_as_wrong(wrong: float) -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, wrong], [0.2, 0.8], [0.9, 0.1]], np.float32)
    evaluation = Evaluation(probabilities, np.array([0, 0, 1, 1]))
    document = evaluation.to_json()
    assert (document["num_images"], document["num_unanswered"], document["accuracy"]) == (4, 1, 0.5)
    assert document["confusion"] == [[1, 0], [1, 1]]
    assert document["num_images_by_class"] == [2, 2]
    assert document["recall"] == [0.5, 0.5]
    assert evaluation.predicted.tolist() == [0, -1, 1, 0]
    assert evaluation.ranks.tolist() == [0, 2, 0, 1]
    assert evaluation.worst_mistakes(9).tolist() == [3]
    assert evaluation.loss == pytest.approx(-np.log([0.9, 0.8, 0.1]).mean())
    answered = Evaluation(probabilities[[0, 2, 3]], np.array([0, 1, 1]))
    assert evaluation.calibration_error == answered.calibration_error


def test_an_evaluation_without_any_answer_is_refused() -> None:
    with pytest.raises(Refusal, match="NaN or infinite for all 3 images"):
        Evaluation(np.full((3, 2), np.nan, np.float32), np.zeros(3, np.int64))


def test_an_evaluation_counts_the_images_without_an_answer(here: Any, tmp_path: Path) -> None:
    for label in ("down", "up"):
        (tmp_path / label).mkdir()
        for index in range(8):
            image = np.random.default_rng(index).integers(0, 256, (8, 8), np.uint8)
            image[0, :3] = UNDEFINED if label == "up" else 0
            Image.fromarray(image).save(tmp_path / label / f"{index}.png")
    done = here("evaluate", path_of("undefined"), "--data", f"folder:{tmp_path}")
    assert done.returncode == 1
    assert "1 images without an answer, because the model's outputs are NaN or infinite" in done.stdout


def test_targets_that_are_no_classes_are_refused() -> None:
    with pytest.raises(DataError, match="expected 0 to 1"):
        Evaluation(np.full((1, 2), 0.5, np.float32), np.array([2]))
    with pytest.raises(DataError, match=r"3 rows of probabilities and 2 targets"):
        Evaluation(np.full((3, 2), 0.5, np.float32), np.array([0, 1]))


def by_brightness(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Class 1 with the mean brightness for its probability."""
    share = images.reshape(len(images), -1).mean(1, dtype=np.float32) / 255
    return {PROBABILITIES: np.stack([1 - share, share], 1)}


def test_every_image_of_a_split_is_classified_once_and_in_order() -> None:
    dataset = load("fake")
    images = np.concatenate([dataset.train.read(slice(None))[0]] * 2)[: 3 * BATCH_SIZE + 5]
    split = Split(images, np.arange(len(images)) % 2)
    told: list[int] = []
    evaluation = evaluate(by_brightness, split, on_progress=told.append)
    np.testing.assert_array_equal(evaluation.probabilities, by_brightness(images)[PROBABILITIES])
    np.testing.assert_array_equal(evaluation.targets, split.targets)
    assert told == [BATCH_SIZE] * 3 + [5]


def grey_files(folder: Path, levels: list[int | None]) -> FileSplit:
    """One PNG file each of one grey level; of None a file that is no image."""
    paths = [folder / f"{index:04}.png" for index in range(len(levels))]
    for path, level in zip(paths, levels, strict=True):
        if level is None:
            path.write_bytes(b"no image")
        else:
            Image.new("L", (2, 2), level).save(path)
    signature = replace(load("fake", image_size=(2, 2)).signature, labels=("dark", "bright"))
    return FileSplit(paths, np.arange(len(levels), dtype=np.int64) % 2, signature)


def test_images_that_cannot_be_read_are_left_out_and_the_others_keep_their_places(tmp_path: Path) -> None:
    split = grey_files(tmp_path, [0, None, 204, 255, None, 0])
    told: list[int] = []
    evaluation = evaluate(by_brightness, split, on_progress=told.append)
    assert evaluation.targets.tolist() == [0, 0, 1, 1]
    assert [mistake["index"] for mistake in evaluation.to_json()["worst_mistakes"]] == [5, 2]
    assert sum(told) == len(split)


def test_a_split_of_which_nothing_can_be_read_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 2 images"):
        evaluate(by_brightness, grey_files(tmp_path, [None, None]))
    with pytest.raises(DataError, match="none of 0 images"):
        evaluate(by_brightness, Split(np.zeros((0, 2, 2, 1), np.uint8), np.zeros(0, np.int64)))


class Reader(HTMLParser):
    """Tags with their attributes and text; every tag is closed in its turn."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


Write = Callable[..., Reader]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the page of an evaluation, with black pictures, and reads it."""

    def run(evaluation: Evaluation, labels: list[str] | None = None, **options: object) -> Reader:
        signature = replace(
            load("fake").signature,
            labels=tuple(labels or (f"class {index}" for index in range(evaluation.num_classes))),
        )
        images = {"images": lambda index: np.zeros((4, 4, 1), np.uint8)}
        path = tmp_path / "page.html"
        write_evaluation_page(path, evaluation, signature=signature, **({"title": "a title"} | images | options))
        return Reader(path)

    return run


HISTORY = tuple(Epoch(number, 1 / number, 1.1 / number, 0.5 + number / 10, 1.0) for number in (1, 2, 3))


def test_the_page_needs_no_network(write: Write) -> None:
    page = write(made_up(300, 10), history=HISTORY, notes=["2 images could not be read."])
    assert not re.search(r"https?://|@import|url\(", page.source)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert all((attributes.get("src") or "data:").startswith("data:") for _, attributes in page.tags)
    assert not any({"href", "srcset", "action"} & set(attributes) for _, attributes in page.tags)
    assert "2 images could not be read." in page.text


def test_labels_are_text_on_the_page_and_never_markup(write: Write) -> None:
    evaluation = made_up(60, 3)
    page = write(evaluation, [EVIL, "<b>", "plain"], title=EVIL, notes=[EVIL], history=HISTORY)
    plain = write(evaluation, ["a", "b", "plain"], title="t", notes=["n"], history=HISTORY)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert [set(attributes) for _, attributes in page.tags] == [set(attributes) for _, attributes in plain.tags]
    assert page.text.count(EVIL) >= 4


@pytest.mark.parametrize("count", [20, 1000])
def test_there_is_a_card_for_each_of_the_worst_mistakes_up_to_the_limit(count: int, write: Write) -> None:
    evaluation = made_up(count, 10)
    asked: list[int] = []

    def image(index: int) -> NDArray[np.uint8]:
        asked.append(index)
        return np.zeros((4, 4, 3), np.uint8)

    page = write(evaluation, images=image)
    worst = evaluation.worst_mistakes(NUM_CARDS).tolist()
    assert asked == worst
    assert page.count("img") == len(worst) == min(NUM_CARDS, (evaluation.predicted != evaluation.targets).sum())
    assert page.source.count("✓ ") == len(worst)  # the true class is marked on each


@pytest.mark.parametrize("streaming", [True, False])
def test_mistakes_are_named_by_their_files(tmp_path: Path, streaming: bool, write: Write) -> None:
    split = grey_files(tmp_path, [0, None, 204, 255, None, 0])
    named = split if streaming else split.load()
    evaluation = evaluate(by_brightness, named)
    expected = [str(split.paths[index]) for index in (5, 2)]
    assert [item["file"] for item in evaluation.to_json(named.file_of)["worst_mistakes"]] == expected
    page = write(evaluation, images=lambda index: np.zeros((4, 4, 1), np.uint8), file_of=named.file_of)
    assert re.findall("<small>(.+?)</small>", page.source) == expected
    assert "file" not in evaluation.to_json()["worst_mistakes"][0]


def test_cards_show_the_pictures_of_the_split_where_some_could_not_be_read(tmp_path: Path, write: Write) -> None:
    split = grey_files(tmp_path, [0, None, 204, 255, None, 0])
    asked: list[int] = []

    def image(index: int) -> NDArray[np.uint8]:
        asked.append(index)
        return split.read(slice(index, index + 1))[0][0]

    write(evaluate(by_brightness, split), images=image)
    assert asked == [5, 2]


def test_the_page_of_a_perfect_classifier_has_no_mistakes_to_show(write: Write) -> None:
    page = write(Evaluation(np.eye(4, dtype=np.float32), np.arange(4)))
    assert page.count("img") == 0
    assert "There are none." in page.text


def test_learning_curves_are_there_where_there_is_a_history(write: Write) -> None:
    evaluation = made_up(50, 4)
    without, with_curves = write(evaluation), write(evaluation, history=HISTORY)
    assert with_curves.count("svg") == without.count("svg") + 2
    assert "in epoch 3" in with_curves.text


@pytest.mark.parametrize("loss", [0.0, math.nan, math.inf])
def test_learning_curves_of_losses_that_have_no_logarithm_are_drawn(loss: float, write: Write) -> None:
    write(made_up(50, 4), history=[*HISTORY, Epoch(4, loss, loss, 0.3, 1.0, 0.4, 1e-3)])


def test_of_many_classes_the_worst_are_shown_and_the_page_says_so(write: Write) -> None:
    page = write(made_up(3000, 300, skill=4.0))
    assert f"These are the {NUM_ROWS} of 300 with the lowest F1." in page.text
    assert "Confusion matrix of 20 of the 300 classes" in page.text
    assert page.count("tr") <= 2 + NUM_ROWS + 12
    assert len(page.source) < 1_000_000


def test_of_two_classes_there_is_no_top_3(write: Write) -> None:
    assert "most probable" not in write(made_up(50, 2)).text
    assert "among the 3 most probable" in write(made_up(50, 4)).text


def test_the_page_of_a_real_network_is_written(checkpoint: Checkpoint, digits: Dataset, tmp_path: Path) -> None:
    evaluation = evaluate(checkpoint_runner(checkpoint), digits.test)
    path = tmp_path / "page.html"
    write_evaluation_page(
        path,
        evaluation,
        signature=checkpoint.signature,
        images=lambda index: digits.test.read(slice(index, index + 1))[0][0],
        title="digits",
        history=checkpoint.history,
    )
    assert f"{evaluation.accuracy:.2%} of {len(digits.test)} images" in Reader(path).text
