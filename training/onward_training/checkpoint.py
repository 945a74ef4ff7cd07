"""Checkpoint: weights and everything needed to rebuild the network, export it and continue training.

The file holds tensors and plain data only. It loads with `weights_only=True`, so opening it runs no code.
docs/checkpoint_format.md lists its entries.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onward.document import Document
from onward.errors import CheckpointError, UsageError, reason_of
from onward.files import written_whole
from onward.model_file import check_model_file, kind_of
from onward.signature import AnySignature, signature_from_json
from onward.zip_files import is_zip, open_zip
from onward_training.model_names import is_user_code
from onward_training.models import build
from onward_training.tasks import network_task_of
from onward_training.weights_limits import check_document, check_members

__all__ = ["FORMAT", "Checkpoint", "Epoch", "best_epoch", "is_checkpoint", "load_weights"]

FORMAT = "onward.checkpoint/1"


@dataclass(frozen=True)
class Epoch:
    """Metrics of one epoch.

    Args:
        epoch: From 1.
        train_loss: Mean loss over the epoch, in training mode.
        validation_loss: Mean cross-entropy, in eval mode.
        validation_accuracy: 0 to 1.
        elapsed_s: Wall-clock time of training, without validation.
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
        """By validation accuracy; if equal, by validation loss."""
        return (self.validation_accuracy, -self.validation_loss) > (other.validation_accuracy, -other.validation_loss)


def best_epoch(history: Sequence[Epoch]) -> int:
    """The number of the best epoch, the first of equal ones; 0 if there is none."""
    best = 0
    for number, epoch in enumerate(history, 1):
        if not best or epoch.is_better_than(history[best - 1]):
            best = number
    return best


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    Args:
        architecture: The network's name, see `onward_training.models`.
        arguments: Further arguments of the network.
        signature: The network's inputs and outputs.
        state_dict: The weights.
        data: The value of `--data`.
        history: One entry per epoch, up to the last one trained.
        optimizer: Its state_dict, at this epoch.
        random_state: PyTorch's generator, at this epoch.
        provenance: Options, digest of the data, versions: text and numbers.
        final_activation: One of `onward_training.options.FINAL_ACTIVATIONS`; `end` in the file.
        output: Which of the returned values holds the logits; None finds them, see `logits_of`.
        progress: The state of the run; docs/checkpoint_format.md lists its entries.
        is_trusted: Whether user code that it names may run: because the user has just trained it, or named it again. It
            is not saved.
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
        """The network in eval mode, with these weights; it returns logits.

        Raises:
            CheckpointError: The weights do not fit the architecture.
            UsageError: It names user code, which the user has not named again.
        """
        if is_user_code(self.architecture) and not self.is_trusted:
            raise UsageError(
                f"the checkpoint's network is {self.architecture}, which is code outside Onward. A checkpoint never "
                f"runs code by itself: if you trust it, add --model {self.architecture}"
            )
        network = build(self.architecture, self.signature, self.arguments, weights=self.state_dict)
        try:
            load_weights(network, self.state_dict)
        except RuntimeError as error:
            raise CheckpointError(f"the weights do not fit {self.architecture!r}: {error}") from error
        return network_task_of(self.signature).adapt(network.eval(), self.final_activation, self.output).eval()

    def weights_digest(self) -> str:
        """SHA-256 of names, dtypes, shapes and values of all weights, sorted by name."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the file atomically: after an error or a crash, an earlier file is unchanged.

        Raises:
            OutputError: The file cannot be written, or the disk is full.
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
        data = io.BytesIO()  # on a full disk, torch.save to a path fails with an unclear error
        torch.save(document, data)
        data.seek(0)
        torch.load(data, weights_only=True)  # fails now if there is an object in it, not when the file is opened
        return data.getbuffer()

    @classmethod
    def load(cls, path: str | Path, *, model: str | None = None) -> Checkpoint:
        """Read a checkpoint without running code in it.

        Args:
            path: The file.
            model: The user code that it was trained with; naming it allows `network()` to run it.

        Raises:
            CheckpointError: The file is missing, damaged, not a checkpoint, or needs more than tensors and plain data.
        """
        path = Path(path)
        found = _read(path)
        if not isinstance(found, dict) or "format" not in found:
            raise CheckpointError(
                f"{path} is not a checkpoint of Onward's: it has no entry `format`. `onward inspect {path}` says what "
                f"it is, and which command takes it."
            )
        if found["format"] != FORMAT:
            raise CheckpointError(f"{path} has a format that this version of Onward does not read, expected {FORMAT}.")
        document = Document(found, str(path), CheckpointError)
        end = document.get("end")  # its key in the file
        checkpoint = document.read_fields(
            cls,
            signature=signature_from_json(document["signature"]),
            final_activation=end.read(str) if end else "auto",
            is_trusted=False,
        )
        return replace(checkpoint, architecture=model, is_trusted=True) if model else checkpoint


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load a checkpoint's weights with the network's own version numbers, because a checkpoint has none.

    (Without version numbers, torchvision's MNASNet changes its layers.)

    Raises:
        RuntimeError: The weights do not fit the network.
    """
    state = OrderedDict(weights)
    state._metadata = getattr(network.state_dict(), "_metadata", None)  # type: ignore[attr-defined]
    network.load_state_dict(state)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of Onward's, of any version, and not another weights file."""
    return kind_of(path) == "checkpoint"


def _read(path: Path) -> Any:
    check_model_file(path)
    if not is_zip(path):
        raise CheckpointError(f"{path} is damaged or not a checkpoint: it is not a complete zip archive.")
    try:
        with open_zip(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            if "data.pkl" not in names or "constants.pkl" in names:
                raise CheckpointError(
                    f"{path} is not a checkpoint: it is TorchScript, a .pt2 or another archive. For a file of a "
                    f"bundle, `onward inspect` takes the bundle."
                )
            check_members(archive, path)
        document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} needs more than tensors and plain data, so it was not opened: it needs {_blocked(error)}."
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # PyTorch's reader raises whatever the damage leads to
        raise CheckpointError(f"{path} is damaged: {reason_of(error)}") from error
    check_document(document, path)
    return document


def _blocked(error: pickle.UnpicklingError) -> str:
    # of torch's long message, only the name that the file needs
    names = re.findall(r"GLOBAL ([\w.]+)", str(error))
    return f"the global {names[0]}" if names else "an object of an unknown kind"
