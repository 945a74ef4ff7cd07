"""Checkpoints: what is written reads back equal, and opening one runs no code."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from onward.bundle import Bundle
from onward.errors import CheckpointError, OutputError, UsageError
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset
from onward_training.evaluator import checkpoint_runner, evaluate
from onward_training.loop import train
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder

#: Written by the commit 89fb7db: a finished run, and one that was stopped at step 3 of its second epoch.
FORMAT_1 = Path(__file__).parent / "checkpoints" / "format-1"


def test_what_is_written_reads_back_equal(checkpoint: Checkpoint, checkpoint_path: Path) -> None:
    read = Checkpoint.load(checkpoint_path)
    assert read.weights_digest() == checkpoint.weights_digest()
    for name in ("architecture", "arguments", "signature", "data", "history", "provenance"):
        assert getattr(read, name) == getattr(checkpoint, name), name
    assert torch.equal(read.random_state, checkpoint.random_state)
    assert read.optimizer["param_groups"] == checkpoint.optimizer["param_groups"]


def test_a_network_read_back_predicts_the_same(checkpoint: Checkpoint, checkpoint_path: Path, digits: Dataset) -> None:
    one, other = (
        evaluate(checkpoint_runner(item), digits.test) for item in (checkpoint, Checkpoint.load(checkpoint_path))
    )
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_a_checkpoint_of_format_1_opens_for_ever(digits: Dataset) -> None:
    checkpoint = Checkpoint.load(FORMAT_1 / "sequential.pt")
    assert checkpoint.weights_digest() == "4c0bf7fcd2f2f5ab94ce796e11e47dee9a8ebf8bc528ef7580d97d029f1d90f5"
    assert (checkpoint.architecture, checkpoint.arguments["end"]) == ("sequential", "softmax")
    assert (checkpoint.final_activation, checkpoint.signature.labels) == ("auto", ("3", "5"))
    assert evaluate(checkpoint_runner(checkpoint), digits.select(("3", "5")).test).accuracy > 0.5


def test_a_run_of_format_1_is_resumed(digits: Dataset) -> None:
    options = TrainOptions(
        model="cnn", arguments={"widths": [2, 4], "num_hidden": 8}, epochs=3, batch_size=100, learning_rate=1e-2,
        final_activation="logits",
    )  # fmt: skip
    found = RunFolder(FORMAT_1 / "run.pt").find()
    assert found is not None
    assert (found[0].progress["step"], len(found[0].history)) == (3, 1)
    resumed = train(digits, options, resume_from=found)
    assert len(resumed.history) == 3
    assert resumed.history[0] == found[0].history[0]
    with pytest.raises(UsageError, match="final activation was logits, now is auto"):
        train(digits, replace(options, final_activation="auto"), resume_from=found)


def test_the_file_keeps_the_key_end(checkpoint_path: Path) -> None:
    document = torch.load(checkpoint_path, weights_only=True)
    assert document["end"] == document["provenance"]["options"]["end"] == "auto"
    assert "final_activation" not in document


def test_the_network_comes_in_eval_mode(checkpoint: Checkpoint) -> None:
    assert not any(module.training for module in checkpoint.network().modules())


def test_opening_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path, "ran"),))  # type: ignore[return-value]

    torch.save({"format": "onward.checkpoint/1", "state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="needs more than tensors"):
        Checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_a_numpy_scalar_is_refused_when_it_is_written_not_when_it_is_read(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    stray = replace(checkpoint, provenance={"accuracy": np.float64(0.9)})
    with pytest.raises(pickle.UnpicklingError):
        stray.save(tmp_path / "stray.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_anywhere_is_refused(share: float, checkpoint_path: Path, tmp_path: Path) -> None:
    data = checkpoint_path.read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError):
        Checkpoint.load(tmp_path / "cut.pt")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        Checkpoint.load(tmp_path)


@pytest.mark.parametrize("name", ["model.torchscript", "model.pt2"])
def test_an_exported_model_is_no_checkpoint(name: str, shared_bundle: Bundle) -> None:
    with pytest.raises(CheckpointError, match=r"is not a checkpoint: it is TorchScript, a \.pt2"):
        Checkpoint.load(shared_bundle.path / name)


def test_a_newer_format_is_refused(checkpoint_path: Path, tmp_path: Path) -> None:
    document = torch.load(checkpoint_path, weights_only=True) | {"format": "onward.checkpoint/2"}
    torch.save(document, tmp_path / "newer.pt")
    with pytest.raises(CheckpointError, match="does not read"):
        Checkpoint.load(tmp_path / "newer.pt")


def test_weights_that_do_not_fit_are_refused(checkpoint: Checkpoint) -> None:
    weights = dict(checkpoint.state_dict)
    weights.pop("head.4.bias")
    with pytest.raises(CheckpointError, match=r"head\.4\.bias"):
        replace(checkpoint, state_dict=weights).network()


def test_one_weight_changes_the_digest(checkpoint: Checkpoint) -> None:
    weights = {name: tensor.clone() for name, tensor in checkpoint.state_dict.items()}
    weights["head.4.bias"][0] += 1e-6
    assert replace(checkpoint, state_dict=weights).weights_digest() != checkpoint.weights_digest()


def test_a_place_that_cannot_be_written_is_an_error_in_a_sentence(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        checkpoint.save(tmp_path / "file" / "model.pt")
