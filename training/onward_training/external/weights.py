"""External weights: the state_dict in a file of torch.save, Lightning, safetensors or Onward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onward.errors import CheckpointError, reason_of
from onward_training.external.safe_loading import SAVE_ALONE, listed, open_document

__all__ = ["BATCH_COUNTER", "COURSE_ENTRIES", "ExternalWeights", "read_weights"]

#: An entry of each batch norm. Files from before PyTorch 0.4.1 lack it.
BATCH_COUNTER = "num_batches_tracked"
#: Keys under which training scripts save the weights, the most likely first.
ENTRIES = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema")
#: Prefixes that DataParallel and torch.compile add to every key.
WRAPPERS = ("module.", "_orig_mod.")
#: Entries of the checkpoints in part 6 of the course.
COURSE_ENTRIES = ("input_size", "output_size", "hidden_layers", "state_dict")


@dataclass(frozen=True)
class ExternalWeights:
    """The weights in a file of any origin.

    Args:
        state_dict: The weights, on the CPU, without the prefix in `stripped`.
        kind: Kind of the file: `state_dict`, `course`, `training state`, `lightning`, `module`, `safetensors` or
            `onward`.
        stripped: Prefix that was removed from every key, e.g. `module._orig_mod.`; "" if none.
        model: Onward's architecture, if the file names it, e.g. `network`.
        arguments: The arguments of that architecture.
    """

    state_dict: Mapping[str, Tensor]
    kind: str
    stripped: str
    model: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


def read_weights(path: Path, *, allow_globals: Sequence[str] = ()) -> ExternalWeights:
    """Read the weights in a file of torch.save, Lightning, safetensors or Onward, without running code in it.

    Args:
        path: The file. Its content decides the format, not its name.
        allow_globals: Classes and functions that the file may load beyond tensors and plain data, e.g.
            `argparse.Namespace`. They are imported, and allowed in this process during this call.

    Raises:
        CheckpointError: The file is missing, damaged, of another format, without weights, or needs a class or function
            that is not allowed.
        UsageError: A name in `allow_globals` cannot be imported, or is never allowed.

    Source: torch, `torch.load` and `torch.serialization.safe_globals`.
    """
    document, is_safetensors = open_document(path, allow_globals)
    return _external(document, "safetensors", path) if is_safetensors else _weights_in(document, path)


def _weights_in(document: Any, path: Path) -> ExternalWeights:
    if isinstance(document, nn.Module):
        return _external(_state_of(document, path), "module", path)
    if not isinstance(document, Mapping):
        raise CheckpointError(f"{path} holds a {type(document).__name__}, expected a state_dict. {SAVE_ALONE}")
    if str(document.get("format", "")).startswith("onward.checkpoint/"):
        return _onward(document, path)
    entry = _entry(document, path)
    if entry is None:
        return _external(document, "state_dict", path)
    kind = "lightning" if "pytorch-lightning_version" in document else "training state"
    weights = _external(_state_of(document[entry], path), kind, path)
    return _course(document, weights, path) if _is_course(document, weights.state_dict) else weights


def _entry(document: Mapping[Any, Any], path: Path) -> str | None:
    """The key of the entry that holds the weights; None if the document itself is a state_dict."""
    known = [name for name in ENTRIES if _holds_weights(document.get(name))]
    others = [name for name, value in document.items() if _holds_weights(value)]
    if not known and len(others) > 1:
        raise CheckpointError(
            f"{path} holds several networks, in {listed([repr(name) for name in others])}: save the right one in its "
            f"own file."
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
    except Exception as error:  # attributes come from the file, methods from the installed class
        raise CheckpointError(
            f"{path} holds a {type(holder).__name__} of another version than the installed one: {reason_of(error)}. "
            f"{SAVE_ALONE}"
        ) from error
    return state


def _onward(document: Mapping[Any, Any], path: Path) -> ExternalWeights:
    state, model, arguments = (document.get(name) for name in ("state_dict", "architecture", "arguments"))
    if not (isinstance(state, Mapping) and isinstance(model, str) and isinstance(arguments, Mapping)):
        raise CheckpointError(
            f"{path} is marked {document['format']}, but lacks state_dict, architecture or arguments."
        )
    return _external(state, "onward", path, model, dict(arguments))


def _is_course(document: Mapping[Any, Any], state: Mapping[str, Tensor]) -> bool:
    ends = [state.get("hidden_layers.0.weight"), state.get("output.weight")]
    return all(name in document for name in COURSE_ENTRIES) and all(end is not None and end.ndim == 2 for end in ends)


def _course(document: Mapping[Any, Any], weights: ExternalWeights, path: Path) -> ExternalWeights:
    """As the course's `load_checkpoint`: the sizes in the dictionary are the arguments of its network."""
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
                f"{path} states {name} {stated!r}, but its tensors have {name} {value!r}: one of them is from another "
                f"network. Save both again, together."
            )
    dropout = {"drop_p": document["drop_p"]} if "drop_p" in document else {}
    arguments = {"hidden_layers": widths, **dropout}
    return ExternalWeights(state, "course", weights.stripped, "network", arguments)


def _external(
    entries: Mapping[Any, Any],
    kind: str,
    path: Path,
    model: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> ExternalWeights:
    state = _tensors(entries, path)
    stripped = ""
    while wrapper := next((item for item in WRAPPERS if all(name.startswith(item) for name in state)), None):
        state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
        stripped += wrapper
    return ExternalWeights(state, kind, stripped, model, arguments or {})


def _tensors(entries: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, value in entries.items():
        if name == "_metadata":  # version numbers of modules; an entry if a state_dict was copied by hand
            continue
        value = torch.tensor(value) if isinstance(value, int) and str(name).endswith(BATCH_COUNTER) else value
        if isinstance(name, str) and isinstance(value, Tensor) and not value.is_meta:
            state[name] = value.detach().cpu()
            continue
        found = "without values" if isinstance(value, Tensor) else f"of type {type(value).__name__}"
        raise CheckpointError(
            f"{path} has the entry {name!r} {found} among its weights, expected a name and a tensor. {SAVE_ALONE}"
        )
    if not state:
        raise CheckpointError(f"{path} holds no weights.")
    return state
