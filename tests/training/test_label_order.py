"""Label order: what labelled images say about the order of a network's labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onward_export.model_to_export import ModelToExport
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset, load
from onward_training.label_order import check_label_order

TWELVE = tuple(str(number) for number in range(1, 13))
ALPHABETICAL = tuple(sorted(TWELVE))
TARGETS = np.tile(np.arange(12), 40)


def outputs_of(trained: tuple[str, ...], stated: tuple[str, ...], accuracy: float = 0.95) -> np.ndarray:
    """What a network that was trained with labels in one order predicts, where they are stated in another."""
    predicted = np.array([trained.index(stated[target]) for target in TARGETS])
    generator = np.random.default_rng(0)
    wrong = generator.random(len(predicted)) > accuracy
    predicted[wrong] = generator.integers(0, 12, wrong.sum())
    return predicted


@pytest.mark.parametrize(
    ("trained", "stated", "name"),
    [
        (TWELVE, ALPHABETICAL, "numeric order"),
        (ALPHABETICAL, TWELVE, "alphabetical order"),
        (TWELVE[5:] + TWELVE[:5], TWELVE, "order that fits best"),
    ],
)
def test_a_far_better_order_is_found(trained: tuple[str, ...], stated: tuple[str, ...], name: str) -> None:
    found = check_label_order(stated, outputs_of(trained, stated), TARGETS)
    assert found.better == trained
    assert f"with the {name}: {', '.join(trained)}" in found.warning
    assert found.better_accuracy is not None
    assert found.better_accuracy > 0.9 > 0.5 > (found.accuracy or 0)


@pytest.mark.parametrize("accuracy", [1.0, 0.95, 0.4])
@pytest.mark.parametrize("stated", [TWELVE, ALPHABETICAL])
def test_an_order_that_the_images_confirm_gives_no_warning(stated: tuple[str, ...], accuracy: float) -> None:
    found = check_label_order(stated, outputs_of(stated, stated, accuracy), TARGETS)
    assert (found.better, found.warning) == (None, "")


def test_numbers_out_of_numeric_order_are_a_warning_without_images_that_tell() -> None:
    assert "1, 10, 11, 12, 2, 3, 4, 5, 6, 7, 8, 9. Check" in check_label_order(ALPHABETICAL).warning
    assert check_label_order(TWELVE).warning == check_label_order(("b", "a", "10")).warning == ""
    few = check_label_order(ALPHABETICAL, np.array([0, 1]), np.array([0, 1]))
    assert "2 labelled images do not tell" in few.warning


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_no_order_fits_noise_far_better(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 300))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    predicted, targets = generator.integers(-1, 12, count), generator.integers(0, 12, count)
    assert check_label_order(TWELVE, predicted, targets).better is None


def test_an_export_measures_the_accuracy_and_the_order(checkpoint: Checkpoint) -> None:
    found = ModelToExport.from_checkpoint(checkpoint).label_order
    assert found is not None
    assert found.num_images == len(load("digits").test)
    assert (found.accuracy or 0) > 0.9
    labels = tuple(reversed(checkpoint.signature.labels))
    turned = replace(checkpoint, signature=replace(checkpoint.signature, labels=labels))
    found = ModelToExport.from_checkpoint(turned).label_order
    assert found is not None
    assert found.better == checkpoint.signature.labels


def write_digits(digits: Dataset, folder: Path, labels: str) -> None:
    for label in labels:
        (folder / label).mkdir(parents=True)
        for index in np.flatnonzero(digits.test.targets == int(label))[:20]:
            Image.fromarray(digits.test.images[index, ..., 0]).save(folder / label / f"{index}.png")


@pytest.mark.parametrize("labels", ["3", "0126789"])
def test_a_test_set_that_lacks_classes_is_evaluated_and_names_them(
    labels: str, digits: Dataset, checkpoint_path: Path, here: Callable[..., Any], tmp_path: Path
) -> None:
    write_digits(digits, tmp_path, labels)
    missing = [label for label in "0123456789" if label not in labels]
    done = here("evaluate", checkpoint_path, "--data", f"folder:{tmp_path}", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["missing_classes"] == missing
    assert document["accuracy"] > 0.5
    assert document["label_order"]["warning"] is None
    done = here("evaluate", checkpoint_path, "--data", f"folder:{tmp_path}")
    assert f"{len(missing)} of 10 classes have no image here: {', '.join(missing)}" in done.stdout


def test_a_test_folder_may_lack_a_class_and_a_training_folder_may_not(digits: Dataset, tmp_path: Path) -> None:
    write_digits(digits, tmp_path / "train", "012")
    write_digits(digits, tmp_path / "test", "02")
    assert sorted(set(load(f"folder:{tmp_path}").test.targets.tolist())) == [0, 2]
