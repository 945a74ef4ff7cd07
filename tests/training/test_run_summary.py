"""What a run says before its first step, after each epoch and at its end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from onward.errors import UsageError
from onward.preprocess import Preprocess
from onward.signature import Signature
from onward_training import devices
from onward_training.batch_picture import draw_batch
from onward_training.checkpoint import Checkpoint, Epoch
from onward_training.data import Dataset, Split, load
from onward_training.evaluation import Evaluation
from onward_training.loop import train
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder
from onward_training.run_summary import RunSummary, count_multiply_adds
from onward_training.text import EpochPrinter, print_result

TINY = TrainOptions(model="perceptron", epochs=1)


def epoch(number: int, loss: float, accuracy: float = 0.5) -> Epoch:
    return Epoch(number, loss, loss, accuracy, 1.0)


def test_the_header_says_what_is_trained_on_what(digits: Dataset) -> None:
    told: list[RunSummary] = []
    train(digits, TINY, on_start=told.append)
    rows = dict(told[0].rows())
    assert rows["classes"] == "10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert rows["images"] == (
        "1,151 training, 287 validation, 359 test: 20 % of each class for testing, 20 % of the rest for validation, "
        "drawn with seed 0"
    )
    assert rows["input"].startswith("8×8 grey, stretched, mean 0.3")
    assert rows["network"] == "perceptron, 19,210 parameters, 18.9 k multiply-adds an image"
    assert rows["run"].startswith("epochs 1, each of 18 steps of 64 images, adam, learning rate 0.001 (cosine)")
    document = told[0].to_json()
    assert (document["num_classes"], document["multiply_adds"], document["steps_per_epoch"]) == (10, 18_944, 18)
    assert document["chance_loss"] == pytest.approx(math.log(10), rel=1e-3)


def test_the_header_and_the_picture_change_nothing_in_the_run(digits: Dataset, tmp_path: Path) -> None:
    options = replace(TINY, model="cnn", augment="flip,crop,erase")
    folder = RunFolder(tmp_path / "run.pt")
    shown = train(digits, options, run_folder=folder, on_start=lambda summary: None)
    assert shown.weights_digest() == train(digits, options).weights_digest()
    with Image.open(folder.batch_path) as picture:
        assert picture.width > 8 * 100


def test_multiply_adds_are_those_of_one_image() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 8 * 8, 5)).train()
    signature = Signature(8, 8, 3, (0.5,) * 3, (0.5,) * 3, tuple("abcde"))
    assert count_multiply_adds(network, signature, "cpu") == 8 * 8 * 4 * 3 * 9 + 4 * 8 * 8 * 5
    assert network.training
    assert count_multiply_adds(nn.Linear(3, 3), signature, "cpu") is None


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            Preprocess(),
            "the proportions of 12 of 24 images change, by up to × 2.00; --resize shorter-side:10 keeps them",
        ),
        (Preprocess("shorter-side", 10), "up to 50 % of an image is cut off"),
    ],
)
def test_the_header_says_what_becomes_of_proportions(rule: Preprocess, expected: str, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for index in range(12):
            Image.new("RGB", (20, 20 if index % 2 else 40)).save(tmp_path / label / f"{index}.png")
    dataset = load(f"folder:{tmp_path}", image_size=(10, 10), preprocess=rule)
    assert dataset.proportions == expected
    assert dataset.split_rule == (
        "15 % of each class for testing, the same in every run; 15 % of the rest for validation, drawn with seed 0"
    )
    (tmp_path / "train").mkdir()
    for label in ("cat", "dog"):
        (tmp_path / label).rename(tmp_path / "train" / label)
    (tmp_path / "val" / "cat").mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(tmp_path / "val" / "cat" / "0.png")
    found = load(f"folder:{tmp_path}", image_size=(10, 10)).split_rule
    assert found == "validation by folder; 15 % of each class for testing, the same in every run"


def test_a_picture_has_the_images_with_their_labels() -> None:
    images = np.zeros((40, 8, 8, 1), np.uint8)
    images[:, :4] = 200
    picture = np.asarray(draw_batch(images, ["ein sehr langer Name 名前"] * 40, "title").convert("L"))
    assert picture.shape == (18 + 8 + 4 * (112 + 18 + 8), 8 * (112 + 8) + 8)
    np.testing.assert_array_equal(picture[30:80, 10:100], 200)
    assert draw_batch(np.zeros((1, 300, 600, 3), np.uint8), ["a"], "t").size == (128, 18 + 8 + 56 + 18 + 8)


def test_a_loss_at_chance_is_said_once(digits: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[RunSummary] = []
    train(digits, TINY, on_start=told.append)
    printer = EpochPrinter([], 6, Path("run.batch.png"))
    printer.start(replace(told[0], num_steps=3))
    for number, loss in enumerate((1.0, 2.30, 2.31, 2.5, 2.4, 2.3), 1):
        printer(epoch(number, loss, 0.1 * number))
    lines = capsys.readouterr().err.splitlines()
    words = [index for index, line in enumerate(lines) if "what guessing gives" in line]
    assert [lines[index - 1].split()[1] for index in words] == ["4"]
    assert "stayed at 2.30" in lines[words[0]]
    advice = "Look at run.batch.png, and try another --learning-rate, or a smaller --batch-size: an epoch has 3 steps."
    assert lines[words[0]].endswith(advice)
    assert sum("best so far" in line for line in lines) == 6


def test_guessing_knows_how_frequent_classes_are(digits: Dataset) -> None:
    targets = np.where(np.arange(100) < 90, 0, 1)
    rare = Split(digits.train.read(slice(0, 100))[0], targets)
    dataset = replace(digits, train=rare)
    told: list[RunSummary] = []
    for weights in ("none", "balanced"):
        if weights == "balanced":
            two = replace(dataset.signature, labels=("a", "b"))
            dataset = replace(dataset, signature=two, validation=rare, test=rare)
        train(dataset, replace(TINY, class_weights=weights), on_start=told.append)
    assert told[0].chance_loss == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert told[1].chance_loss == pytest.approx(math.log(2))


def test_the_best_epoch_is_said(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    history = (epoch(1, 1.0, 0.5), epoch(2, 0.9, 0.75), epoch(3, 1.0, 0.5))
    run = replace(checkpoint, history=history, provenance={"best_epoch": 2})
    print_result(run, Evaluation(np.eye(10, dtype=np.float32), np.arange(10)), Path("run.pt"), 9)
    assert capsys.readouterr().out.splitlines() == [
        "stopped after epoch 3 of 9: no epoch since 2 was better (--patience)",
        "best epoch: 2 of 3, with a validation accuracy of 75.00% → run.pt",
        "test accuracy 100.00% (95 % interval 72.25% to 100.00%, 10 images)",
    ]


@pytest.mark.parametrize(
    ("there", "expected"), [(("cuda", "mps", "cpu"), "cuda"), (("mps", "cpu"), "mps"), (("cpu",), "cpu")]
)
def test_auto_is_the_best_device_that_is_there(
    there: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert devices.resolve_device("auto") == expected
    assert devices.other_device("cpu") == (None if expected == "cpu" else expected)
    for name in {"cuda", "mps"} - set(there):
        with pytest.raises(UsageError, match="--device auto takes the best one"):
            devices.resolve_device(name)


def test_auto_trains_where_a_device_is_and_the_checkpoint_names_it(digits: Dataset) -> None:
    checkpoint = train(digits, replace(TINY, device="auto"))
    assert checkpoint.provenance["options"]["device"] == devices.resolve_device("auto")
