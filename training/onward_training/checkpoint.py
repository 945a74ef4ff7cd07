"""Checkpoint: weights with all that is needed to rebuild, export and train on.

A file of tensors and plain data only, so that it loads with `weights_only=True`: opening one runs no code.
docs/checkpoint_format.md lists its parts.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onward.errors import CheckpointError, SignatureError, UsageError, reason_of
from onward.files import written_whole
from onward.signature import AnySignature, signature_from_json
from onward_training.models import build, is_user_code
from onward_training.tasks import network_task_of

__all__ = ["FORMAT", "Checkpoint", "Epoch", "is_checkpoint", "load_weights"]

FORMAT = "onward.checkpoint/1"


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Args:
        epoch: From 1.
        train_loss: Mean loss over the epoch, in training mode.
        validation_loss: Mean cross-entropy, in eval mode.
        validation_accuracy: 0 to 1.
        elapsed_s: Wall-clock seconds of training, without validation.
        train_accuracy: 0 to 1, over the epoch, in training mode.
        learning_rate: At the end of the epoch.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    elapsed_s: float
    train_accuracy: float = math.nan
    learning_rate: float = math.nan

    def is_better_than(self, other: Epoch) -> bool:
        """By validation accuracy; of equals, by validation loss."""
        return (self.validation_accuracy, -self.validation_loss) > (other.validation_accuracy, -other.validation_loss)


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    Args:
        architecture: What `onward_training.models.build` takes.
        arguments: Its further arguments.
        signature: What goes in and what comes out.
        state_dict: The weights.
        data: What `--data` was.
        history: One entry an epoch, up to the last one trained.
        optimizer: Its state_dict, at this epoch.
        random_state: PyTorch's generator, at this epoch.
        provenance: Versions, options and figures: text and numbers.
        final_activation: What the network ends in, of `onward_training.models.FINAL_ACTIVATIONS`.
        output: Which of the values that the network returns holds the logits; None for the only one.
        progress: Where the run stands that this is a part of; docs/checkpoint_format.md has its entries.
        is_trusted: Whether code of the user's that it names may be run: where they have just trained it, or have
            named it again. It is not saved.
    """

    architecture: str
    arguments: Mapping[str, Any]
    signature: AnySignature
    state_dict: Mapping[str, Tensor]
    data: str
    history: tuple[Epoch, ...] = ()
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    random_state: Tensor | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    final_activation: str = "auto"
    output: str | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    is_trusted: bool = False

    def network(self) -> nn.Module:
        """The network in eval mode, with these weights; it gives logits.

        Raises:
            CheckpointError: The weights do not fit the architecture.
            UsageError: It names code of the user's, which they have not named again.
        """
        if is_user_code(self.architecture) and not self.is_trusted:
            raise UsageError(
                f"this was trained with {self.architecture}, which is code of yours. A checkpoint runs none by itself: "
                f"add --model {self.architecture}"
            )
        network = build(self.architecture, self.signature, self.arguments)
        try:
            load_weights(network, self.state_dict)
        except RuntimeError as error:
            raise CheckpointError(f"the weights do not fit {self.architecture!r}: {error}") from error
        return network_task_of(self.signature).adapt(network.eval(), self.final_activation, self.output).eval()

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
        with written_whole(path) as staged:
            staged.write_bytes(self.to_bytes())

    def to_bytes(self) -> memoryview:
        """The content of the file."""
        document = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "is_trusted"}
        document |= {
            "format": FORMAT,
            "end": document.pop("final_activation"),
            "arguments": dict(self.arguments),
            "signature": self.signature.to_json(),
            "state_dict": {name: tensor.detach().cpu() for name, tensor in self.state_dict.items()},
            "history": [asdict(epoch) for epoch in self.history],
            "optimizer": dict(self.optimizer),
            "provenance": dict(self.provenance),
            "progress": dict(self.progress),
        }
        data = io.BytesIO()  # torch's own writer says of a full disk only that a position is unexpected
        torch.save(document, data)
        data.seek(0)
        torch.load(data, weights_only=True)  # a stray object is found here, not by whoever opens the file
        return data.getbuffer()

    @classmethod
    def load(cls, path: str | Path, *, model: str | None = None) -> Checkpoint:
        """Read a checkpoint; nothing in it is run.

        Args:
            path: The file.
            model: The user's own code that it was trained with, named again: `network()` may run it.

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
            document["signature"] = signature_from_json(document["signature"])
            document["history"] = tuple(Epoch(**epoch) for epoch in document["history"])
            document["final_activation"] = document.pop("end", "auto")  # "end" is its key in the file
            checkpoint = cls(**document)
            return replace(checkpoint, architecture=model, is_trusted=True) if model else checkpoint
        except (KeyError, TypeError, SignatureError) as error:
            raise CheckpointError(f"{path} does not have the parts of {FORMAT}: {error}.") from error


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load a checkpoint's weights, under the network's own version numbers: a checkpoint holds none.

    (torchvision's MNASNet changes its layers where it finds none.)

    Raises:
        RuntimeError: They do not fit.
    """
    state = OrderedDict(weights)
    state._metadata = getattr(network.state_dict(), "_metadata", None)  # type: ignore[attr-defined]
    network.load_state_dict(state)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of Onward's, of any version, rather than somebody's weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            return pickled is not None and FORMAT.partition("/")[0].encode() in archive.read(pickled)
    except (OSError, zipfile.BadZipFile):
        return False


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
