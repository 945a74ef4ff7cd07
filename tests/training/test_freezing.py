"""The first epochs may train the head only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from onward.errors import UsageError
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset
from onward_training.epoch_metrics import Step
from onward_training.freezing import Backbone
from onward_training.loop import train
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder
from onward_training.run_summary import RunSummary

OPTIONS = TrainOptions(model="cnn", arguments={"widths": [4], "num_hidden": 8}, epochs=2, freeze_epochs=1)


class Rooted(nn.Module):
    """A network whose root has a parameter, as a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(4))
        self.norm, self.dropout, self.head = nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Of no matter."""
        return self.head(self.dropout(self.norm(x + self.token)))


def test_all_but_the_last_layer_and_dropout_is_frozen() -> None:
    network = Rooted().train()
    network.norm.bias.requires_grad_(False)
    backbone = Backbone(network)
    backbone.set_frozen(True)
    assert [name for name, item in network.named_parameters() if item.requires_grad] == ["head.weight", "head.bias"]
    assert (network.norm.training, network.dropout.training, network.head.training) == (False, True, True)
    network.train()
    backbone.set_frozen(False)
    trained = [name for name, item in network.named_parameters() if item.requires_grad]
    assert trained == ["token", "norm.weight", "head.weight", "head.bias"], "what the user froze stays frozen"


def test_the_backbone_keeps_its_weights_while_it_is_frozen(digits: Dataset) -> None:
    states = []
    told: list[RunSummary] = []
    for epochs, frozen in ((1, 0), (1, 1), (2, 1), (2, 2)):
        options = replace(OPTIONS, epochs=epochs, freeze_epochs=frozen, learning_rate=0.01)
        start: dict[str, Tensor] = {}
        checkpoint = train(
            digits, options, initialise=lambda network, kept=start: kept.update(_copy(network)), on_start=told.append
        )
        changed = {name for name, tensor in checkpoint.state_dict.items() if not torch.equal(tensor, start[name])}
        states.append({name.partition(".")[0] for name in changed if "head.4" not in name})
        assert {"head.4.weight", "head.4.bias"} <= changed
    assert states[1] == states[3] == set()
    assert states[0] >= {"features", "head"}
    assert "; the first epoch trains the head only, 90 parameters" in dict(told[1].rows())["network"]


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("num_steps", [5, 25])
def test_a_resumed_run_has_the_bits_of_one_that_was_not_stopped(
    num_steps: int, digits: Dataset, tmp_path: Path
) -> None:
    whole = train(digits, OPTIONS)
    run_folder = RunFolder(tmp_path / "run.pt")
    told: list[Step] = []
    train(digits, OPTIONS, run_folder=run_folder, on_step=told.append, should_stop=lambda: len(told) == num_steps)
    resumed = train(digits, OPTIONS, run_folder=run_folder, resume_from=run_folder.find())
    assert resumed.weights_digest() == whole.weights_digest()
    with pytest.raises(UsageError, match="freeze epochs was 1, now is 0"):
        train(digits, replace(OPTIONS, freeze_epochs=0), run_folder=run_folder, resume_from=run_folder.find())


def test_a_run_from_before_there_was_freezing_is_resumed(digits: Dataset, tmp_path: Path) -> None:
    options, run_folder = replace(OPTIONS, epochs=1, freeze_epochs=0), RunFolder(tmp_path / "run.pt")
    told: list[Step] = []
    train(digits, options, run_folder=run_folder, on_step=told.append, should_stop=lambda: len(told) == 3)
    stopped = Checkpoint.load(run_folder.last_path)
    before = {key: value for key, value in stopped.provenance["options"].items() if key != "freeze_epochs"}
    old = replace(stopped, provenance={**stopped.provenance, "options": before})
    assert train(digits, options, resume_from=(old, None)).weights_digest() == train(digits, options).weights_digest()
