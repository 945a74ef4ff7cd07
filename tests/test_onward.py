"""The front door: commands, public names, exit codes, and one sentence where something goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import onward as front_door
from onward.bundle import Bundle
from onward.errors import UsageError
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset
from tests.small_disk import small_disk

pytestmark = pytest.mark.long
COMMANDS = ("demo", "train", "evaluate", "export", "verify", "predict", "bench", "inspect", "doctor")


def assert_sentence(result: subprocess.CompletedProcess[str], exit_code: int, *words: str) -> None:
    """The command ended with that code, said these words, and showed no traceback."""
    assert result.returncode == exit_code, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    ours = [line for line in result.stderr.splitlines() if line.startswith("onward: ")]
    assert len(ours) == 1


def test_the_public_names_are_those_that_are_promised() -> None:
    verbs = {"train", "evaluate", "export", "load", "verify", "predict", "bench", "embed", "inspect"}
    assert verbs < set(front_door.__all__)
    assert all(hasattr(front_door, name) for name in front_door.__all__)


def test_help_names_every_command(onward) -> None:
    result = onward("--help")
    assert result.returncode == 0
    assert all(f" {command} " in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, here) -> None:
    result = here(command, "--help")
    assert result.returncode == 0
    assert "Usage: onward" in result.stdout
    assert "\b" not in result.stdout
    assert ("Examples:" in result.stdout) == (command != "doctor")


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("onward", "onward"),
        ("onward_training", "python -m onward_training"),
        ("onward_export", "python -m onward_export"),
    ],
)
def test_each_package_runs_as_a_module_in_any_folder(package: str, name: str, tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-m", package, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0
    assert f"Usage: {name} " in result.stdout


def test_doctor_says_what_this_machine_can_run(onward) -> None:
    result = onward("doctor", "--json")
    findings = {item["what"]: item["works"] for item in json.loads(result.stdout)["findings"]}
    assert findings["predict, verify, bench"]
    assert findings["--provider cpu"]


def test_python_has_the_same_line(digits: Dataset, tmp_path: Path) -> None:
    checkpoint = front_door.train("digits", model="perceptron", epochs=6, learning_rate=1e-2)
    bundle = front_door.export(checkpoint, tmp_path / "digits")
    with front_door.load(bundle.path) as classifier:
        predictions = classifier(digits.test.images)
    assert (predictions.indices == digits.test.targets).mean() > 0.85


def test_an_nn_module_is_exported_with_a_signature_and_refused_without(digits: Dataset, tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with pytest.raises(UsageError, match="needs a signature"):
        front_door.export(network, tmp_path / "linear")
    images = digits.test.images
    bundle = front_door.export(network, tmp_path / "linear", signature=digits.signature, samples=images)
    assert "real" not in bundle.golden().inputs
    assert bundle.provenance["architecture"] == "Sequential"


# What goes wrong: one sentence, the right exit code, no traceback.


def test_a_missing_checkpoint(onward, tmp_path: Path) -> None:
    assert_sentence(onward("export", tmp_path / "none.pt"), 2, "none.pt does not exist", "onward train")


def test_a_truncated_checkpoint(here, checkpoint_path: Path, tmp_path: Path) -> None:
    data = checkpoint_path.read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    assert_sentence(here("export", tmp_path / "cut.pt"), 2, "cut.pt is cut short or damaged")


def test_a_foreign_checkpoint(here, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "foreign.pt")
    assert_sentence(here("export", tmp_path / "foreign.pt"), 2, "does not name their network: add --model")


def test_a_whole_network(here, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickled.pt")
    result = here("export", tmp_path / "pickled.pt")
    assert_sentence(result, 2, "pickled.pt is a whole network, a Linear", "does not name their network: add --model")


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "model.pt2", "golden.npz", "parity.html"])
def test_a_bundle_with_one_byte_changed(name: str, here, bundle: Bundle) -> None:
    path = bundle.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    result = here("verify", bundle.path)
    assert_sentence(result, 2, name)
    assert "was changed" in result.stderr or "manifest.json is not JSON" in result.stderr


def test_an_onnx_file_that_is_no_bundle(onward, bundle: Bundle) -> None:
    assert_sentence(onward("verify", bundle.path / "model.onnx"), 2, f"expected the bundle's folder: {bundle.path}")


def test_a_file_that_is_nothing_of_ours(onward, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert_sentence(onward("inspect", tmp_path / "notes.txt"), 2, "neither a bundle, nor a checkpoint, nor an ONNX")


def test_an_empty_folder(here, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_sentence(here("predict", bundle.path, tmp_path / "empty"), 2, "contains no image")


def test_a_text_file_named_png_is_listed_and_counted_and_the_rest_are_predicted(
    onward, bundle: Bundle, pixels: np.ndarray, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(pixels[0, ..., 0]).save(folder / "a.png")
    (folder / "b.png").write_text("no picture")
    Image.fromarray(pixels[1, ..., 0]).save(folder / "c.png")
    result = onward("predict", bundle.path, folder, "--out", tmp_path / "out.csv")
    assert result.returncode == 1
    assert f"1 could not be read, listed in {tmp_path / 'out.csv.errors.jsonl'}" in result.stderr
    assert "b.png: not an image" in result.stderr
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["input", f"{folder / 'a.png'}", f"{folder / 'c.png'}"]
    (error,) = map(json.loads, (tmp_path / "out.csv.errors.jsonl").read_text().splitlines())
    assert (error["input"], error["stage"]) == (f"{folder / 'b.png'}", "decode")


def test_an_idx_file_cut_short_gives_the_rows_that_are_there(here, bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    images = np.zeros((10, 8, 8), np.uint8)
    header = bytes((0, 0, 8, 3)) + np.array(images.shape, ">u4").tobytes()
    (tmp_path / "cut-idx3-ubyte").write_bytes(header + images.tobytes()[:-1])
    result = here("predict", bundle.path, tmp_path / "cut-idx3-ubyte", "--out", out)
    assert result.returncode == 1
    assert "is cut short" in result.stderr
    assert "states 10 items, 9 are there" in result.stderr
    assert len(out.read_text().splitlines()) == 1 + 9
    assert [path.name for path in tmp_path.glob(".*")] == [f".{out.name}.done"]


def test_a_wrong_channel_count(here, bundle: Bundle, tmp_path: Path) -> None:
    np.save(tmp_path / "rgb.npy", np.zeros((4, 8, 8, 3), np.uint8))
    result = here("predict", bundle.path, tmp_path / "rgb.npy")
    assert_sentence(result, 2, "has shape (4, 8, 8, 3), expected (images, 8, 8, 1)")


def test_a_data_set_of_other_images_than_the_model_s(here, checkpoint_path: Path) -> None:
    assert_sentence(here("evaluate", checkpoint_path, "--data", "fake"), 2, "has classes that the model does not have")


def test_an_unknown_data_set_says_which_there_are(onward) -> None:
    assert_sentence(onward("train", "--data", "cifar"), 2, "'cifar' is unknown", "digits, fashion-mnist, mnist")


def test_an_unknown_architecture_says_which_there_are(here) -> None:
    assert_sentence(
        here("train", "--model", "resnet"), 2, "'resnet' is unknown", "network, classifier, cnn, torchvision:NAME"
    )


@pytest.mark.parametrize("command", ["verify", "predict"])
def test_a_provider_that_is_not_here_is_an_error_and_never_the_cpu(
    command: str, here, bundle: Bundle, tmp_path: Path
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    np.save(tmp_path / "images.npy", np.zeros((1, 8, 8, 1), np.uint8))
    more = [tmp_path / "images.npy", "--out", tmp_path / "out.csv"] if command == "predict" else []
    result = here(command, bundle.path, *more, "--provider", "cuda")
    assert_sentence(result, 2, "CUDAExecutionProvider is not in this onnxruntime; it has", "onnxruntime-gpu")
    assert not (tmp_path / "out.csv").exists()


def test_a_refused_export_ends_with_exit_code_1(here, checkpoint: Checkpoint, tmp_path: Path) -> None:
    from dataclasses import replace

    weights = {name: tensor.clone() for name, tensor in checkpoint.state_dict.items()}
    weights["head.4.weight"][0, 0] = float("nan")
    replace(checkpoint, state_dict=weights).save(tmp_path / "nan.pt")
    assert_sentence(here("export", tmp_path / "nan.pt"), 1, "model.head.4.weight are NaN")
    assert not (tmp_path / "nan").exists()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, nearly full."""
    with small_disk(tmp_path / "small", 256 << 10) as place:
        (place / "filling").write_bytes(bytes(200_000))
        yield place


def test_a_full_disk_while_predicting_leaves_the_earlier_rows(here, full_disk: Path, bundle: Bundle, tmp_path) -> None:
    (full_disk / "out.csv").write_text("earlier")
    np.save(tmp_path / "images.npy", np.zeros((5000, 8, 8, 1), np.uint8))
    result = here("predict", bundle.path, tmp_path / "images.npy", "--out", full_disk / "out.csv", "--no-resume")
    assert_sentence(result, 2, "no space is left")
    assert (full_disk / "out.csv").read_text() == "earlier"


def test_a_run_that_filled_the_disk_goes_on_once_there_is_room(
    here, full_disk: Path, bundle: Bundle, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2000, 8, 8, 1), np.uint8))
    out = full_disk / "out.csv"
    options = ("--batch-size", 64, "--commit-every", 0)
    result = here("predict", bundle.path, tmp_path / "images.npy", "--out", out, *options)
    assert_sentence(result, 2, "no space is left", "safe: make room, then go on with --resume")
    (full_disk / "filling").unlink()
    again = here("predict", bundle.path, tmp_path / "images.npy", "--out", out, "--resume", "--json")
    assert json.loads(again.stdout)["num_resumed"] > 0
    here("predict", bundle.path, tmp_path / "images.npy", "--out", tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
