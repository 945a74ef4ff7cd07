"""The course's networks, each through the whole line: train → checkpoint → export under the gate → predict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onward.classifier import load as load_bundle
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_training.batches import Batches
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset
from onward_training.evaluator import checkpoint_runner, evaluate
from onward_training.loop import train
from onward_training.models import build
from onward_training.normalization import Normalize
from onward_training.options import TrainOptions

pytestmark = pytest.mark.long

#: float32 rounds to this share; a few dozen steps of SGD make ten times that of it.
ROUNDING = 10 * float(np.finfo(np.float32).eps)


@pytest.mark.parametrize(
    ("model", "arguments", "num_labels", "at_least"),
    [
        pytest.param("neuron", {}, 2, 0.95, id="part 1, one layer of plain tensors, a sigmoid"),
        pytest.param("two-layers", {}, 2, 0.95, id="part 1, two layers of weight matrices"),
        pytest.param("perceptron", {}, 10, 0.85, id="part 2, weight matrices and a sigmoid"),
        pytest.param("perceptron-module", {}, 10, 0.85, id="part 2, nn.Module, softmax"),
        pytest.param("sequential", {}, 10, 0.85, id="part 2, nn.Sequential, softmax"),
        pytest.param("sequential", {"end": "log-softmax"}, 10, 0.85, id="part 3, log-softmax"),
        pytest.param("sequential", {"end": "logits"}, 10, 0.85, id="part 3, logits"),
        pytest.param("classifier", {"dropout": 0.0}, 10, 0.85, id="part 4"),
        pytest.param("classifier", {}, 10, 0.85, id="part 5, dropout"),
        pytest.param("network", {"hidden_layers": [64, 32]}, 10, 0.7, id="part 6"),
    ],
)
def test_a_network_of_the_course_goes_the_whole_line(
    model: str, arguments: Mapping[str, Any], num_labels: int, at_least: float, digits: Dataset, tmp_path: Path
) -> None:
    dataset = digits.select(digits.signature.labels[:num_labels])
    options = TrainOptions(model=model, arguments=arguments, epochs=8, batch_size=32, learning_rate=1e-2)
    train(dataset, options).save(tmp_path / "model.pt")
    checkpoint = Checkpoint.load(tmp_path / "model.pt")
    in_pytorch = evaluate(checkpoint_runner(checkpoint), dataset.test)
    assert in_pytorch.accuracy > at_least
    publish(ModelToExport.from_checkpoint(checkpoint), tmp_path / "bundle", options=ExportOptions(formats=("onnx",)))
    with load_bundle(tmp_path / "bundle") as classifier:
        predictions = classifier(dataset.test.read(slice(None))[0])
    np.testing.assert_array_equal(predictions.indices, in_pytorch.predicted)
    logits = torch.from_numpy(predictions.logits)
    torch.testing.assert_close(torch.softmax(logits, 1), torch.from_numpy(predictions.probabilities))


def test_nll_on_log_softmax_and_cross_entropy_on_logits_are_one_training_to_rounding(digits: Dataset) -> None:
    def by_hand(end: str, criterion: nn.Module) -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = build("sequential", digits.signature, {"end": end})
        normalize = Normalize(digits.signature)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.003)
        for images, targets in Batches(digits.train, TrainOptions(), None).read(1):
            optimizer.zero_grad()
            criterion(network(normalize(images)), targets).backward()
            optimizer.step()
        return list(network.parameters())

    def by_onward(end: str) -> list[torch.Tensor]:
        options = TrainOptions(
            model="sequential", arguments={"end": end}, epochs=1, optimizer="sgd", momentum=0, learning_rate=0.003,
            schedule="constant",
        )  # fmt: skip
        return list(train(digits, options).state_dict.values())

    reference = by_hand("log-softmax", nn.NLLLoss())
    for other in (by_hand("logits", nn.CrossEntropyLoss()), by_onward("logits"), by_onward("log-softmax")):
        for one, two in zip(reference, other, strict=True):
            assert (one - two).abs().max() <= ROUNDING * max(1.0, one.abs().max().item())


def test_fashion_mnist_comes_below_the_loss_that_the_course_asks_for(fashion_mnist: Dataset) -> None:
    options = TrainOptions(model="classifier", arguments={"dropout": 0.0}, epochs=2, learning_rate=3e-3)
    assert train(fashion_mnist, options).history[-1].train_loss < 0.4


def test_training_stops_early_when_validation_gets_no_better_and_keeps_the_best(digits: Dataset) -> None:
    few = digits.train.take(np.arange(60))
    dataset = Dataset("few", few, digits.validation, digits.test, digits.signature, is_public=True)
    options = TrainOptions(arguments={"dropout": 0.0}, epochs=200, learning_rate=1e-2, schedule="constant", patience=4)
    checkpoint = train(dataset, options)
    best = checkpoint.provenance["best_epoch"]
    assert len(checkpoint.history) == best + 4 < 200
    assert checkpoint.history[-1].train_loss < checkpoint.history[-1].validation_loss, "it overfits"
    accuracy = evaluate(checkpoint_runner(checkpoint), digits.validation).accuracy
    assert accuracy == pytest.approx(checkpoint.history[best - 1].validation_accuracy)


def test_the_courses_own_checkpoint_is_evaluated_exported_and_trained_on(
    digits: Dataset, tmp_path: Path, onward
) -> None:
    trained = train(
        digits, TrainOptions(model="network", arguments={"hidden_layers": [32, 16], "drop_p": 0.1}, epochs=5)
    )
    saved = {"input_size": 64, "output_size": 10, "hidden_layers": [32, 16], "state_dict": dict(trained.state_dict)}
    torch.save(saved, tmp_path / "checkpoint.pth")
    images = ("--mean", digits.signature.mean[0], "--std", digits.signature.std[0])
    evaluated = onward("evaluate", "checkpoint.pth", "--data", "digits", *images, cwd=tmp_path)
    accuracy = evaluate(checkpoint_runner(trained), digits.test).accuracy
    assert f"accuracy {accuracy:.2%}" in evaluated.stdout, evaluated.stderr
    exported = onward("export", "checkpoint.pth", "--data", "digits", *images, "--formats", "onnx", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    again = onward(
        "train", "--data", "digits", "--model", "network", "--model-args", '{"hidden_layers": [32, 16]}',
        "--weights", "checkpoint.pth", *images, "--epochs", "1", "--out", "again.pt", cwd=tmp_path,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    first = Checkpoint.load(tmp_path / "again.pt").history[0]
    assert first.train_loss < trained.history[0].train_loss, "it went on from where it was"
