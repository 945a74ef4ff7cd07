"""Foreign weights: what other programs wrote reads back equal, runs no code, and fits or says why not."""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import functools
import inspect
import io
import logging
import os
import pickle
import sys
import tarfile
from collections import OrderedDict
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.serialization import get_safe_globals

from onward.bundle import Bundle
from onward.errors import CheckpointError
from onward_training.checkpoint import Checkpoint
from onward_training.external import COURSE_ENTRIES, ExternalWeights, load_state_dict, read_weights

FORMATS = pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")


class Net(nn.Module):
    """A batch norm and two layers, one of them in a part of its own."""

    def __init__(self, num_classes: int = 3, num_hidden: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, num_hidden), nn.BatchNorm1d(num_hidden))
        self.head = nn.Linear(num_hidden, num_classes)


class Holder(nn.Module):
    """A network under an attribute of any name."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.add_module(name, network)


class CourseNetwork(nn.Module):
    """The names of the course's part 6."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.hidden_layers = nn.ModuleList(nn.Linear(one, other) for one, other in pairwise(widths[:-1]))
        self.output = nn.Linear(widths[-2], widths[-1])


class Command:
    """Unpickled, it touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


class Call:
    """Unpickled, it is what a function says of some arguments."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def save(document: object, path: Path, *, archive: bool = True) -> Path:
    torch.save(document, path, _use_new_zipfile_serialization=archive)
    return path


def assert_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert list(one) == list(other)
    for name in one:
        assert torch.equal(one[name], other[name]), name


def fitted(weights: ExternalWeights, network: nn.Module | None = None) -> nn.Module:
    network = network or Net()
    load_state_dict(network, weights, path=Path("theirs.pt"))
    return network


def misfit(state: Mapping[str, Tensor], network: nn.Module, kind: str = "state_dict") -> str:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"theirs\.pt") as caught:
        load_state_dict(network, ExternalWeights(state, kind, ""), path=Path("theirs.pt"))
    assert_equal(network.state_dict(), before)
    return str(caught.value)


def course(widths: list[int], **changes: object) -> dict[str, Any]:
    state = CourseNetwork(widths).state_dict()
    sizes = {"input_size": widths[0], "output_size": widths[-1], "hidden_layers": widths[1:-1]}
    return sizes | {"state_dict": state} | changes


def lightning(network: nn.Module, name: str = "model", **beside: Tensor) -> dict[str, object]:
    state = Holder(network, name).state_dict()
    state.update({key.replace("__", "."): tensor for key, tensor in beside.items()})
    return {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {},
        "optimizer_states": [torch.optim.Adam(network.parameters()).state_dict()],
        "hyper_parameters": {"learning_rate": 1e-3},
    }


# --- what is read


@FORMATS
def test_a_bare_state_dict_reads_back_equal(archive: bool, tmp_path: Path) -> None:
    net = Net()
    weights = read_weights(save(net.state_dict(), tmp_path / "net.pth", archive=archive))
    assert (weights.kind, weights.stripped, weights.model, weights.arguments) == ("state_dict", "", None, {})
    assert_equal(weights.state_dict, net.state_dict())
    assert_equal(fitted(weights).state_dict(), net.state_dict())


@FORMATS
@pytest.mark.parametrize("entry", ["state_dict", "model_state_dict", "model", "net", "weights", "ema", "classifier"])
def test_a_training_state_is_read_for_its_weights(entry: str, archive: bool, tmp_path: Path) -> None:
    net = Net()
    state = {
        "epoch": 7,
        "loss": torch.tensor(0.5),
        "optimizer": torch.optim.SGD(net.parameters(), 0.1, momentum=0.9).state_dict(),
        entry: net.state_dict(),
    }
    weights = read_weights(save(state, tmp_path / "state.pth.tar", archive=archive))
    assert weights.kind == "training state"
    assert_equal(weights.state_dict, net.state_dict())


def test_two_networks_in_a_file_are_not_chosen_between(tmp_path: Path) -> None:
    path = save({"teacher": Net().state_dict(), "student": Net().state_dict()}, tmp_path / "two.pt")
    with pytest.raises(CheckpointError, match="several networks, in 'teacher' and 'student'"):
        read_weights(path)


@FORMATS
def test_the_course_s_dictionary_names_its_network(archive: bool, tmp_path: Path) -> None:
    document = course([784, 512, 256, 128, 10])
    weights = read_weights(save(document, tmp_path / "checkpoint.pth", archive=archive))
    assert (weights.kind, weights.model) == ("course", "network")
    assert weights.arguments == {"hidden_layers": [512, 256, 128]}
    assert_equal(weights.state_dict, document["state_dict"])


def test_the_course_s_dropout_is_an_argument_where_it_is_given(tmp_path: Path) -> None:
    weights = read_weights(save(course([8, 6, 4, 2], drop_p=0.3), tmp_path / "checkpoint.pth"))
    assert weights.arguments == {"hidden_layers": [6, 4], "drop_p": 0.3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": 20}, "states input_size 20, but its tensors have input_size 8"),
        ({"output_size": 10}, "states output_size 10, but its tensors have output_size 2"),
        ({"hidden_layers": [6]}, r"states hidden_layers \[6\], but its tensors have hidden_layers \[6, 4\]"),
    ],
)
def test_a_size_of_the_course_s_that_its_tensors_do_not_have_is_an_error(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_weights(save(course([8, 6, 4, 2], **changes), tmp_path / "checkpoint.pth"))


def test_the_course_s_sizes_beside_another_network_are_a_training_state(tmp_path: Path) -> None:
    document = dict.fromkeys(COURSE_ENTRIES, 1) | {"state_dict": Net().state_dict()}
    weights = read_weights(save(document, tmp_path / "checkpoint.pth"))
    assert (weights.kind, weights.model) == ("training state", None)


@pytest.mark.parametrize("name", ["model", "net", "backbone"])
def test_a_network_is_taken_out_of_a_lightning_module(name: str, tmp_path: Path) -> None:
    net = Net()
    document = lightning(net, name, train_acc__total=torch.tensor(9), criterion__weight=torch.ones(3))
    weights = read_weights(save(document, tmp_path / "last.ckpt"))
    assert (weights.kind, weights.stripped) == ("lightning", "")
    assert_equal(fitted(weights).state_dict(), net.state_dict())


def test_a_lightning_module_of_two_networks_is_not_chosen_from(tmp_path: Path) -> None:
    beside = {f"student.{name}": tensor for name, tensor in Net().state_dict().items()}
    weights = read_weights(save(lightning(Net(), "teacher", **beside), tmp_path / "last.ckpt"))
    with pytest.raises(CheckpointError, match=r"several networks that fit, under 'teacher\.' and 'student\.'"):
        fitted(weights)


def test_of_a_lightning_module_s_networks_the_one_named_model_is_meant(tmp_path: Path) -> None:
    net = Net()
    beside = {f"teacher.{name}": tensor for name, tensor in Net().state_dict().items()}
    weights = read_weights(save(lightning(net, **beside), tmp_path / "last.ckpt"))
    assert_equal(fitted(weights).state_dict(), net.state_dict())


def test_what_lies_beside_the_network_under_its_own_attribute_is_left_over(tmp_path: Path) -> None:
    weights = read_weights(save(lightning(Net(), model__gate=torch.ones(2)), tmp_path / "last.ckpt"))
    with pytest.raises(CheckpointError, match=r"unexpected in the file \(1\):\n  gate \(2,\)"):
        fitted(weights)


@pytest.mark.parametrize("name", ["model.safetensors", "renamed.pt"])
def test_safetensors_are_told_by_their_content(name: str, tmp_path: Path) -> None:
    net = Net()
    save_file(net.state_dict(), tmp_path / name, metadata={"format": "pt"})
    weights = read_weights(tmp_path / name)
    assert weights.kind == "safetensors"
    assert_equal(fitted(weights).state_dict(), net.state_dict())


def test_a_file_of_torch_save_named_safetensors_is_read(tmp_path: Path) -> None:
    weights = read_weights(save(Net().state_dict(), tmp_path / "net.safetensors"))
    assert weights.kind == "state_dict"


def test_a_checkpoint_of_onward_s_names_its_architecture(checkpoint: Checkpoint, checkpoint_path: Path) -> None:
    weights = read_weights(checkpoint_path)
    assert (weights.kind, weights.model) == ("onward", checkpoint.architecture)
    assert weights.arguments == checkpoint.arguments
    assert_equal(weights.state_dict, checkpoint.state_dict)
    assert_equal(fitted(weights, checkpoint.network()).state_dict(), checkpoint.network().state_dict())


def test_a_checkpoint_of_onward_s_without_its_parts_is_refused(tmp_path: Path) -> None:
    path = save({"format": "onward.checkpoint/9", "state_dict": Net().state_dict()}, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match=r"is marked onward\.checkpoint/9, but lacks"):
        read_weights(path)


def test_parameters_become_tensors_without_a_gradient(tmp_path: Path) -> None:
    weights = read_weights(save(dict(Net().named_parameters()), tmp_path / "parameters.pt"))
    assert {type(tensor) for tensor in weights.state_dict.values()} == {Tensor}
    assert not any(tensor.requires_grad for tensor in weights.state_dict.values())


def test_metadata_is_dropped_and_a_counter_may_be_a_plain_number(tmp_path: Path) -> None:
    state = OrderedDict(Net().state_dict())
    state["_metadata"] = {"": {"version": 1}}
    state["body.1.num_batches_tracked"] = 12
    network = fitted(read_weights(save(state, tmp_path / "net.pt")))
    assert network.state_dict()["body.1.num_batches_tracked"] == 12


def test_another_entry_that_is_no_tensor_is_an_error(tmp_path: Path) -> None:
    path = save(OrderedDict(Net().state_dict(), arch="resnet"), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="has the entry 'arch' of type str among its weights"):
        read_weights(path)


def test_a_tensor_without_values_is_an_error(tmp_path: Path) -> None:
    path = save({"weight": torch.ones(3, device="meta")}, tmp_path / "meta.pt")
    with pytest.raises(CheckpointError, match="has the entry 'weight' without values"):
        read_weights(path)


@pytest.mark.parametrize("document", [{}, {"state_dict": {}}, [1, 2], 3, {"epoch": 3}, torch.ones(2)])
def test_a_document_without_weights_is_an_error(document: object, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights|expected a state_dict"):
        read_weights(save(document, tmp_path / "none.pt"))


# --- prefixes


@FORMATS
@settings(max_examples=25, deadline=None)
@given(prefixes=st.lists(st.sampled_from(PREFIXES), max_size=5))
def test_any_nesting_of_prefixes_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, archive: bool, prefixes: list[str]
) -> None:
    net = Net()
    path = tmp_path_factory.mktemp("prefixes") / "net.pt"
    save({"".join(prefixes) + name: tensor for name, tensor in net.state_dict().items()}, path, archive=archive)
    assert_equal(fitted(read_weights(path)).state_dict(), net.state_dict())


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(PREFIXES), prefixes=st.lists(st.sampled_from(PREFIXES), max_size=3))
def test_a_prefix_that_is_the_network_s_own_attribute_stays(
    tmp_path_factory: pytest.TempPathFactory, name: str, prefixes: list[str]
) -> None:
    net = Holder(Net(), name.rstrip("."))
    path = tmp_path_factory.mktemp("prefixes") / "net.pt"
    save({"".join(prefixes) + key: tensor for key, tensor in net.state_dict().items()}, path)
    assert_equal(fitted(read_weights(path), Holder(Net(), name.rstrip("."))).state_dict(), net.state_dict())


def test_data_parallel_and_compile_are_stripped_as_they_are_written(tmp_path: Path) -> None:
    net = Net()
    compiled: Any = torch.compile(net)
    wrapped = nn.DataParallel[Any](compiled)
    weights = read_weights(save(wrapped.state_dict(), tmp_path / "wrapped.pt"))
    assert weights.stripped == "module._orig_mod."
    assert_equal(weights.state_dict, net.state_dict())


def test_a_prefix_that_one_key_lacks_is_not_stripped(tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in Net().state_dict().items()} | {"scale": torch.tensor(3.0)}
    weights = read_weights(save(state, tmp_path / "net.pt"))
    assert weights.stripped == ""
    with pytest.raises(CheckpointError, match=r"unexpected in the file \(1\):\n  scale \(\)\nNearly all keys"):
        fitted(weights)


# --- what is refused


@FORMATS
@pytest.mark.parametrize("name", ["system", "popen"])
def test_a_file_that_runs_a_command_is_refused_and_runs_none(archive: bool, name: str, tmp_path: Path) -> None:
    call = Command(tmp_path / "ran") if name == "system" else Call(os.popen, f"touch {tmp_path / 'ran'}")
    document = {"n": argparse.Namespace(a=1), "state_dict": Net().state_dict(), "evil": call}
    path = save(document, tmp_path / "evil.pt", archive=archive)
    with pytest.raises(CheckpointError, match=r"needs (posix|nt|os)\.(system|popen), which can run any command"):
        read_weights(path)
    assert not (tmp_path / "ran").exists()


@FORMATS
def test_a_function_in_a_file_is_not_called_and_its_weights_are_read(archive: bool, tmp_path: Path) -> None:
    net, call = Net(), Call(logging.FileHandler, str(tmp_path / "ran"))  # makes the file
    path = save({"state_dict": net.state_dict(), "evil": call}, tmp_path / "evil.pt", archive=archive)
    assert_equal(fitted(read_weights(path)).state_dict(), net.state_dict())
    assert not (tmp_path / "ran").exists()


class EasyDict(dict[str, Any]):
    """A dictionary whose entries are attributes."""


class History(list[float]):
    """A kind of list."""


#: What training programs keep beside the weights; more than tensors and plain data, all of it.
BESIDE: dict[str, Any] = {
    "options": argparse.Namespace(data=Path("data"), when=datetime.datetime(2026, 1, 2), width=7),
    "numpy": [np.float64(0.9), np.arange(3, dtype=np.float32), np.random.default_rng(0)],
    "containers": [
        collections.defaultdict(list, a=[1]),
        collections.deque([1, 2]),
        EasyDict(a=EasyDict()),
        History([1]),
    ],
    "enumeration": inspect.Parameter.VAR_KEYWORD,
    "optimizer": torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1),
    "function": functools.partial(print, "called"),
}


@FORMATS
@pytest.mark.parametrize("name", BESIDE)
def test_what_programs_keep_beside_the_weights_is_no_obstacle(archive: bool, name: str, tmp_path: Path) -> None:
    net, before = Net(), set(get_safe_globals())
    path = save(lightning(net) | {"hyper_parameters": {name: BESIDE[name]}}, tmp_path / "last.ckpt", archive=archive)
    assert_equal(fitted(read_weights(path)).state_dict(), net.state_dict())
    assert set(get_safe_globals()) == before  # of this process


class Taught(nn.Module):
    """A network of a class that is not there when its file is read, with all that a state_dict may leave out."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.scale = Net(), nn.Parameter(torch.tensor(2.0))
        self.register_buffer("mean", torch.ones(3))
        self.register_buffer("cache", torch.zeros(9), persistent=False)
        self.register_parameter("none", None)
        self.tied = self.net.head
        self.owner = [self]


class Trainer:
    """What some programs save: an object that holds the network."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.epoch = network, 3


@pytest.mark.parametrize("form", ["network", "entry", "trainer"])
def test_a_whole_network_gives_its_weights_without_its_code(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, told = Taught(), list[str]()
    document = {"network": net, "entry": {"model": net, "epoch": 3}, "trainer": Trainer(net)}[form]
    path = save(document, tmp_path / "whole.pt")
    monkeypatch.delattr(sys.modules[Taught.__module__], "Taught")
    weights = read_weights(path, notify=told.append)
    assert_equal(weights.state_dict, net.state_dict())
    assert list(weights.state_dict) == list(net.state_dict())
    assert weights.kind == ("module" if form == "network" else "training state")
    said = {
        "network": "whole.pt is a whole network, a Taught: its weights are taken, its code is not run",
        "entry": "took the weights under 'model' of whole.pt",
        "trainer": "took the weights under 'network' of whole.pt",
    }
    assert told == [said[form]]


def test_modules_that_hold_each_other_end_in_a_sentence(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    net._modules["1"] = net
    with pytest.raises(CheckpointError, match="a module in it contains itself"):
        read_weights(save(net, tmp_path / "loop.pt"))
    net = nn.Sequential()
    for _ in range(40):
        net = nn.Sequential(net, net)
    with pytest.raises(CheckpointError, match="hold the same one many times"):
        read_weights(save(net, tmp_path / "many.pt"))


def test_a_whole_network_of_old_cannot_be_opened_and_the_way_out_is_said(tmp_path: Path) -> None:
    path = save(nn.Linear(4, 3), tmp_path / "whole.pt", archive=False)
    with pytest.raises(CheckpointError, match=r"whole network saved before PyTorch 1\.6.*state_dict\(\)"):
        read_weights(path)


def test_another_pickle_protocol_is_refused_in_a_sentence(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "net.pt", pickle_protocol=4)
    with pytest.raises(
        CheckpointError, match=r"safe reader does not support it: Unsupported operand \d+\. In the program"
    ):
        read_weights(tmp_path / "net.pt")


def test_a_pickle_that_is_not_torch_s_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"weight": np.ones(3)}))
    with pytest.raises(CheckpointError, match="damaged, or PyTorch"):
        read_weights(tmp_path / "net.pkl")


POINTER = "version https\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (POINTER.encode(), "is a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html>", "it is a web page"),
        ("naïve notes\n".encode() * 200, "is a text file that begins with 'naïve notes'"),
        (b'{"weight_map": {}}', "is a text file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "it is an HDF5 file"),
        (b"\x1f\x8b\x08" + bytes(64), "compressed with gzip"),
        (bytes(range(256)), "damaged"),
        (b"PK\x03\x04" + bytes(64), "is cut short or damaged"),
    ],
)
def test_a_file_of_something_else_is_refused_by_what_it_is(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path / "net.pt")


def test_a_missing_file_a_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"net\.pt does not exist"):
        read_weights(tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_weights(tmp_path)
    with pytest.raises(CheckpointError, match="is not a regular file"):
        read_weights(Path(os.devnull))


def test_a_tar_archive_is_refused(tmp_path: Path) -> None:
    net = save(Net().state_dict(), tmp_path / "net.pt")
    with tarfile.open(tmp_path / "net.tar", "w") as archive:
        archive.add(net, "net.pt")
    with pytest.raises(CheckpointError, match="is a tar archive; unpack it"):
        read_weights(tmp_path / "net.tar")


@pytest.mark.parametrize(
    ("name", "message"),
    [("model.torchscript", "is TorchScript"), ("model.pt2", r"is a \.pt2"), ("golden.npz", "archive")],
)
def test_an_exported_model_is_refused_by_what_it_is(name: str, message: str, shared_bundle: Bundle) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_weights(shared_bundle.path / name)


@pytest.fixture(scope="module", params=["zip", "legacy", "safetensors"])
def sound_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Content of a weights file, written once: PyTorch's legacy format names storages by their
    addresses in memory, so that its length differs from one save to the next.
    """
    path = tmp_path_factory.mktemp("sound") / "net"
    if request.param == "safetensors":
        save_file(Net().state_dict(), path)
    else:
        save(lightning(Net()), path, archive=request.param == "zip")
    return path.read_bytes()


def test_a_file_cut_short_anywhere_is_refused(sound_file: bytes, tmp_path: Path) -> None:
    for length in range(0, len(sound_file), max(1, len(sound_file) // 60)):
        (tmp_path / "cut").write_bytes(sound_file[:length])
        with pytest.raises(CheckpointError):
            read_weights(tmp_path / "cut")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_an_error_of_ours_or_none(
    tmp_path_factory: pytest.TempPathFactory, sound_file: bytes, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    content = bytearray(sound_file)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "net").write_bytes(content)
    with contextlib.suppress(CheckpointError):
        read_weights(folder / "net")


def test_what_a_terminal_would_obey_is_not_printed(tmp_path: Path) -> None:
    legacy = io.BytesIO()
    torch.save({"n": argparse.Namespace()}, legacy, _use_new_zipfile_serialization=False)
    (tmp_path / "net.pt").write_bytes(legacy.getvalue().replace(b"argparse\nNamespace", b"argparse\nName\x1b[2J\x07"))
    with pytest.raises(CheckpointError) as caught:
        read_weights(tmp_path / "net.pt")
    assert "Name" in str(caught.value)
    assert "\x1b" not in str(caught.value)


# --- what does not fit


def test_a_missing_key_is_named_beside_the_nearest_left_over_of_its_shape() -> None:
    state = Net().state_dict()
    state["header.bias"] = state.pop("head.bias")
    state["head.bias_"] = torch.ones(7)  # nearer by name
    message = misfit(state, Net())
    assert "missing from the file (1):\n  head.bias (3,); nearest in the file: header.bias (3,)\n" in message
    assert "unexpected in the file (2):\n  header.bias (3,)\n  head.bias_ (7,)" in message
    assert message.startswith("theirs.pt does not fit Net.\n")


def test_another_number_of_labels_is_said_so() -> None:
    message = misfit(Net(num_classes=3).state_dict(), Net(num_classes=10))
    assert (
        "of another shape (2):\n  head.weight: file (3, 5), network (10, 5)\n  head.bias: file (3,), network (10,)"
        in message
    )
    assert message.endswith("The network has 10 outputs, the file 3: the number of labels differs.")


def test_another_width_inside_is_not_taken_for_the_labels() -> None:
    message = misfit(Net(num_hidden=6).state_dict(), Net(num_hidden=5))
    assert "of another shape" in message
    assert "labels" not in message
    one, other = (nn.Sequential(nn.Linear(4, width, False), nn.Linear(width, 3, False)) for width in (5, 6))
    assert "labels" not in misfit(one.state_dict(), other)


def test_eight_of_a_kind_are_listed_and_the_rest_counted() -> None:
    one, other = (nn.Sequential(*(nn.Linear(2, 2) for _ in range(count))) for count in (3, 10))
    message = misfit(one.state_dict(), other)
    assert "missing from the file (14):" in message
    assert message.count("\n  ") == 9
    assert "… and 6 more" in message


def test_weights_of_a_part_are_said_to_be_those() -> None:
    network = nn.Sequential(OrderedDict(backbone=Net(), classifier=nn.Linear(3, 2)))
    message = misfit(Net().state_dict(), network)
    assert message.endswith("begin with 'backbone.', the file's do not: it holds the weights of that part only.")


def test_a_part_that_is_the_whole_network_is_fitted() -> None:
    net = Net()
    network = fitted(ExternalWeights(net.state_dict(), "state_dict", ""), Holder(Net(), "backbone"))
    assert_equal(network.get_submodule("backbone").state_dict(), net.state_dict())


def test_another_architecture_is_said_to_be_one() -> None:
    message = misfit(nn.Sequential(nn.Conv2d(1, 2, 3)).state_dict(), Net())
    assert message.endswith("Of the network's 9 keys, the file has 0: it belongs to another architecture.")


def test_labels_are_not_blamed_where_keys_are_missing() -> None:
    state = Net(num_classes=4).state_dict()
    del state["body.0.weight"]
    assert "labels" not in misfit(state, Net())


def test_a_key_with_the_prefix_taken_off_that_does_not_fit_is_said_with_the_prefix() -> None:
    state = {f"model.{name}": tensor for name, tensor in Net(num_classes=4).state_dict().items()}
    message = misfit(state, Net())
    assert message.startswith("theirs.pt does not fit Net (after removing 'model.' from its keys).")
    assert "the file 4: the number of labels differs" in message


def test_counters_of_batches_may_be_missing_or_left_over() -> None:
    net, state = Net(), Net().state_dict()
    del state["body.1.num_batches_tracked"]
    state["head.num_batches_tracked"] = torch.tensor(3)
    fitted(ExternalWeights(state, "state_dict", ""), net)
    assert torch.equal(net.head.weight, state["head.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_cast_to_the_network_s(dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in Net().state_dict().items()}
    network = fitted(ExternalWeights(state, "state_dict", ""))
    assert network.state_dict()["head.weight"].dtype == torch.float32
    assert torch.equal(network.state_dict()["head.weight"], state["head.weight"].float())


def test_integers_are_no_weights() -> None:
    state = Net().state_dict()
    state["head.weight"] = (state["head.weight"] * 100).to(torch.int8)
    assert "head.weight: file torch.int8, network torch.float32" in misfit(state, Net())


def test_a_network_that_minds_its_version_is_fitted_from_a_file_that_has_none(tmp_path: Path) -> None:
    class Minding(Net):
        _version = 2

        def _load_from_state_dict(self, state, prefix, metadata, *rest):  # type: ignore[no-untyped-def]
            if metadata.get("version") != 2:  # as torchvision's MNASNet has it
                raise ValueError("no version")
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    net = Minding()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    assert_equal(fitted(read_weights(tmp_path / "net.safetensors"), Minding()).state_dict(), net.state_dict())


def test_a_lazy_layer_takes_its_shape_from_the_file() -> None:
    state = nn.Sequential(nn.Linear(4, 3)).state_dict()
    network = fitted(ExternalWeights(state, "state_dict", ""), nn.Sequential(nn.LazyLinear(3)))
    assert network.state_dict()["0.weight"].shape == (3, 4)
