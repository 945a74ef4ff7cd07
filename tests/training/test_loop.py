"""Training: what it learns, what it keeps, and that the same seed gives the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from runtime.errors import UsageError
from training.architectures import ARCHITECTURES, build
from training.data import Dataset, load
from training.evaluation import Evaluation, evaluate, runner
from training.loop import Options, train


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_every_architecture_learns_what_can_be_learned(model: str) -> None:
    dataset = load("fake")
    checkpoint = train(dataset, Options(model=model, epochs=6, batch_size=32))
    assert evaluate(runner(checkpoint), dataset.test).accuracy > 0.95


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(digits: Dataset) -> None:
    one, same, other = (train(digits, Options(epochs=1, seed=seed)).weights_digest() for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_the_epoch_with_the_best_validation_accuracy_is_kept(digits: Dataset) -> None:
    checkpoint = train(digits, Options(model="cnn", epochs=4))
    best = max(checkpoint.history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss))
    assert checkpoint.provenance["best_epoch"] == best.epoch
    evaluation = evaluate(runner(checkpoint), digits.validation)
    assert evaluation.accuracy == pytest.approx(best.validation_accuracy)


def test_every_step_and_every_epoch_is_told(digits: Dataset) -> None:
    counts: list[int] = []
    epochs: list[int] = []
    train(digits, Options(epochs=2), on_step=counts.append, on_epoch=lambda epoch: epochs.append(epoch.epoch))
    assert sum(counts) == 2 * len(digits.train)
    assert epochs == [1, 2]


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}])
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Options(**wrong)  # type: ignore[arg-type]


def test_a_cuda_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UsageError, match="finds no CUDA device"):
        Options(device="cuda")


def test_training_on_a_gpu_gives_a_checkpoint_for_the_processor(digits: Dataset) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    checkpoint = train(digits, Options(model="cnn", epochs=5, device="cuda"))
    assert evaluate(runner(checkpoint), digits.test).accuracy > 0.9


def test_arguments_reach_the_architecture(digits: Dataset) -> None:
    network = build("classifier", digits.signature, {"hidden": [7], "dropout": 0.0})
    assert network.layers[1].out_features == 7


@pytest.mark.parametrize(
    ("name", "arguments", "match"),
    [
        ("resnet", {}, "perceptron, classifier, cnn"),
        ("classifier", {"depth": 3}, "does not take the arguments"),
        ("cnn", {"widths": [8, 8, 8, 8]}, "too small an image"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, arguments: dict[str, object], match: str, digits: Dataset) -> None:
    with pytest.raises(UsageError, match=match):
        build(name, digits.signature, arguments)


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
    assert evaluation.top_k_accuracy(2) == 1
