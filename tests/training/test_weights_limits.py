"""Small files of torch.save that ask for gigabytes: each is refused by a sentence, and takes less than 300 MiB."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from onward.errors import CheckpointError
from onward.signature import Signature
from onward_training.checkpoint import Checkpoint
from onward_training.models import build
from onward_training.weights_limits import check_document
from tests.peak import MAX_PEAK_MIB, Bomb, Reading, read_bombs

SIGNATURE = Signature(4, 4, 1, (0.5,), (0.5,), ("a", "b"))


def checkpoint(path: Path, **changed: Any) -> None:
    """A small checkpoint, with something else in it."""
    arguments = changed.pop("arguments", {"hidden": [3]})
    network = build("classifier", SIGNATURE, {"hidden": [3]})
    whole = Checkpoint("classifier", arguments, SIGNATURE, network.state_dict(), "digits")
    document = torch.load(io.BytesIO(whole.to_bytes()), weights_only=True)
    torch.save(document | changed, path)


def stride_0(path: Path) -> None:
    """A value that is repeated to 8 GiB."""
    checkpoint(path, state_dict={"layers.1.weight": torch.zeros(1).expand(2 << 30)})


def shared(path: Path) -> None:
    """A list that holds a list twice, that holds a list twice, 40 times: a million million entries."""
    value: list[Any] = []
    for _ in range(40):
        value = [value, value]
    checkpoint(path, provenance={"notes": value})


def cyclic(path: Path) -> None:
    value: list[Any] = []
    value.append(value)
    checkpoint(path, provenance={"notes": value})


def deep(path: Path) -> None:
    value: list[Any] = []
    for _ in range(200):
        value = [value]
    checkpoint(path, provenance={"notes": value})


def text(path: Path) -> None:
    """A text of 1 MB in 10,000 places."""
    checkpoint(path, provenance={"notes": ["x" * 1_000_000] * 10_000})


def wide(path: Path) -> None:
    """A layer of 2 GB in the arguments alone."""
    checkpoint(path, arguments={"hidden": [30_000_000, 1]})


def many_layers(path: Path) -> None:
    checkpoint(path, arguments={"hidden": [1] * 300_000})


def compressed(path: Path) -> None:
    """Weights of 1 GiB, compressed to a thousandth."""
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(4)}, buffer)
    with zipfile.ZipFile(buffer) as saved, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as other:
        for member in saved.infolist():
            with other.open(member.filename, "w") as stream:
                stream.write(saved.read(member))
                for _ in range(8 if "/data/" in member.filename else 0):
                    stream.write(bytes(32 << 20))


def replace_pickle(path: Path, pickled: bytes) -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(4)}, buffer)
    with zipfile.ZipFile(buffer) as saved, zipfile.ZipFile(path, "w") as other:
        for member in saved.infolist():
            is_pickle = member.filename.endswith("data.pkl")
            other.writestr(member.filename, pickled if is_pickle else saved.read(member))


def call(path: Path) -> None:
    """A pickle that calls bytearray with a number."""
    pickled = b"\x80\x02}X\x04\x00\x00\x00notecbuiltins\nbytearray\n" + b"J" + struct.pack("<i", 2**31 - 1) + b"\x85Rs."
    replace_pickle(path, pickled)


def encodings(path: Path) -> None:
    """A pickle in which each call makes bytes of twice the length."""
    inner = b"X\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R"
    for _ in range(32):
        inner = inner + b"X\x03\x00\x00\x00hex\x86R"
    pickled = b"\x80\x02}X\x04\x00\x00\x00note" + b"c_codecs\nencode\n" * 33 + inner + b"s."
    replace_pickle(path, pickled)


def containers(path: Path) -> None:
    """Lists of one byte each in the file, and 64 in memory."""
    pickled = b"\x80\x02}X\x04\x00\x00\x00note](" + b"]" * 12_000_000 + b"es."
    replace_pickle(path, pickled)


def safetensors(path: Path) -> None:
    header = json.dumps({"__metadata__": {"note": "x" * (9 << 20)}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


BOMBS: dict[str, Bomb] = {
    "stride-0.pt": Bomb("network", stride_0, "but its tensors take 8,192 MiB, at most 64 MiB: they repeat few values"),
    "stride-0-inspected.pt": Bomb("inspect", stride_0, "but its tensors take 8,192 MiB"),
    "shared.pt": Bomb("inspect", shared, "lists or dictionaries in it hold the same one many times"),
    "cyclic.pt": Bomb("inspect", cyclic, "holds a container that contains itself"),
    "deep.pt": Bomb("inspect", deep, "holds containers in containers, more than 100 deep"),
    "text.pt": Bomb("inspect", text, "but they take 9,537 MiB written out"),
    "wide.pt": Bomb("network", wide, "takes far more memory than its weights in the file"),
    "many-layers.pt": Bomb("network", many_layers, "takes far more memory than its weights in the file"),
    "compressed.pt": Bomb("weights", compressed, "and would unpack to 256 MiB, at most"),
    "call.pt": Bomb("weights", call, "calls builtins.bytearray, which can take any amount of memory"),
    "encodings.pt": Bomb("weights", encodings, "calls _codecs.encode, which can take any amount of memory"),
    "containers.pt": Bomb("weights", containers, "holds containers that take 732 MiB, at most"),
    "header.safetensors": Bomb("weights", safetensors, "is safetensors with a header of 9.0 MiB, at most 8.0 MiB"),
}


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reading]:
    return read_bombs(BOMBS, tmp_path_factory.mktemp("bombs"))


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_asks_for_gigabytes_is_a_sentence(readings: dict[str, Reading], name: str) -> None:
    reading = readings[name]
    assert BOMBS[name].sentence in reading.said
    assert reading.said.startswith("CheckpointError: ")
    assert reading.peak_mib < MAX_PEAK_MIB


def test_what_training_scripts_share_is_no_bomb(tmp_path: Path) -> None:
    """Tied weights, an optimizer's state, a list of all epochs, bytes as protocol 2 writes them."""
    (tmp_path / "x.pt").touch()
    weight = torch.zeros(1000, 1000)
    epochs = [{"epoch": number, "loss": 0.5, "note": "the same text"} for number in range(5000)]
    document = {"a": weight, "tied": weight, "view": weight[:10], "epochs": epochs, "again": epochs}
    check_document(document, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="take 153 MiB, at most 64 MiB"):
        check_document({str(number): weight for number in range(40)}, tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["classifier", "cnn", "torchvision:squeezenet1_1"])
def test_a_network_is_built_within_the_budget_of_its_own_weights(name: str) -> None:
    signature = Signature(32, 32, 3, (0.5,) * 3, (0.5,) * 3, ("a", "b"))
    torch.manual_seed(0)
    weights = build(name, signature).state_dict()
    torch.manual_seed(0)
    again = build(name, signature, weights=weights).state_dict()
    assert all(torch.equal(weights[key], again[key]) for key in weights)
