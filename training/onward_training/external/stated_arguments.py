"""Stated arguments: values in a checkpoint that are arguments of the network's class.

Training scripts save them beside the weights (`{"hidden_layers": [64, 32], "state_dict": …}`), or in a dictionary such
as Lightning's `hyper_parameters`. A value belongs to the class if its key is the name of a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onward.errors import CheckpointError
from onward_training.external.stand_ins import StandIn
from onward_training.external.texts import listed

__all__ = ["StatedArgument", "arguments_for", "stated_arguments_in"]

#: Keys under which training scripts save arguments: beside the weights, and below these keys once more.
CONTAINERS = frozenset(
    ("hyper_parameters", "hparams", "args", "arguments", "kwargs", "config", "cfg", "params", "init_args")
    + ("model", "network", "net", "arch", "architecture")
    + tuple(f"{one}_{other}" for one in ("model", "net", "network") for other in ("args", "kwargs", "config", "params"))
)
#: Parameters that would load other weights or name a machine.
NEVER_TAKEN = frozenset(("device", "dtype", "pretrained", "weights", "checkpoint", "checkpoint_path", "state_dict"))


@dataclass(frozen=True)
class StatedArgument:
    """A plain value in a file.

    Args:
        place: Its keys, joined by dots, e.g. `hyper_parameters.width`.
        name: The last key.
        value: Numbers, text, and lists and dictionaries of them.
    """

    place: str
    name: str
    value: Any


def stated_arguments_in(document: Mapping[Any, Any], prefix: str = "") -> Iterator[StatedArgument]:
    """Each plain value beside the weights, and in the dictionaries in which scripts keep arguments."""
    for name, item in document.items():
        value = vars(item) if isinstance(item, StandIn) else item
        if not isinstance(name, str):
            continue
        if _is_plain(value) and not isinstance(item, StandIn):
            yield StatedArgument(prefix + name, name, list(value) if isinstance(value, tuple) else value)
        if name in CONTAINERS and isinstance(value, Mapping):
            yield from stated_arguments_in(value, f"{prefix}{name}.")


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(item) for name, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def arguments_for(
    stated: Sequence[StatedArgument], parameters: frozenset[str], given: Mapping[str, Any], path: object
) -> dict[str, Any]:
    """The stated values that are parameters of the network's class and were not given on the command line.

    Args:
        stated: The file's values.
        parameters: Names of the class's parameters.
        given: The values of `--model-args`.
        path: Of the file, for messages.

    Raises:
        CheckpointError: The file has two values for a parameter.
    """
    arguments: dict[str, StatedArgument] = {}
    for item in stated:
        if item.name not in parameters - NEVER_TAKEN - set(given):
            continue
        first = arguments.setdefault(item.name, item)
        if first.value != item.value:
            raise CheckpointError(
                f"{path} has two values for the network's parameter {item.name!r}: "
                f"{listed([f'{one.place} = {one.value!r}' for one in (first, item)])}. Give the right one with "
                f"--model-args '{{\"{item.name}\": …}}'."
            )
    return {name: item.value for name, item in arguments.items()}
