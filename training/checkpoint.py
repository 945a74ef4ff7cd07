"""Checkpoint: weights with all that is needed to rebuild, export and train on.

A file of tensors and plain data only, so that it loads with `weights_only=True`: opening one runs no code.
docs/checkpoint_format.md lists its parts.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtime.errors import CheckpointError, SignatureError, reason_of
from runtime.files import written_whole
from runtime.signature import Signature
from training.architectures import build

__all__ = ["FORMAT", "Checkpoint", "Epoch"]

FORMAT = "onward.checkpoint/1"


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Args:
        epoch: From 1.
        train_loss: Mean cross-entropy over the epoch, in training mode.
        validation_loss: Mean cross-entropy, in eval mode.
        validation_accuracy: 0 to 1.
        elapsed_s: Wall-clock seconds of training, without validation.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    elapsed_s: float


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    Args:
        architecture: A name of `ARCHITECTURES`.
        arguments: Its further arguments.
        signature: What goes in and what comes out.
        state_dict: The weights.
        data: What `--data` was.
        history: One entry an epoch, up to the last one trained.
        optimizer: Its state_dict, at this epoch.
        random_state: PyTorch's generator, at this epoch.
        provenance: Versions, options and figures: text and numbers.
    """

    architecture: str
    arguments: Mapping[str, Any]
    signature: Signature
    state_dict: Mapping[str, Tensor]
    data: str
    history: tuple[Epoch, ...] = ()
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    random_state: Tensor | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def network(self) -> nn.Module:
        """The network in eval mode, with these weights.

        Raises:
            CheckpointError: The weights do not fit the architecture.
        """
        network = build(self.architecture, self.signature, self.arguments)
        try:
            network.load_state_dict(dict(self.state_dict))
        except RuntimeError as error:
            raise CheckpointError(f"the weights do not fit {self.architecture!r}: {error}") from error
        return network.eval()

    def weights_digest(self) -> str:
        """SHA-256 over names, dtypes, shapes and values of all weights, in order of their names."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the file whole: an error or a crash leaves an earlier one untouched.

        Raises:
            OutputError: The place cannot be written to, or is full.
        """
        document = {item.name: getattr(self, item.name) for item in fields(self)}
        document |= {
            "format": FORMAT,
            "arguments": dict(self.arguments),
            "signature": self.signature.to_json(),
            "state_dict": {name: tensor.detach().cpu() for name, tensor in self.state_dict.items()},
            "history": [asdict(epoch) for epoch in self.history],
            "optimizer": dict(self.optimizer),
            "provenance": dict(self.provenance),
        }
        data = io.BytesIO()  # torch's own writer says of a full disk only that a position is unexpected
        torch.save(document, data)
        data.seek(0)
        torch.load(data, weights_only=True)  # a stray object is found here, not by whoever opens the file
        with written_whole(path) as staged:
            staged.write_bytes(data.getbuffer())

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read a checkpoint; nothing in it is run.

        Raises:
            CheckpointError: Missing, cut short, foreign, or in need of more than tensors and plain data.
        """
        path = Path(path)
        document = _read(path)
        if not isinstance(document, dict) or "format" not in document:
            raise CheckpointError(
                f"{path} is no checkpoint of Onward's: it has no format entry. `onward train` writes them."
            )
        if document.pop("format") != FORMAT:
            raise CheckpointError(f"{path} is of a format that this Onward does not read; expected {FORMAT}.")
        try:
            document["signature"] = Signature.from_json(document["signature"])
            document["history"] = tuple(Epoch(**epoch) for epoch in document["history"])
            return cls(**document)
        except (KeyError, TypeError, SignatureError) as error:
            raise CheckpointError(f"{path} does not have the parts of {FORMAT}: {error}.") from error


def _read(path: Path) -> Any:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; a checkpoint is a file.")
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist. `onward train --out {path}` would make it.")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is cut short, or no checkpoint at all: it does not read as an archive.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
        if "data.pkl" not in names or "constants.pkl" in names:
            raise CheckpointError(
                f"{path} is no checkpoint: it is TorchScript, a .pt2 or some other archive. `onward inspect` takes "
                f"the bundle that it belongs to."
            )
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} asks for more than tensors and plain data, so it was not opened: it needs {_blocked(error)}."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is damaged: {reason_of(error)}") from error


def _blocked(error: pickle.UnpicklingError) -> str:
    # torch explains at length; the name of what the file asks for is all that a reader needs
    names = re.findall(r"GLOBAL ([\w.]+)", str(error))
    return f"the global {names[0]}" if names else "an object of an unknown kind"
