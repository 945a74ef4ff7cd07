"""The commands train, evaluate and inspect, as a user meets them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from benchmarks.zoo.alive import make_alive
from onward import app as front_door
from onward.bundle import Bundle
from onward.classifier import load as load_bundle
from onward.errors import OnwardError, UsageError
from onward.signature import Preprocess, Signature, of_images
from onward_export.api import export
from onward_export.publish import publish
from onward_training.checkpoint import Checkpoint
from onward_training.commands import app
from onward_training.data import Dataset
from onward_training.evaluator import checkpoint_runner, evaluate
from onward_training.import_weights import open_checkpoint
from onward_training.models import build
from onward_training.options import NetworkSpec
from onward_training.preprocessing import StatedPreprocessing
from tests.bundles import DIGITS_INT8, path_of
from tests.image_files import exif_of

FILES = {"run.pt", "run.last.pt", "run.metrics.jsonl", "run.batch.png", "run.options.toml"}

pytestmark = pytest.mark.long

NETWORK = """
from torch import nn

class Network(nn.Module):
    def __init__(self, num_inputs, num_classes, hidden=16):
        super().__init__()
        first, last = nn.Linear(num_inputs, hidden), nn.Linear(hidden, num_classes)
        self.layers = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)

    def forward(self, image):
        return self.layers(image)
"""


THOUSAND = Signature(224, 224, 3, (0.5,) * 3, (0.25,) * 3, tuple(map(str, range(1000))))


@pytest.fixture
def onward(monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command in this process, which has PyTorch loaded already; tests/test_onward.py starts new ones."""

    def invoke(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            result = CliRunner().invoke(front_door, [*map(str, arguments)])
        if isinstance(result.exception, OnwardError):
            complaint = f"{result.stderr}{result.exception}"
            return subprocess.CompletedProcess([], result.exception.exit_code, result.stdout, complaint)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return subprocess.CompletedProcess([], result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def photos(tmp_path: Path, digits: Dataset) -> Path:
    """Digits as PNG files in a folder a class, twice as many noughts as ones, one of them cut short."""
    folder = tmp_path / "photos"
    for target, count in ((0, 40), (1, 20)):
        (folder / f"a {target}").mkdir(parents=True)
        for index in np.flatnonzero(digits.train.targets == target)[:count]:
            Image.fromarray(digits.train.images[index, ..., 0]).save(folder / f"a {target}" / f"{index}.png")
    (folder / "a 1" / "cut.png").write_bytes(next((folder / "a 1").iterdir()).read_bytes()[:50])
    return folder


def test_a_run_leaves_the_best_epoch_the_last_state_and_a_line_an_epoch(onward, tmp_path: Path) -> None:
    result = onward("train", "--epochs", "3", "--out", "run.pt", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "test accuracy" in result.stdout
    assert "best epoch: " in result.stdout
    assert "images   1,151 training, 287 validation, 359 test" in result.stderr
    assert {item.name for item in tmp_path.iterdir()} == FILES
    lines = [json.loads(line) for line in (tmp_path / "run.metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert set(lines[0]) >= {"train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate"}
    last = Checkpoint.load(tmp_path / "run.last.pt")
    assert last.progress["finished"]
    assert len(last.history) == 3


def test_the_options_beside_a_checkpoint_repeat_the_run(onward, tmp_path: Path) -> None:
    options = ("--model", "perceptron", "--epochs", "2", "--learning-rate", "0.02", "--augment", "flip")
    assert onward("train", *options, "--out", "run.pt", cwd=tmp_path).returncode == 0
    again = onward("train", "--config", "run.options.toml", "--out", "again.pt", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    runs = [Checkpoint.load(tmp_path / name) for name in ("run.pt", "again.pt")]
    assert runs[0].weights_digest() == runs[1].weights_digest()
    assert (tmp_path / "again.options.toml").read_text() == (tmp_path / "run.options.toml").read_text()
    (tmp_path / "own.toml").write_text('model = "cnn"\nepochs = 1\n[model-args]\nwidths = [4]\nnum_hidden = 8\n')
    assert onward("train", "--config", "own.toml", "--seed", "3", "--out", "own.pt", cwd=tmp_path).returncode == 0
    own = Checkpoint.load(tmp_path / "own.pt")
    assert (own.architecture, own.arguments["widths"], own.provenance["options"]["seed"]) == ("cnn", [4], 3)
    over = onward("train", "--config", "own.toml", "--epochs", "0", cwd=tmp_path)
    assert (over.returncode, "epochs is 0" in over.stderr) == (2, True)
    (tmp_path / "own.toml").write_text("epoch = 1")
    refused = onward("train", "--config", "own.toml", cwd=tmp_path)
    assert "own.toml has the key 'epoch', which is no option of `onward train`. Did you mean epochs?" in refused.stderr


def test_json_is_one_document_with_the_test_figures(onward, tmp_path: Path) -> None:
    result = onward("train", "--epochs", "1", "--out", "run.pt", "--json", cwd=tmp_path)
    document = json.loads(result.stdout)
    assert document["test"]["num_images"] == 359
    evaluated = json.loads(onward("evaluate", "run.pt", "--json", "--html", "page.html", cwd=tmp_path).stdout)
    assert evaluated.items() >= document["test"].items()
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    again = onward("evaluate", "run.pt", "--html", "page.html", cwd=tmp_path)
    assert (again.returncode, "page.html exists. --overwrite replaces it." in again.stderr) == (2, True)
    inspected = json.loads(onward("inspect", "run.pt", "--json", cwd=tmp_path).stdout)
    assert inspected["history"] == document["history"]


def test_progress_is_on_standard_error_with_json_too_if_that_is_a_terminal(
    onward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ("train", "--epochs", "1", "--out", "run.pt", "--overwrite", "--json")
    commands = {train: ("images   1,151", "epoch   1", "test"), ("evaluate", "run.pt", "--json"): ("359/359",)}
    for command in commands:
        quiet = onward(*command, cwd=tmp_path)
        json.loads(quiet.stdout)
        assert quiet.stderr == ""
    monkeypatch.setattr("onward.cli.progress._is_terminal", lambda: True)
    for command, expected in commands.items():
        shown = onward(*command, cwd=tmp_path)
        json.loads(shown.stdout)
        assert [text for text in expected if text not in shown.stderr] == []


def test_code_of_the_users_runs_when_they_name_it_and_only_then(onward, tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(NETWORK)
    more = ("--model", "my_net.py:Network", "--model-args", '{"hidden": 8}')
    trained = onward("train", *more, "--epochs", "2", "--out", "run.pt", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "next: onward evaluate run.pt --model my_net.py:Network --html run.html" in trained.stdout
    assert onward("inspect", "run.pt", cwd=tmp_path).stdout.endswith("onward export run.pt --model my_net.py:Network\n")
    unnamed = onward("evaluate", "run.pt", cwd=tmp_path)
    assert unnamed.returncode == 2
    assert "code by itself: if you trust it, add --model my_net.py:Network" in unnamed.stderr
    named = onward("evaluate", "run.pt", "--model", "my_net.py:Network", cwd=tmp_path)
    assert named.returncode == 0, named.stderr
    exported = onward("export", "run.pt", "--model", "my_net.py:Network", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    again = ("export", "run.pt", "--model", "my_net.py:Network", "--formats", "onnx")
    assert "run is a bundle already. --overwrite replaces it" in onward(*again, cwd=tmp_path).stderr
    assert onward(*again, "--overwrite", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "run" / "model.pt2").exists()
    with pytest.raises(UsageError, match="run is a bundle already"):
        export(tmp_path / "run.pt", tmp_path / "run")
    torch.save(dict(Checkpoint.load(tmp_path / "run.pt").state_dict), tmp_path / "weights.pth")
    (tmp_path / "labels.txt").write_text("\n".join("0123456789"))
    images = ("--image-size", "8x8x1", "--resize", "stretch", "--mean", "0.3", "--std", "0.4", "--labels", "labels.txt")
    theirs = onward(
        "export", "my_net.py:Network", "--model-args", '{"hidden": 8}', "--weights", "weights.pth", *images,
        "--formats", "onnx", "--out", "net", cwd=tmp_path,
    )  # fmt: skip
    assert theirs.returncode == 0, theirs.stderr
    assert onward("verify", "net", cwd=tmp_path).returncode == 0
    weights = ("weights.pth", "--model", "my_net.py:Network", "--data", "digits")
    wider = onward("evaluate", *weights, "--mean", "0.3", "--std", "0.4", cwd=tmp_path)
    assert wider.returncode == 2
    assert "layers.1.weight: file (8, 64), network (16, 64)" in wider.stderr


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(onward, tmp_path: Path) -> None:
    first = onward("train", "--epochs", "1", "--out", "run.pt", cwd=tmp_path)
    assert first.returncode == 0
    wild = ("--optimizer", "sgd", "--learning-rate", "1e30", "--epochs", "5")
    result = onward("train", *wild, "--out", "wild.pt", cwd=tmp_path)
    assert result.returncode == 1
    assert "at step 2 of epoch 1: the training has diverged" in result.stderr
    assert not (tmp_path / "wild.pt").exists()
    assert Checkpoint.load(tmp_path / "run.pt").history


def test_a_folder_with_a_damaged_image_trains_without_it_and_says_so(onward, photos: Path, tmp_path: Path) -> None:
    options = "--augment flip,crop --class-weights balanced --epochs 12 --batch-size 8 --learning-rate 0.003"
    image = ("--image-size", "10x8", "--resize", "shorter-side:10", "--mean", "0.25", "--std", "0.5")
    result = onward("train", "--data", f"folder:{photos}", *options.split(), *image, "--out", "run.pt", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 of 61 images could not be read" in result.stderr
    signature = Checkpoint.load(tmp_path / "run.pt").signature
    expected = Signature(10, 8, 1, (0.25,), (0.5,), ("a 0", "a 1"), Preprocess("shorter-side", 10))
    assert signature == expected
    evaluated = onward("evaluate", "run.pt", "--json", cwd=tmp_path)
    assert json.loads(evaluated.stdout)["accuracy"] > 0.8
    assert onward("export", "run.pt", "--formats", "onnx", cwd=tmp_path).returncode == 0


def test_evaluate_takes_an_artifact_of_lower_precision_by_name(here: Callable[..., Any]) -> None:
    bundle = Bundle.open(path_of(DIGITS_INT8))
    command = ("evaluate", bundle.path, "--artifact", "onnx-int8")
    evaluated, fidelity = json.loads(here(*command, "--json").stdout), bundle.artifact("onnx-int8").fidelity
    assert fidelity is not None
    assert (evaluated["artifact"], evaluated["artifact_precision"]) == ("onnx-int8", "int8")
    assert evaluated["accuracy"] == pytest.approx(fidelity.accuracy_after, abs=0.02)  # of other images, too
    assert "onnx-int8 is int8, made from onnx (weight bits 7, " in here(*command).stderr
    float32 = json.loads(here("evaluate", bundle.path, "--json").stdout)
    assert (float32["artifact"], float32["artifact_precision"]) == ("onnx", "float32")
    assert float32["loss"] != evaluated["loss"]


def test_grey_images_train_a_network_of_torchvision_and_the_bundle_takes_them_as_they_are(
    onward, photos: Path, tmp_path: Path
) -> None:
    larger = [path for path in photos.rglob("*.png") if path.name != "cut.png"]
    for path in larger:
        with Image.open(path) as image:
            image.resize((32, 32)).save(path)
    model = ("--model", "torchvision:squeezenet1_1")  # it has the fewest nodes of all
    result = onward("train", "--data", f"folder:{photos}", *model, "--epochs", "1", "--out", "run.pt", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    checkpoint = Checkpoint.load(tmp_path / "run.pt")
    assert (checkpoint.signature.channels, checkpoint.signature.repeat) == (1, 3)
    np.save(tmp_path / "grey.npy", np.stack([np.asarray(Image.open(path)) for path in larger[:5]]))
    exported = onward("export", "run.pt", "--formats", "onnx", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    predicted = onward("predict", "run", "grey.npy", "--out", "-", "--quiet", cwd=tmp_path)
    assert len(predicted.stdout.splitlines()) == 5


def test_torchvisions_own_weights_bring_their_signature(
    onward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import squeezenet1_1

    # large images in float64: with all samples of the gate this would take half a minute
    monkeypatch.setitem(publish.__kwdefaults__, "num_samples", 4)
    torch.manual_seed(0)
    network = squeezenet1_1(weights=None)  # it has the fewest nodes of all
    make_alive(network, THOUSAND)
    torch.save(network.state_dict(), tmp_path / "squeezenet1_1-b8a52dc0.pth")
    result = onward(
        "export", "torchvision:squeezenet1_1", "--weights", "squeezenet1_1-b8a52dc0.pth",
        "--formats", "onnx", "--out", "bundle", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    signature = json.loads(result.stdout)["manifest"]["signature"]
    assert signature["input"]["shape"] == ["batch", 224, 224, 3]
    assert signature["preprocess"]["shorter_side_px"] == 256
    assert signature["normalize"]["mean"] == [0.485, 0.456, 0.406]
    assert signature["labels"][0] == "tench"


def test_weights_for_other_labels_begin_with_a_new_last_layer(onward, photos: Path, tmp_path: Path) -> None:
    onward("train", "--model", "cnn", "--epochs", "1", "--out", "ten.pt", cwd=tmp_path)
    options = "--model cnn --weights ten.pt --epochs 1 --out two.pt"
    result = onward("train", "--data", f"folder:{photos}", *options.split(), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "ten.pt has 10 outputs, the network 2: head.4 starts with random weights" in result.stderr
    ten, two = (Checkpoint.load(tmp_path / name).signature for name in ("ten.pt", "two.pt"))
    assert (two.mean, two.std, two.image_shape) == (ten.mean, ten.std, ten.image_shape), "what the weights know"


def test_how_weights_from_elsewhere_take_images_is_stated_and_not_guessed(onward, photos: Path, tmp_path: Path) -> None:
    """The images are 8×8; the network was trained at 32×32."""
    signature = Signature(32, 32, 1, (0.5,), (0.25,), ("a 0", "a 1"))
    torch.save(build("torchvision:squeezenet1_1", signature).state_dict(), tmp_path / "mine.pth")
    weights = ("mine.pth", "--model", "torchvision:squeezenet1_1", "--data", f"folder:{photos}")
    to_train = ("--weights", *weights, "--epochs", "1", "--out", "run.pt")
    for command in (("evaluate", *weights), ("export", *weights), ("train", *to_train)):
        guessed = onward(*command, cwd=tmp_path)
        assert guessed.returncode == 2
        assert "state the size, resize rule, mean and standard deviation of its training" in guessed.stderr
        assert "--image-size 224 --resize shorter-side:256 --mean" in guessed.stderr
        assert "If it is torchvision's IMAGENET1K_V1 of squeezenet1_1, give it its own name again" in guessed.stderr
    stated = ("--image-size", "32", "--resize", "shorter-side:36", "--mean", "0.5", "--std", "0.25")
    partly = onward("evaluate", *weights, *stated[:4], cwd=tmp_path)
    assert "state the mean and standard deviation of its training, such as --mean" in partly.stderr
    evaluated = onward("evaluate", *weights, *stated, cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"next: onward export {' '.join(weights)} {' '.join(stated)}" in evaluated.stdout
    trained = onward("train", *to_train, *stated, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    found = of_images(Checkpoint.load(tmp_path / "run.pt").signature)
    assert (found.image_shape, found.mean, found.std) == ((32, 32, 1), (0.5,) * 3, (0.25,) * 3)
    assert found.preprocess == Preprocess("shorter-side", 36)


def test_a_network_with_weights_gets_their_mean_and_std_on_images_of_one_size_too(onward, tmp_path: Path) -> None:
    torch.save(build("cnn", Signature(8, 8, 1, (0.5,), (0.25,), ("a", "b"))).state_dict(), tmp_path / "mine.pth")
    command = ("train", "--model", "cnn", "--weights", "mine.pth", "--epochs", "1", "--out", "run.pt")
    guessed = onward(*command, cwd=tmp_path)
    assert "state the mean and standard deviation of its training" in guessed.stderr
    assert onward(*command, "--mean", "0.5", "--std", "0.25", cwd=tmp_path).returncode == 0
    again = onward(*command[:4], "run.pt", *command[5:-1], "again.pt", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    for name in ("run.pt", "again.pt"):
        signature = of_images(Checkpoint.load(tmp_path / name).signature)
        assert (signature.mean, signature.std) == ((0.5,), (0.25,)), name


def test_a_network_is_evaluated_with_its_published_weights(
    onward, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONWARD_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    evaluate = ("evaluate", "torchvision:squeezenet1_1", "--weights", "DEFAULT", "--data", f"folder:{photos}")
    missing = onward(*evaluate, cwd=tmp_path)
    assert (missing.returncode, "are not on this machine" in missing.stderr) == (2, True)
    torch.save(build("torchvision:squeezenet1_1", THOUSAND).state_dict(), tmp_path / "squeezenet1_1-b8a52dc0.pth")
    strange = onward(*evaluate, cwd=tmp_path)  # classes of a folder that ImageNet does not have
    assert strange.returncode == 2
    assert "has 1,000 classes, and the data set 'folder' others: a 0, a 1. `onward train --weights" in strange.stderr
    for old, new in (("a 0", "tench"), ("a 1", "goldfish")):
        (photos / old).rename(photos / new)
    done = onward(*evaluate, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "images become 224×224 (shorter side to 256, then the centre, bilinear)" in done.stderr
    assert f"next: {' '.join(('onward export', *evaluate[1:]))}" in done.stdout
    by_file = onward("evaluate", "torchvision:squeezenet1_1", "--weights", "squeezenet1_1-b8a52dc0.pth",
                     "--data", f"folder:{photos}", "--json", cwd=tmp_path)  # fmt: skip
    assert json.loads(by_file.stdout)["num_images"] == 8


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--model", "net.py:Network"), "net.py does not exist"),
        (("--model-args", "[1]"), "expected an object"),
        (("--model-args", "{"), "is not JSON"),
        (("--classes", "0,eleven"), "has no class 'eleven'"),
        (("--augment", "flop"), "flop"),
        (("--optimizer", "rmsprop"), "expected one of adam, adamw, sgd"),
        (("--device", "tpu"), "expected one of auto, cpu, cuda, mps"),
        (("--precision", "float16"), "float16 needs --device cuda"),
        (("--weights", "missing.pth"), "does not exist"),
        (("--model", "torchvision:vit_b_16"), "does not run on images (3, 8, 8)"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_trained(
    arguments: tuple[str, ...], match: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["train", "--epochs", "1", "--out", str(tmp_path / "run.pt"), *arguments])
    assert isinstance(result.exception, OnwardError)
    assert match in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_gone_on_with_under_other_options_and_they_are_named(onward, tmp_path: Path) -> None:
    onward("train", "--epochs", "1", "--out", "run.pt", cwd=tmp_path)
    other = ("--epochs", "1", "--batch-size", "32", "--seed", "1")
    result = onward("train", *other, "--out", "run.pt", "--resume", cwd=tmp_path)
    assert result.returncode == 2
    assert "batch size was 64, now is 32; seed was 0, now is 1" in result.stderr


def test_an_evaluation_on_fewer_classes_of_the_data_takes_those(onward, tmp_path: Path, digits: Dataset) -> None:
    onward("train", "--classes", "3,5", "--model", "neuron", "--epochs", "1", "--out", "run.pt", cwd=tmp_path)
    document = json.loads(onward("evaluate", "run.pt", "--json", cwd=tmp_path).stdout)
    assert document["num_images"] == int(np.isin(digits.test.targets, (3, 5)).sum())


@pytest.mark.parametrize("is_archive", [True, False])
def test_a_checkpoint_that_names_a_system_call_runs_nothing(
    is_archive: bool, onward, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    evil = replace(checkpoint, architecture="os:system", arguments={"command": "touch ran"})
    evil.save(tmp_path / "evil.pt")
    document = torch.load(tmp_path / "evil.pt", weights_only=True)
    torch.save(document, tmp_path / "evil.pt", _use_new_zipfile_serialization=is_archive)
    for command in ("evaluate", "export"):
        result = onward(command, "evil.pt", "--data", "digits", cwd=tmp_path)
        assert result.returncode == 2
        assert "--model os:system" in result.stderr
    assert not (tmp_path / "ran").exists()


def test_what_was_declared_of_a_network_holds_in_the_export(onward, digits: Dataset, tmp_path: Path) -> None:
    options = "--model sequential --final-activation logits --epochs 2 --learning-rate 0.01 --out run.pt"
    assert onward("train", *options.split(), cwd=tmp_path).returncode == 0
    exported = onward("export", "run.pt", "--formats", "onnx", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    in_pytorch = evaluate(checkpoint_runner(Checkpoint.load(tmp_path / "run.pt")), digits.test).probabilities
    with load_bundle(tmp_path / "run") as classifier:
        predictions = classifier(digits.test.read(slice(None))[0])
    np.testing.assert_allclose(predictions.probabilities, in_pytorch, rtol=1e-4)
    assert predictions.logits.max() <= 1, "the softmax that was declared to be logits is still there"


def test_exif_goes_from_training_to_evaluation_and_predictions(
    onward: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The two classes are one picture, stored upright and upside down: only the EXIF orientations tell them apart."""
    picture = np.zeros((12, 12), np.uint8)
    picture[:4] = 200
    generator = np.random.default_rng(0)
    for label, orientation in (("up", 1), ("down", 3)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(30):
            noisy = Image.fromarray(picture + generator.integers(0, 50, (12, 12), np.uint8))
            noisy.save(tmp_path / "photos" / label / f"{index}.png", exif=exif_of(orientation))
    options = ("--data", "folder:photos", "--epochs", 4, "--batch-size", 8)
    for exif, low, high in (("apply", 0.99, 1), ("ignore", 0, 0.9)):
        done = onward("train", *options, "--exif", exif, "--out", f"{exif}.pt", "--json", cwd=tmp_path)
        document = json.loads(done.stdout)
        assert document["signature"]["preprocess"]["exif"] == exif
        assert low <= document["test"]["accuracy"] <= high
        evaluated = json.loads(onward("evaluate", f"{exif}.pt", "--json", cwd=tmp_path).stdout)
        assert evaluated.items() >= document["test"].items()
    refused = onward("evaluate", "apply.pt", "--exif", "ignore", cwd=tmp_path)
    assert (refused.returncode, "apply.pt is a checkpoint, and its signature says" in refused.stderr) == (2, True)
    wrong = onward("train", *options, "--exif", "turn", cwd=tmp_path)
    assert (wrong.returncode, "exif is 'turn', expected ignore or apply" in wrong.stderr) == (2, True)


def test_weights_from_elsewhere_are_given_a_rule_for_exif(tmp_path: Path) -> None:
    small = Signature(4, 4, 1, (0.5,), (0.25,), ("a", "b"))
    torch.save(build("classifier", small).state_dict(), tmp_path / "net.pth")
    for exif, expected in ((None, "ignore"), ("apply", "apply")):
        stated = StatedPreprocessing.parse("4x4x1", "stretch", "0.5", "0.25", exif)
        found = open_checkpoint(tmp_path / "net.pth", NetworkSpec("classifier"), stated=stated, labels=small.labels)
        assert of_images(found.signature).preprocess.exif == expected
