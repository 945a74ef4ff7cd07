"""Entries: the places in a file that hold weights, and which of them is taken.

If raw weights and their moving average are in one file, the average is taken and both are named. Programs that load a
file for inference do the same: timm (`load_checkpoint`, and so its `onnx_export.py`), Ultralytics
(`ckpt.get("ema") or ckpt["model"]`) and Real-ESRGAN (`params_ema`). `--entry` chooses another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from onward.errors import CheckpointError, UsageError
from onward.printable import printable
from onward_training.external.stand_ins import StandIn, is_network, state_dict_of
from onward_training.external.texts import listed

__all__ = ["Entry", "choose_entry", "entries_in", "is_averaged", "unnamed_averages"]

#: Keys under which training scripts save the weights, the most likely first.
KNOWN = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema")
AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|avg|averaged?|shadow|polyak)(?:[._\d]|$)", re.IGNORECASE)
#: `callbacks.Average.state_dict` is the deepest place that is known to be in use.
MAX_DEPTH = 3


@dataclass(frozen=True)
class Entry:
    """A place in a file that holds weights.

    Args:
        path: Its keys, joined by dots, e.g. `ema.model`; "" for the whole file.
        content: A state_dict, or the stand-in of a network.
    """

    path: str
    content: Mapping[Any, Any] | StandIn


def entries_in(document: Mapping[Any, Any]) -> list[Entry]:
    """Each entry of the file that holds weights. It is empty if the file itself is a state_dict."""
    return list(_entries(document, ""))


def _entries(document: Mapping[Any, Any], prefix: str) -> Iterator[Entry]:
    for name, value in document.items():
        if not isinstance(name, str) or name.endswith(("_metadata", "_extra_state")):
            continue
        if is_network(value) or _holds_weights(value, is_known=name in KNOWN):
            yield Entry(prefix + name, value)
            continue
        value = vars(value) if isinstance(value, StandIn) else value
        if isinstance(value, Mapping) and "param_groups" not in value and prefix.count(".") < MAX_DEPTH:
            yield from _entries(value, f"{prefix}{name}.")


def _holds_weights(value: object, *, is_known: bool) -> bool:
    """A mapping of numbers alone, such as metrics, holds weights only under a name that is known for it."""
    if not isinstance(value, Mapping) or "param_groups" in value:
        return False
    tensors = [item for name, item in value.items() if isinstance(name, str) and isinstance(item, Tensor)]
    return any(is_known or item.ndim for item in tensors)


def is_averaged(path: str) -> bool:
    """Whether the name says that the weights are a moving average."""
    return AVERAGED.search(path) is not None


def unnamed_averages(document: Mapping[Any, Any], prefix: str = "") -> list[str]:
    """Places of averaged weights that are a list without names, as torch_ema saves them: they cannot be loaded."""
    found = []
    for name, value in document.items():
        if not isinstance(name, str):
            continue
        path = prefix + name
        if isinstance(value, Mapping) and path.count(".") < MAX_DEPTH:
            found += unnamed_averages(value, f"{path}.")
        elif is_averaged(path) and isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
            found.append(path)
    return found


def choose_entry(document: Mapping[Any, Any], entries: Sequence[Entry], wanted: str | None, path: object) -> Entry:
    """The entry to load: the one that is wanted, or the averaged one, or the one under the most usual name.

    Args:
        document: The content of the file.
        entries: Its entries.
        wanted: The value of `--entry`; it may also be the beginning of names in a state_dict, such as
            `state_dict.teacher`.
        path: Of the file, for messages.

    Raises:
        CheckpointError: Several entries are equally likely.
        UsageError: The file does not have the wanted entry.
    """
    if wanted is not None:
        return _wanted(document, entries, wanted, path)
    if not entries:
        return Entry("", document)
    averaged = [entry for entry in entries if is_averaged(entry.path)]
    if averaged and _is_swapped(document):
        averaged, entries = [], [entry for entry in entries if not is_averaged(entry.path)]
    ranked = sorted((entry for entry in entries if _rank(entry) < len(KNOWN)), key=_rank)
    likely = averaged or ranked[:1] or entries
    if len(likely) > 1:
        names = [repr(entry.path) for entry in likely]
        raise CheckpointError(
            f"{path} holds several networks, in {listed(names)}: choose one with --entry, e.g. "
            f"--entry {printable(likely[0].path)}"
        )
    return likely[0]


def _rank(entry: Entry) -> int:
    last = entry.path.rpartition(".")[2]
    return KNOWN.index(last) if last in KNOWN else len(KNOWN)


def _is_swapped(document: Mapping[Any, Any]) -> bool:
    """Whether `state_dict` is the average, and `ema_state_dict` the raw weights.

    Source: mmengine, `EMAHook.before_save_checkpoint`.
    """
    meta = document.get("meta")
    return isinstance(meta, Mapping) and "mmengine_version" in meta


def _wanted(document: Mapping[Any, Any], entries: Sequence[Entry], wanted: str, path: object) -> Entry:
    found = _at(document, wanted)
    if is_network(found) or (isinstance(found, Mapping) and _holds_weights(found, is_known=True)):
        return Entry(wanted, found)
    names = [repr(entry.path) for entry in entries] or sorted(
        {repr(name.partition(".")[0]) for name in document if isinstance(name, str)}
    )
    what = "has no entry" if found is None else "has no weights in its entry"
    raise UsageError(
        f"{path} {what} {wanted!r}: {'it has weights in' if entries else 'its names begin with'} {listed(names)}."
    )


def _at(document: Any, path: str) -> Any:
    """What is at a path of keys; keys may contain dots, and the rest may be the beginning of names."""
    if isinstance(document, StandIn):
        document = state_dict_of(document) if is_network(document) else vars(document)
    if not isinstance(document, Mapping):
        return None
    if path in document:
        return document[path]
    for dot in re.finditer(r"\.", path):
        if (inner := document.get(path[: dot.start()])) is not None and (found := _at(inner, path[dot.end() :])):
            return found
    begun = {
        name.removeprefix(f"{path}."): value
        for name, value in document.items()
        if isinstance(name, str) and name.startswith(f"{path}.")
    }
    return begun or None
