"""How images become the input of weights from elsewhere: stated, brought by the file, or published for it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from onward.errors import UsageError
from onward.preprocess import Preprocess
from onward.signature import Signature
from onward_training.checkpoint import Checkpoint
from onward_training.foreign_signature import foreign_signature, known_weights
from onward_training.models import published_weights
from onward_training.models.published_weights import KnownWeights, find_published, published_of
from onward_training.preprocessing import NOTHING_STATED, StatedPreprocessing

RGB = Signature(24, 20, 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), ("cat", "dog", "eel"), Preprocess("shorter-side", 30))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "renamed.pth"
    path.write_bytes(b"any content")
    return path


def publish(monkeypatch: pytest.MonkeyPatch, file_name: str) -> None:
    """Let torchvision publish weights of this file name for its alexnet."""
    url, images = f"https://example.com/{file_name}", StatedPreprocessing.of(RGB)
    item = KnownWeights("torchvision's V1", "torchvision:alexnet", lambda: images, lambda: RGB.labels, 3, url)
    monkeypatch.setattr(published_weights, "_of_torchvision", lambda name: [item])


@pytest.mark.parametrize(
    ("size", "resize", "mean", "expected"),
    [
        ("224", None, None, StatedPreprocessing(image_size=(224, 224))),
        ("28x32", None, None, StatedPreprocessing(image_size=(28, 32))),
        ("28x32x1", None, "0.5", StatedPreprocessing(image_size=(28, 32), channels=1, mean=(0.5,))),
        (None, "stretch", "1,2,3", StatedPreprocessing(channels=3, resize=Preprocess(), mean=(1.0, 2.0, 3.0))),
        (None, "shorter-side:256", None, StatedPreprocessing(resize=Preprocess("shorter-side", 256))),
        (None, "shorter-side:9:bicubic", None, StatedPreprocessing(resize=Preprocess("shorter-side", 9, "bicubic"))),
        (None, "stretch:nearest", None, StatedPreprocessing(resize=Preprocess("stretch", None, "nearest"))),
    ],
)
def test_the_options_are_read(
    size: str | None, resize: str | None, mean: str | None, expected: StatedPreprocessing
) -> None:
    assert StatedPreprocessing.parse(size, resize, mean, None, None) == expected


@pytest.mark.parametrize(
    "values",
    [("0", None, None, None), ("8x", None, None, None), ("8x8x2", None, None, None), ("1x1x1x1", None, None, None)]
    + [(None, text, None, None) for text in ("stretch:6", "shorter-side", "shorter-side:x", "crop", "stretch:a:b", "")]
    + [
        (None, "shorter-side:0", None, None),
        (None, None, "1,2", None),
        (None, None, "a", None),
        (None, None, None, "0"),
    ],
)
def test_an_option_that_cannot_be_read_is_refused(values: tuple[str | None, ...]) -> None:
    with pytest.raises(UsageError):
        StatedPreprocessing.parse(*values, None)


def test_published_weights_are_known_by_name_or_by_content(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    said: list[str] = []
    for file_name, is_known, num_said in ((f"a-{digest}.pth", 1, 0), ("a-00000000.pth", 0, 0), ("renamed.pth", 1, 0)):
        publish(monkeypatch, file_name)
        assert bool(known_weights("torchvision:alexnet", weights, said.append)) == is_known, file_name
        assert len(said) == num_said
    other = weights.rename(weights.with_name("a-00000000.pth"))
    publish(monkeypatch, other.name)
    assert known_weights("torchvision:alexnet", other, said.append) is not None
    assert said == [
        f"a-00000000.pth has the name of torchvision's V1, but not its content: its SHA-256 begins with {digest}"
    ]


def test_a_file_of_published_weights_needs_no_option_and_options_override(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, weights.name)
    said: list[str] = []
    found = foreign_signature("torchvision:alexnet", weights, NOTHING_STATED, notify=said.append)
    assert found.signature == RGB
    assert said == [
        "renamed.pth is torchvision's V1: images become 24×20 (shorter side to 30, then the centre, bilinear), mean "
        "0.1, 0.2, 0.3, std 0.4, 0.5, 0.6"
    ]
    with pytest.raises(UsageError, match="state the resize rule"):  # that of 24x20 would cut off most of an image
        foreign_signature("torchvision:alexnet", weights, StatedPreprocessing.parse("32", None, None, None, None))
    stated = StatedPreprocessing.parse("32", "stretch:bicubic", "0.5", None, "apply")
    signature = foreign_signature("torchvision:alexnet", weights, stated, labels=("a", "b")).signature
    expected = Signature(32, 32, 3, (0.5,) * 3, RGB.std, ("a", "b"), Preprocess("stretch", None, "bicubic", "apply"))
    assert signature == expected


def test_a_checkpoint_brings_its_signature(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "run.pt")
    found = foreign_signature("classifier", tmp_path / "run.pt", NOTHING_STATED)
    assert found.signature == checkpoint.signature


@pytest.mark.parametrize(
    ("stated", "match"),
    [
        (
            NOTHING_STATED,
            "state the size and channels, resize rule, mean and standard .*--image-size 224x224x3",
        ),
        (StatedPreprocessing((8, 8), None, Preprocess(), (0.5,), (1.0,)), "number of channels .*--image-size 8x8x3"),
        (StatedPreprocessing((8, 8), 1, None, (0.5,), (1.0,)), "state the resize rule of its training"),
        (StatedPreprocessing((8, 8), 1, Preprocess(), (0.5,), (1.0,)), "--labels names them"),
    ],
)
def test_what_is_not_known_is_asked_for(stated: StatedPreprocessing, match: str, weights: Path) -> None:
    with pytest.raises(UsageError, match=match):
        foreign_signature("classifier", weights, stated)


def test_a_data_set_of_one_size_gives_it_but_never_mean_and_std(weights: Path) -> None:
    with pytest.raises(UsageError, match="state the mean and standard deviation"):
        foreign_signature("classifier", weights, NOTHING_STATED, data="digits")
    stated = StatedPreprocessing.parse(None, None, "0.5", "0.25", None)
    signature = foreign_signature("classifier", weights, stated, data="digits").signature
    assert (signature.image_shape, signature.mean, signature.std) == ((8, 8, 1), (0.5,), (0.25,))
    three = StatedPreprocessing.parse(None, None, "0.5,0.4,0.3", "0.25", None)
    signature = foreign_signature("classifier", weights, three, data="digits").signature
    assert (signature.repeat, signature.mean, signature.std) == (3, (0.5, 0.4, 0.3), (0.25,) * 3)


def test_timms_weights_are_known_by_the_tag_or_the_configuration_beside_them(weights: Path) -> None:
    pytest.importorskip("timm")
    assert find_published("timm:resnet18", weights) is None
    signature = foreign_signature("timm:resnet18.a1_in1k", weights, NOTHING_STATED).signature
    assert (signature.image_shape, signature.preprocess) == (
        (224, 224, 3),
        Preprocess("shorter-side", 235, "bicubic"),
    )
    assert (signature.num_classes, signature.labels[0]) == (1000, "tench")
    with pytest.raises(UsageError, match=r"timm has no weights 'resnet18.a9'; it has resnet18.a1_in1k"):
        published_of("timm:resnet18.a9")
    with pytest.raises(UsageError, match="state the size"):  # three classes: trained on from those weights
        foreign_signature("timm:resnet18.a1_in1k", weights, NOTHING_STATED, labels=("a", "b", "c"))
    own = {"input_size": [3, 96, 96], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0, "crop_mode": "squash"}
    config = {"architecture": "resnet18", "num_classes": 2, "label_names": ["cat", "dog"], "pretrained_cfg": own}
    weights.with_name("config.json").write_text(json.dumps(config))
    signature = foreign_signature("timm:resnet18", weights, NOTHING_STATED).signature
    assert signature == Signature(
        96, 96, 3, (0.5,) * 3, (0.5,) * 3, ("cat", "dog"), Preprocess("stretch", None, "bicubic")
    )
    assert find_published("timm:resnet34", weights) is None
