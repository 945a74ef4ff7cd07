"""External weights: the state_dict in a file of torch.save, Lightning, safetensors or Onward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onward.errors import CheckpointError, UsageError
from onward.printable import printable
from onward_training.external.entries import Entry, choose_entry, entries_in, is_averaged, unnamed_averages
from onward_training.external.safe_loading import open_document
from onward_training.external.stand_ins import StandIn, is_network, state_dict_of
from onward_training.external.stated_arguments import StatedArgument, stated_arguments_in
from onward_training.external.texts import SAVE_ALONE, listed

__all__ = ["BATCH_COUNTER", "COURSE_ENTRIES", "ExternalWeights", "read_weights", "weights_entries"]

#: An entry of each batch norm. Files from before PyTorch 0.4.1 lack it.
BATCH_COUNTER = "num_batches_tracked"
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
        entry: Where in the file the weights were, e.g. `state_dict`; "" for the whole file.
        other_entries: Where else in the file weights are.
        stated: Values in the file that may be arguments of the network's class.
    """

    state_dict: Mapping[str, Tensor]
    kind: str
    stripped: str
    model: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    entry: str = ""
    other_entries: tuple[str, ...] = ()
    stated: tuple[StatedArgument, ...] = ()


def read_weights(
    path: Path,
    *,
    entry: str | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> ExternalWeights:
    """Read the weights in a file of torch.save, Lightning, safetensors or Onward, without running code in it.

    Args:
        path: The file. Its content decides the format, not its name.
        entry: Where in the file the weights are, as a path of keys such as `ema.model`. Default: see `choose_entry`.
        notify: Called with the entry that was taken.

    Raises:
        CheckpointError: The file is missing, damaged, of another format, without weights, or made to run a command; or
            several entries are equally likely.
        UsageError: The file does not have the entry.

    Source: torch, `torch.load` and `torch.serialization.safe_globals`.
    """
    document, is_safetensors = open_document(path)
    if is_safetensors:
        chosen = choose_entry(document, (), entry, path)
        return replace(_external(_state_of(chosen.content, path), "safetensors", path), entry=chosen.path)
    weights = _weights_in(document, entry, path)
    if weights.kind == "module":
        notify(
            f"{path.name} is a whole network, a {type(document).__name__}: its weights are taken, its code is not run"
        )
    elif weights.entry:
        notify(_taken(weights, unnamed_averages(_mapping_of(document, path)), path))
    return weights


def weights_entries(path: Path) -> list[dict[str, Any]]:
    """What `onward inspect` says about a file: each entry with weights, and whether it is taken by default.

    Raises:
        CheckpointError: As `read_weights`.
    """
    document, _ = open_document(path)
    if is_network(document):
        return [_described(Entry("", document), path) | {"is_taken": True}]
    document = _mapping_of(document, path)
    entries = entries_in(document) or [Entry("", document)]
    try:
        taken = choose_entry(document, entries, None, path).path
    except CheckpointError:  # several are equally likely
        taken = None
    return [_described(entry, path) | {"is_taken": entry.path == taken} for entry in entries]


def _described(entry: Entry, path: Path) -> dict[str, Any]:
    state = _tensors(_state_of(entry.content, path), path)
    num_parameters = sum(tensor.numel() for tensor in state.values())
    return {
        "entry": entry.path,
        "num_tensors": len(state),
        "num_parameters": num_parameters,
        "first": next(iter(state)),
        "tensors": [
            {"name": name, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in state.items()
        ],
    }


def _weights_in(document: Any, wanted: str | None, path: Path) -> ExternalWeights:
    if is_network(document):
        chosen = choose_entry(_state_of(document, path), (), wanted, path)
        return replace(_external(_state_of(chosen.content, path), "module", path), entry=chosen.path)
    document = _mapping_of(document, path)
    if str(document.get("format", "")).startswith("onward.checkpoint/"):
        if wanted is not None:
            raise UsageError(f"{path} is a checkpoint of Onward's and holds one network: leave out --entry {wanted}")
        return _onward(document, path)
    entries = entries_in(document)
    chosen = choose_entry(document, entries, wanted, path)
    if not entries:
        return replace(_external(_state_of(chosen.content, path), "state_dict", path), entry=chosen.path)
    kind = "lightning" if "pytorch-lightning_version" in document else "training state"
    weights = replace(
        _external(_state_of(chosen.content, path), kind, path),
        entry=chosen.path,
        other_entries=tuple(entry.path for entry in entries if entry.path != chosen.path),
        stated=tuple(stated_arguments_in(document)),
    )
    return _course(document, weights, path) if _is_course(document, weights.state_dict) else weights


def _taken(weights: ExternalWeights, unnamed: Sequence[str], path: Path) -> str:
    """Which entry was taken, and how to take another."""
    others = [repr(other) for other in weights.other_entries]
    averaged = ", a moving average" if is_averaged(weights.entry) else ""
    taken = f"took the weights under {printable(repr(weights.entry))} of {path.name}{averaged}"
    also = (
        f"; it also has {listed(others)}: choose with --entry {printable(weights.other_entries[0])}" if others else ""
    )
    lists = f"; {listed(unnamed)} holds averaged weights without names, which cannot be loaded" if unnamed else ""
    return taken + also + lists


def _mapping_of(document: Any, path: Path) -> Mapping[Any, Any]:
    """The content as a dictionary; of an object that holds a network, such as a trainer, its attributes."""
    if isinstance(document, StandIn) and vars(document):
        return vars(document)
    if not isinstance(document, Mapping):
        raise CheckpointError(f"{path} holds a {type(document).__name__}, expected a state_dict. {SAVE_ALONE}")
    return document


def _state_of(holder: StandIn | Mapping[Any, Any], path: Path) -> Mapping[Any, Any]:
    if not isinstance(holder, StandIn):
        return holder
    try:
        return state_dict_of(holder)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}. {SAVE_ALONE}") from error


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
    return replace(weights, kind="course", model="network", arguments=arguments)


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
        if "_packed_params" in str(name) or (isinstance(value, Tensor) and value.is_quantized):
            raise CheckpointError(
                f"{path} holds the weights of a quantised network ({printable(repr(name))}), expected floating-point "
                f"weights. Save the network's state_dict before it is quantised."
            )
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
