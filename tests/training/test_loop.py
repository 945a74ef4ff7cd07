"""Training: what it learns, what it keeps, and that the same seed gives the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from onward.errors import Diverged, UsageError
from onward_training.batches import Batches
from onward_training.data import Dataset, load
from onward_training.epoch_metrics import EpochMetrics, Step
from onward_training.evaluator import checkpoint_runner, evaluate
from onward_training.loop import train
from onward_training.model_names import ARCHITECTURES
from onward_training.models import build
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder
from onward_training.tasks.classification import ClassificationLoss


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_every_architecture_learns_what_can_be_learned(model: str) -> None:
    dataset = load("fake")
    if model in ("neuron", "two-layers"):
        dataset = dataset.select(dataset.signature.labels[:2])
    rate = 3e-2 if model == "two-layers" else 3e-3  # its two hidden units are slow to begin
    checkpoint = train(dataset, TrainOptions(model=model, epochs=6, batch_size=16, learning_rate=rate))
    assert evaluate(checkpoint_runner(checkpoint), dataset.test).accuracy > 0.95


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(digits: Dataset) -> None:
    one, same, other = (train(digits, TrainOptions(epochs=1, seed=seed)).weights_digest() for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_the_epoch_with_the_best_validation_accuracy_is_kept(digits: Dataset) -> None:
    checkpoint = train(digits, TrainOptions(model="cnn", epochs=4))
    best = max(checkpoint.history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss))
    assert checkpoint.provenance["best_epoch"] == best.epoch
    evaluation = evaluate(checkpoint_runner(checkpoint), digits.validation)
    assert evaluation.accuracy == pytest.approx(best.validation_accuracy)


def test_every_step_and_every_epoch_is_told(digits: Dataset) -> None:
    counts: list[int] = []
    epochs: list[int] = []
    train(
        digits,
        TrainOptions(epochs=2),
        on_step=lambda step: counts.append(step.num_images),
        on_epoch=lambda epoch: epochs.append(epoch.epoch),
    )
    assert sum(counts) == 2 * len(digits.train)
    assert epochs == [1, 2]


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}])
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        TrainOptions(**wrong)  # type: ignore[arg-type]


def test_a_cuda_device_that_is_not_there_is_refused(digits: Dataset) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UsageError, match="finds no CUDA device"):
        train(digits, TrainOptions(device="cuda"))


def test_training_on_a_gpu_gives_a_checkpoint_for_the_processor(digits: Dataset) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    checkpoint = train(digits, TrainOptions(model="cnn", epochs=5, device="cuda"))
    assert evaluate(checkpoint_runner(checkpoint), digits.test).accuracy > 0.9


def test_arguments_reach_the_architecture(digits: Dataset) -> None:
    network = build("classifier", digits.signature, {"hidden": [7], "dropout": 0.0})
    assert network.layers[1].out_features == 7


@pytest.mark.parametrize(
    ("name", "arguments", "match"),
    [
        ("resnet", {}, "classifier, cnn"),
        ("classifier", {"depth": 3}, "does not take the arguments"),
        ("cnn", {"widths": [8, 8, 8, 8]}, "too small an image"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, arguments: dict[str, object], match: str, digits: Dataset) -> None:
    with pytest.raises(UsageError, match=match):
        build(name, digits.signature, arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "learning_rate": 0.03},
        {"optimizer": "adamw", "weight_decay": 0.01, "schedule": "one-cycle"},
        {"schedule": "constant", "label_smoothing": 0.1, "clip_norm": 1.0},
        {"class_weights": "balanced", "precision": "bfloat16"},
        {"augment": "flip,erase"},
    ],
    ids=str,
)
def test_every_way_of_learning_learns(options: dict[str, Any]) -> None:
    dataset = load("fake")
    checkpoint = train(dataset, TrainOptions(**{"epochs": 6, "batch_size": 32, "learning_rate": 3e-3} | options))
    assert evaluate(checkpoint_runner(checkpoint), dataset.test).accuracy > 0.9


def test_the_learning_rate_follows_its_schedule(digits: Dataset) -> None:
    def rates(schedule: str) -> list[float]:
        history = train(digits, TrainOptions(epochs=10, schedule=schedule, batch_size=512)).history
        return [epoch.learning_rate for epoch in history]

    assert rates("constant") == [1e-3] * 10
    cosine = rates("cosine")
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[-1] == pytest.approx(0, abs=1e-9)
    one_cycle = rates("one-cycle")
    assert max(one_cycle) == one_cycle[2] == pytest.approx(1e-3, rel=1e-2)
    assert one_cycle[0] < one_cycle[2] > one_cycle[-1]


def test_balanced_weights_help_the_rarer_class() -> None:
    fake = load("fake").select(("pattern 0", "pattern 1"))
    rare = np.flatnonzero(fake.train.targets == 1)[:4]
    few = fake.train.take(np.concatenate([np.flatnonzero(fake.train.targets == 0), rare]))
    dataset = replace(fake, train=few)
    options = TrainOptions(epochs=2, batch_size=16, schedule="constant")
    recalls = [
        evaluate(checkpoint_runner(train(dataset, replace(options, class_weights=weights))), dataset.test).to_json()[
            "recall"
        ][1]
        for weights in ("none", "balanced")
    ]
    assert recalls[1] > recalls[0] + 0.2


def test_auxiliary_classifiers_learn_with_the_main_one() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.other = (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2))

        def forward(self, image: torch.Tensor) -> object:
            return (self.main(image), self.other(image)) if self.training else self.main(image)

    network = Auxiliary()
    loss, logits = ClassificationLoss()(network(torch.randn(4, 1, 8, 8)), torch.arange(4))
    loss.backward()
    assert logits.shape == (4, 10)
    assert network.other[1].weight.grad.abs().max() > 0


def test_a_last_batch_of_one_image_joins_the_one_before_it(digits: Dataset) -> None:
    batches = Batches(digits.train.take(np.arange(129)), TrainOptions(batch_size=64), None)
    assert [len(indices) for indices in batches.order(1)] == [64, 65]
    assert sorted(torch.cat(batches.order(3)).tolist()) == list(range(129))
    assert not torch.equal(batches.order(1)[0], batches.order(2)[0])


def test_a_loss_that_is_no_number_names_its_step_and_the_epoch_that_is_kept(digits: Dataset) -> None:
    def spoil(network: nn.Module) -> None:
        next(network.parameters()).data[0] = float("nan")

    with pytest.raises(Diverged, match=r"the loss is nan at step 1 of epoch 1: the training has diverged\. A lower"):
        train(digits, TrainOptions(epochs=1), initialise=spoil)
    metrics = EpochMetrics(3)
    for value in (1.0, 2.0, float("inf")):
        metrics.add_step(torch.tensor(value), torch.ones(2, dtype=torch.bool))
    with pytest.raises(FloatingPointError, match="inf at step 3 of epoch 3"):
        metrics.read()
    assert metrics.loss == 1.5


def test_training_leaves_the_callers_random_numbers_alone(digits: Dataset) -> None:
    state = torch.get_rng_state()
    train(digits, TrainOptions(epochs=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_streamed_folder_trains_to_the_same_bits_with_any_number_of_workers_and_after_a_stop(
    digits: Dataset, tmp_path: Path
) -> None:
    for target in (0, 1):
        (tmp_path / "photos" / str(target)).mkdir(parents=True)
        for index in np.flatnonzero(digits.train.targets == target)[:30]:
            image = Image.fromarray(digits.train.images[index, ..., 0])
            image.save(tmp_path / "photos" / str(target) / f"{index}.png")
    options = TrainOptions(epochs=2, batch_size=8, augment="flip,crop", num_workers=0)

    def dataset() -> Dataset:
        return load(f"folder:{tmp_path / 'photos'}", streaming=True)

    alone = train(dataset(), options)
    assert train(dataset(), replace(options, num_workers=2)).weights_digest() == alone.weights_digest()
    run_folder = RunFolder(tmp_path / "run.pt")
    steps: list[Step] = []
    train(dataset(), options, run_folder=run_folder, on_step=steps.append, should_stop=lambda: len(steps) == 7)
    assert train(dataset(), options, resume_from=run_folder.find()).weights_digest() == alone.weights_digest()
