"""Checkpoints as the world saves them: wrappers, moving averages, whole networks, arguments beside the weights."""

from __future__ import annotations

import functools
import json
import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from onward.errors import CheckpointError, UsageError
from onward.signature import Signature
from onward_training.external import load_state_dict, read_weights
from onward_training.import_weights import import_weights
from onward_training.options import NetworkSpec

SIGNATURE = Signature(height=4, width=4, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, labels=("a", "b", "c", "d", "e"))
#: A network in a file of the user's.
SOURCE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, values):
        return torch.relu(self.linear(values))

class Net(nn.Module):
    def __init__(self, num_classes=5, width=8, depth=1, pretrained=False):
        super().__init__()
        assert not pretrained
        self.stem = nn.Linear(48, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, num_classes)

    def forward(self, image):
        return self.head(self.blocks(self.stem(image.flatten(1))))
"""


class Net(nn.Module):
    """Convolution, batch norm and a head."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, num_classes)


class Said(list[str]):
    """What was notified."""

    @property
    def text(self) -> str:
        return "\n".join(self)


def loaded(document: object, path: Path, network: nn.Module | None = None, **options: Any) -> tuple[nn.Module, str]:
    """The network with the weights of a file of that content, and what was said."""
    torch.save(document, path)
    said, network = Said(), network or Net()
    weights = read_weights(path, notify=said.append, **options)
    load_state_dict(network, weights, path=path, notify=said.append)
    return network, said.text


def is_equal(network: nn.Module, other: nn.Module) -> bool:
    """Whether all weights are equal, but for counters of batches."""
    own, theirs = network.state_dict(), other.state_dict()
    return all(torch.equal(own[name], theirs[name]) for name in own if not name.endswith("num_batches_tracked"))


def renamed(network: nn.Module, rename: Callable[[str], str]) -> dict[str, Tensor]:
    return {rename(name): tensor for name, tensor in network.state_dict().items()}


def averaged(network: nn.Module) -> Mapping[str, Tensor]:
    model = AveragedModel(network)
    model.update_parameters(network)
    return model.state_dict()


# --- raw and averaged weights


@pytest.mark.parametrize(
    ("raw", "average"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema"),
        ("model", "ema"),
        ("params", "params_ema"),
        ("net", "swa_state"),
    ],
)
def test_the_averaged_weights_are_taken_and_both_entries_are_named(raw: str, average: str, tmp_path: Path) -> None:
    nets = {raw: Net(), average: Net()}
    document = {"epoch": 3} | {name: net.state_dict() for name, net in nets.items()}
    network, said = loaded(document, tmp_path / "net.pth")
    assert is_equal(network, nets[average])
    assert said == (
        f"took the weights under '{average}' of net.pth, a moving average; it also has '{raw}': choose with --entry "
        f"{raw}"
    )
    network, said = loaded(document, tmp_path / "net.pth", entry=raw)
    assert is_equal(network, nets[raw])
    assert f"under '{raw}' of net.pth; it also has '{average}': choose with --entry {average}" in said


def test_the_one_entry_of_a_file_is_named(tmp_path: Path) -> None:
    assert loaded({"model": Net().state_dict()}, tmp_path / "net.pth")[1] == "took the weights under 'model' of net.pth"


def test_an_entry_is_a_path_of_keys_and_may_be_the_beginning_of_names(tmp_path: Path) -> None:
    raw, ema = Net(), Net()
    nested = {"raw": {"model": raw.state_dict()}, "ema": {"decay": 0.9, "model": averaged(ema)}}
    network, said = loaded(nested, tmp_path / "net.pth")
    assert is_equal(network, ema)
    assert "took the weights under 'ema.model'" in said
    assert is_equal(loaded(nested, tmp_path / "net.pth", entry="raw.model")[0], raw)
    flat = renamed(raw, "teacher.{}".format) | renamed(ema, "student.{}".format)
    assert is_equal(loaded({"state_dict": flat}, tmp_path / "net.pth", entry="state_dict.student")[0], ema)
    assert is_equal(loaded(flat, tmp_path / "net.pth", entry="teacher")[0], raw)


def test_networks_beside_each_other_in_a_state_dict_are_told_apart_or_named(tmp_path: Path) -> None:
    raw, ema = Net(), Net()
    network, said = loaded(renamed(raw, "net.{}".format) | renamed(ema, "net_ema.{}".format), tmp_path / "net.pth")
    assert is_equal(network, ema)
    assert "took the weights under 'net_ema.' in net.pth; 'net.' fits, too: choose with --entry net" in said
    with pytest.raises(
        CheckpointError, match=r"under 'one\.' and 'two\.': choose one with --entry, e\.g\. --entry one"
    ):
        loaded(renamed(raw, "one.{}".format) | renamed(ema, "two.{}".format), tmp_path / "net.pth")


def test_mmengine_keeps_the_average_under_state_dict(tmp_path: Path) -> None:
    raw, ema = Net(), Net()
    document = {
        "meta": {"mmengine_version": "0.10.4"},
        "state_dict": ema.state_dict(),
        "ema_state_dict": {"steps": torch.tensor(9)} | renamed(raw, "module.{}".format),
    }
    network, said = loaded(document, tmp_path / "epoch.pth")
    assert is_equal(network, ema)
    assert "it also has 'ema_state_dict'" in said
    assert is_equal(loaded(document, tmp_path / "epoch.pth", entry="ema_state_dict")[0], raw)


def test_averaged_weights_without_names_are_said_to_be_there(tmp_path: Path) -> None:
    net = Net()
    document = {"model": net.state_dict(), "ema": {"decay": 0.9, "shadow_params": list(net.parameters())}}
    said = loaded(document, tmp_path / "net.pth")[1]
    assert said.endswith("ema.shadow_params holds averaged weights without names, which cannot be loaded")


def test_metrics_optimizers_and_scalars_are_no_entries(tmp_path: Path) -> None:
    net = Net()
    document = {
        "encoder": net.state_dict(),
        "optimizer": torch.optim.SGD(net.parameters(), 0.1, momentum=0.9).state_dict(),
        "metrics": {"accuracy": torch.tensor(0.9)},
    }
    assert loaded(document, tmp_path / "net.pth")[1] == "took the weights under 'encoder' of net.pth"


def test_a_wrong_entry_is_answered_with_the_entries(tmp_path: Path) -> None:
    document = {"state_dict": Net().state_dict(), "state_dict_ema": Net().state_dict(), "epoch": 3}
    with pytest.raises(UsageError, match="has no entry 'ema': it has weights in 'state_dict' and 'state_dict_ema'"):
        loaded(document, tmp_path / "net.pth", entry="ema")
    with pytest.raises(UsageError, match="has no weights in its entry 'epoch'"):
        loaded(document, tmp_path / "net.pth", entry="epoch")
    with pytest.raises(UsageError, match="has no entry 'ema': its names begin with 'features' and 'head'"):
        loaded(Net().state_dict(), tmp_path / "net.pth", entry="ema")


def test_weights_that_do_not_fit_name_the_other_entry(tmp_path: Path) -> None:
    document = {"ema": dict(Net().named_parameters()), "model": Net().state_dict()}
    with pytest.raises(CheckpointError, match=r"also has weights in 'model': choose with --entry model$"):
        loaded(document, tmp_path / "net.pth")


# --- names


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("features.", "features._orig_mod."),
        lambda name: name.replace("features.", "features.module."),
        lambda name: f"module.{name}" if "features" in name else name,
        lambda name: f"model.{name}" if "head" in name else name,
        lambda name: f"module._orig_mod.model.{name.replace('features.', 'features._checkpoint_wrapped_module.')}",
        lambda name: f"_fsdp_wrapped_module.{name.replace('features.', 'features._fsdp_wrapped_module.')}",
        lambda name: name.replace("features.", "features"),
    ],
    ids=["compiled part", "parallel part", "outside a part", "prefix of a part", "all", "fsdp", "old spelling"],
)
def test_what_wrappers_insert_is_left_out_of_names(rename: Callable[[str], str], tmp_path: Path) -> None:
    net = Net()
    network, said = loaded(renamed(net, rename), tmp_path / "net.pth")
    assert is_equal(network, net)
    assert re.fullmatch(r"matched \d keys by another spelling, e\.g\. \S+ is \S+ in the network", said)


def test_a_lightning_module_with_a_compiled_network_is_read_and_the_rest_is_named(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    state = renamed(net, "model._orig_mod.{}".format) | {"criterion.weight": torch.ones(2)}
    document = {"pytorch-lightning_version": "2.5.0", "state_dict": state}
    network, said = loaded(document, tmp_path / "last.ckpt", nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    assert is_equal(network, net)
    assert "left out of last.ckpt, because the network does not have them: criterion (1)" in said


def test_counters_of_averages_and_profilers_are_left_out_and_named(tmp_path: Path) -> None:
    net = Net()
    counters = {"total_ops": torch.zeros(1, dtype=torch.float64), "head.total_ops": torch.ones(1, dtype=torch.float64)}
    network, said = loaded(net.state_dict() | counters, tmp_path / "net.pth")
    assert is_equal(network, net)
    assert said == "left out of net.pth, because the network does not have them: total_ops (2)"
    network, said = loaded(averaged(net), tmp_path / "net.pth")
    assert is_equal(network, net)
    assert said == "left out of net.pth, because the network does not have them: n_averaged (1)"


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_weight_norm_is_read_under_its_old_names_and_its_new_ones(tmp_path: Path) -> None:
    old, new = nn.utils.weight_norm, nn.utils.parametrizations.weight_norm
    for one, other in ((old, new), (new, old)):
        net, network = (nn.Sequential(norm(nn.Linear(4, 3))) for norm in (one, other))
        loaded(renamed(net, "module.{}".format), tmp_path / "net.pth", network)
        image = torch.randn(2, 4)
        assert torch.equal(net(image), network(image))


def test_densenet_is_read_under_its_published_names(tmp_path: Path) -> None:
    from torchvision.models import DenseNet

    small = functools.partial(DenseNet, growth_rate=4, block_config=(2, 2), num_init_features=4, num_classes=5)
    net, pattern = small(), re.compile(r"(denselayer\d+\.(?:norm|conv))(\d)\.")
    state = renamed(net, lambda name: pattern.sub(r"\1.\2.", name))
    state = {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name}
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    assert is_equal(loaded(state, tmp_path / "densenet.pth", small())[0], net)


def test_two_names_of_one_weight_are_an_error_that_lists_both(tmp_path: Path) -> None:
    state = Net().state_dict() | {"module.head.weight": torch.ones(5, 4)}
    with pytest.raises(CheckpointError, match=r"has head\.weight and module\.head\.weight, the network head\.weight"):
        loaded(state, tmp_path / "net.pth")


def test_no_weight_is_matched_by_its_shape_alone(tmp_path: Path) -> None:
    decoder = renamed(Net(), lambda name: name.replace("head", "decoder.head"))
    with pytest.raises(CheckpointError, match=r"head\.weight \(5, 4\); nearest in the file: decoder\.head\.weight"):
        loaded(decoder, tmp_path / "net.pth")
    other = nn.ModuleDict({"encoder": Net()})
    with pytest.raises(CheckpointError, match="does not fit ModuleDict"):
        loaded(nn.ModuleDict({"decoder": Net()}).state_dict(), tmp_path / "net.pth", other)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_quantised_network_is_refused_in_a_sentence(tmp_path: Path) -> None:
    layer = {"fc.scale": torch.tensor(1.0), "fc._packed_params.dtype": torch.qint8}
    values = {"fc.weight": torch.quantize_per_tensor(torch.ones(3, 2), 0.1, 0, torch.qint8)}
    for state in (layer, values):
        with pytest.raises(CheckpointError, match=r"quantised network \('fc\..*Save the network's state_dict before"):
            loaded(state, tmp_path / "net.pth")


# --- whole networks and arguments of a class


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of user code, of a name that no other test imports."""
    path = tmp_path / f"net_{abs(hash(tmp_path))}.py"
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return path


def network_of(source: Path, **arguments: Any) -> nn.Module:
    from onward_training.models import build

    return build(f"{source}:Net", SIGNATURE, arguments)


def test_a_whole_network_is_imported_by_the_name_of_its_code(source: Path, tmp_path: Path) -> None:
    net = network_of(source)
    path = tmp_path / "whole.pth"
    torch.save({"model": net}, path)
    checkpoint = import_weights(path, NetworkSpec(f"{source}:Net"), signature=SIGNATURE)
    assert torch.equal(checkpoint.state_dict["stem.weight"], net.state_dict()["stem.weight"])


@pytest.mark.parametrize(
    "document",
    [
        {"width": 6, "depth": 2},
        {"hyper_parameters": {"width": 6, "depth": 2, "learning_rate": 0.1, "pretrained": True}},
        {"config": {"model": {"width": 6}, "data": {"width": 99}}, "model_args": {"depth": 2}},
        {"args": Namespace(width=6, depth=2)},
    ],
    ids=["beside", "lightning", "nested", "namespace"],
)
def test_arguments_in_the_file_are_given_to_the_class(document: dict[str, Any], source: Path, tmp_path: Path) -> None:
    net, path, said = network_of(source, width=6, depth=2), tmp_path / "net.pth", Said()
    torch.save(document | {"state_dict": net.state_dict()}, path)
    spec = NetworkSpec(f"{source}:Net")
    checkpoint = import_weights(path, spec, signature=SIGNATURE, notify=said.append)
    assert checkpoint.arguments == {"width": 6, "depth": 2}
    assert f"net.pth gives {source}:Net the arguments width=6, depth=2; --model-args overrides them" in said


def test_arguments_of_the_command_line_come_first_and_contradictions_are_named(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    document = {"width": 7, "num_classes": 9, "state_dict": network_of(source, width=6).state_dict()}
    torch.save(document, path)
    spec = NetworkSpec(f"{source}:Net", {"width": 6})
    assert import_weights(path, spec, signature=SIGNATURE).arguments == {"width": 6}
    torch.save(document | {"config": {"width": 6}}, path)
    assert import_weights(path, spec, signature=SIGNATURE).arguments == {"width": 6}
    with pytest.raises(
        CheckpointError, match=r"two values for .* 'width': width = 7 and config\.width = 6.*model-args"
    ):
        import_weights(path, NetworkSpec(f"{source}:Net"), signature=SIGNATURE)


def test_inspect_lists_the_entries(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from onward_training.commands import inspect
    from onward_training.external import family

    monkeypatch.setattr(family, "MAX_SECONDS", 0.0)  # the search would take all of its time
    path = tmp_path / "net.pth"
    torch.save({"model": Net().state_dict(), "ema": {"model": Net().state_dict()}}, path)
    inspect(path, as_json=True)
    entries = json.loads(capsys.readouterr().out)["entries"]
    assert [(item["entry"], item["num_tensors"], item["is_taken"]) for item in entries] == [
        ("model", 9, False),
        ("ema.model", 9, True),
    ]


@pytest.mark.parametrize("file", ["net.pth", "net.safetensors"])
def test_inspect_guesses_the_network_and_says_which_command_takes_it(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file
    from torchvision import models

    from onward.cli.inspect import inspect

    path = tmp_path / file
    state = {f"backbone.{name}": item for name, item in models.squeezenet1_1(num_classes=7).state_dict().items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    inspect(path)
    printed = capsys.readouterr().out
    assert "torchvision:squeezenet1_1 with 7 outputs, under names that begin with backbone." in printed
    assert f"next: onward export {path} --model torchvision:squeezenet1_1 --image-size" in printed
    inspect(path, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["family"] == {"model": "torchvision:squeezenet1_1", "prefix": "backbone.", "num_classes": 7}
    assert {item["name"] for item in document["entries"][0]["tensors"]} == set(state)
