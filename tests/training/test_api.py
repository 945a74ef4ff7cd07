"""`onward.train` takes what the command takes, and leaves a file that repeats the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import onward
from onward.errors import UsageError
from onward.preprocess import Preprocess
from onward.signature import of_images
from onward_training.commands import app


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Grey images of three classes, twice as wide as high."""
    generator = np.random.default_rng(0)
    for number, label in enumerate(("cat", "dog", "eel")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(12):
            image = Image.fromarray(generator.integers(60 * number, 60 * number + 90, (12, 24), np.uint8))
            image.save(tmp_path / "photos" / label / f"{index}.png")
    return tmp_path / "photos"


def test_images_become_the_input_as_is_said(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = onward.train(
        f"folder:{photos}",
        classes=["eel", "cat"],
        image_size=(8, 10),
        resize="shorter-side:9:bicubic",
        mean=0.5,
        std=[0.25],
        exif="apply",
        out=tmp_path / "run.pt",
        model="cnn",
        arguments={"widths": [4], "num_hidden": 8},
        epochs=1,
    )
    signature = of_images(checkpoint.signature)
    assert signature.image_shape == (8, 10, 1)
    assert signature.preprocess == Preprocess("shorter-side", 9, "bicubic", "apply")
    assert (signature.mean, signature.std, signature.labels) == ((0.5,), (0.25,), ("eel", "cat"))
    monkeypatch.chdir(tmp_path)
    again = CliRunner().invoke(app, ["train", "--config", "run.options.toml", "--out", "again.pt"])
    assert again.exit_code == 0, again.output
    assert onward.Checkpoint.load("again.pt").weights_digest() == checkpoint.weights_digest()
    first, second = ((tmp_path / f"{name}.options.toml").read_text().splitlines() for name in ("run", "again"))
    assert sorted(first) == sorted(second)


def test_it_begins_with_weights_as_they_take_images(photos: Path, tmp_path: Path) -> None:
    small = {"model": "cnn", "arguments": {"widths": [4], "num_hidden": 8}, "epochs": 1}
    first = onward.train(f"folder:{photos}", image_size=9, mean=0.25, std=0.5, **small)  # type: ignore[arg-type]
    first.save(tmp_path / "first.pt")
    second = of_images(onward.train(f"folder:{photos}", weights=tmp_path / "first.pt", **small).signature)  # type: ignore[arg-type]
    assert (second.image_shape, second.mean, second.std) == ((9, 9, 1), (0.25,), (0.5,))


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"image_size": (8, 8, 2)}, "expected a side such as 224"),
        ({"mean": (0.1, 0.2)}, "has 2 numbers"),
        ({"resize": "squash"}, "expected stretch or shorter-side"),
        ({"weights": "DEFAULT"}, "is for torchvision:NAME and timm:NAME"),
        ({"freeze_epochs": 1}, "whose weights are random"),
    ],
)
def test_what_cannot_be_is_said_before_images_are_read(keywords: dict[str, object], match: str, photos: Path) -> None:
    for image in photos.rglob("*.png"):
        image.unlink()
    with pytest.raises(UsageError, match=match):
        onward.train(f"folder:{photos}", **keywords)  # type: ignore[arg-type]
