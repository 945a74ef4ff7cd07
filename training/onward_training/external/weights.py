"""Foreign weights: what files of torch.save, Lightning, safetensors and Onward hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onward.errors import CheckpointError, reason_of
from onward_training.external.safe_loading import SAVE_ALONE, listed, open_document

__all__ = ["COUNTER", "COURSE", "ForeignWeights", "read_weights"]

COUNTER = "num_batches_tracked"  # of a batch norm in training mode; files from before PyTorch 0.4.1 lack it
#: Entries under which training scripts keep the weights, the likeliest first.
ENTRIES = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema")
#: What DataParallel and torch.compile put in front of every key.
WRAPPERS = ("module.", "_orig_mod.")
#: The entries of the course's part 6.
COURSE = ("input_size", "output_size", "hidden_layers", "state_dict")


@dataclass(frozen=True)
class ForeignWeights:
    """Weights out of somebody's file.

    Args:
        state_dict: The weights, on the CPU, without the prefix in `stripped`.
        kind: What the file is: `state_dict`, `course`, `training state`, `lightning`, `module`, `safetensors` or
            `onward`.
        stripped: What was taken off every key, e.g. `module._orig_mod.`; "" if nothing.
        model: The architecture of ours that the file itself names, e.g. `network`.
        arguments: The arguments of that architecture.
    """

    state_dict: Mapping[str, Tensor]
    kind: str
    stripped: str
    model: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


def read_weights(path: Path, *, allow_globals: Sequence[str] = ()) -> ForeignWeights:
    """Read the weights in a file of torch.save, Lightning, safetensors or Onward; nothing in it is run.

    Args:
        path: The file. What it is, is told by its content and not by its name.
        allow_globals: Names such as `argparse.Namespace` that the file may use beyond tensors and plain data. They are
            imported, and admitted while this call lasts, in this process.

    Raises:
        CheckpointError: Missing, damaged, something else, without weights, or in need of a name that is not admitted.
        UsageError: A name in `allow_globals` cannot be imported, or is never admitted.

    Source: torch, `torch.load` and `torch.serialization.safe_globals`.
    """
    document, is_safetensors = open_document(path, allow_globals)
    return _foreign(document, "safetensors", path) if is_safetensors else _weights_in(document, path)


def _weights_in(document: Any, path: Path) -> ForeignWeights:
    if isinstance(document, nn.Module):
        return _foreign(_state_of(document, path), "module", path)
    if not isinstance(document, Mapping):
        raise CheckpointError(f"{path} holds a {type(document).__name__}, expected a state_dict. {SAVE_ALONE}")
    if str(document.get("format", "")).startswith("onward.checkpoint/"):
        return _onward(document, path)
    entry = _entry(document, path)
    if entry is None:
        return _foreign(document, "state_dict", path)
    kind = "lightning" if "pytorch-lightning_version" in document else "training state"
    weights = _foreign(_state_of(document[entry], path), kind, path)
    return _course(document, weights, path) if _is_course(document, weights.state_dict) else weights


def _entry(document: Mapping[Any, Any], path: Path) -> str | None:
    """The entry that holds the weights; None where the document itself does."""
    known = [name for name in ENTRIES if _holds_weights(document.get(name))]
    others = [name for name, value in document.items() if _holds_weights(value)]
    if not known and len(others) > 1:
        raise CheckpointError(
            f"{path} holds several networks, in {listed([repr(name) for name in others])}; save the one that is meant "
            f"in a file of its own."
        )
    return next(iter(known or others), None)


def _holds_weights(value: object) -> bool:
    if isinstance(value, nn.Module):
        return True
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


def _state_of(holder: nn.Module | Mapping[Any, Any], path: Path) -> Mapping[Any, Any]:
    if not isinstance(holder, nn.Module):
        return holder
    try:
        state: Mapping[Any, Any] = holder.state_dict()
    except Exception as error:  # its attributes are the file's, its methods those of the class that is installed now
        raise CheckpointError(
            f"{path} holds a network of a {type(holder).__name__} that is not the one here: {reason_of(error)}. "
            f"{SAVE_ALONE}"
        ) from error
    return state


def _onward(document: Mapping[Any, Any], path: Path) -> ForeignWeights:
    state, model, arguments = (document.get(name) for name in ("state_dict", "architecture", "arguments"))
    if not (isinstance(state, Mapping) and isinstance(model, str) and isinstance(arguments, Mapping)):
        raise CheckpointError(
            f"{path} calls itself {document['format']}, and lacks its state_dict, architecture or arguments."
        )
    return _foreign(state, "onward", path, model, dict(arguments))


def _is_course(document: Mapping[Any, Any], state: Mapping[str, Tensor]) -> bool:
    ends = [state.get("hidden_layers.0.weight"), state.get("output.weight")]
    return all(name in document for name in COURSE) and all(end is not None and end.ndim == 2 for end in ends)


def _course(document: Mapping[Any, Any], weights: ForeignWeights, path: Path) -> ForeignWeights:
    """What the course's `load_checkpoint` makes of its dictionary: the sizes are the arguments of its network."""
    state, widths = weights.state_dict, list[int]()
    while (layer := state.get(f"hidden_layers.{len(widths)}.weight")) is not None:
        widths.append(len(layer))
    measured = {
        "input_size": state["hidden_layers.0.weight"].shape[1],
        "output_size": len(state["output.weight"]),
        "hidden_layers": widths,
    }
    for name, value in measured.items():
        stated = list(document[name]) if isinstance(document[name], tuple) else document[name]
        if stated != value:
            raise CheckpointError(
                f"{path} says {name} {stated!r}, and its tensors are of {name} {value!r}: one of the two is "
                f"from another network. Save them again, together."
            )
    dropout = {"drop_p": document["drop_p"]} if "drop_p" in document else {}
    arguments = {"hidden_layers": widths, **dropout}
    return ForeignWeights(state, "course", weights.stripped, "network", arguments)


def _foreign(
    entries: Mapping[Any, Any],
    kind: str,
    path: Path,
    model: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> ForeignWeights:
    state = _tensors(entries, path)
    stripped = ""
    while wrapper := next((item for item in WRAPPERS if all(name.startswith(item) for name in state)), None):
        state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
        stripped += wrapper
    return ForeignWeights(state, kind, stripped, model, arguments or {})


def _tensors(entries: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, value in entries.items():
        if name == "_metadata":  # version numbers of modules, an entry where a state_dict was copied by hand
            continue
        value = torch.tensor(value) if isinstance(value, int) and str(name).endswith(COUNTER) else value
        if isinstance(name, str) and isinstance(value, Tensor) and not value.is_meta:
            state[name] = value.detach().cpu()
            continue
        found = "a tensor without values" if isinstance(value, Tensor) else f"of type {type(value).__name__}"
        raise CheckpointError(
            f"{path} has the entry {name!r}, {found}, among its weights, expected a name and a tensor. {SAVE_ALONE}"
        )
    if not state:
        raise CheckpointError(f"{path} holds no weights at all.")
    return state
