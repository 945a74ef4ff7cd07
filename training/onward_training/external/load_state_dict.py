"""Load external weights into a network, or report each key that does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from onward.errors import CheckpointError, reason_of
from onward.printable import printable
from onward_training.external.key_matching import KeyMatch, compare, is_like, prefixes
from onward_training.external.texts import listed
from onward_training.external.weights import ExternalWeights, read_weights

__all__ = ["initialise_from", "load_state_dict"]

NUM_LISTED = 8


def load_state_dict(
    network: nn.Module,
    weights: ExternalWeights,
    *,
    path: Path,
    allow_new_head: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> None:
    """Load the weights into the network, in place and cast to its dtypes; after an error, the network is unchanged.

    `key_matching.py` finds which key belongs to which. In a Lightning file, keys outside the network (metrics, a loss)
    are left out; in any other file, every key must belong to the network.

    Args:
        network: On any device.
        weights: As `read_weights` returns them.
        path: Their file, for messages.
        allow_new_head: If only the last layer differs, because the weights are for other labels, leave that layer
            as it is and notify; by default that is an error.
        notify: Called with notes about keys that were left out or renamed, and about the last layer.

    Raises:
        CheckpointError: Keys are missing, unexpected, or of another shape; the message names them.
    """
    full = network.state_dict()
    own = {name: tensor for name, tensor in full.items() if isinstance(tensor, Tensor)}
    comparison = compare(own, weights, path)
    for note in _notes(comparison, weights, path):
        notify(note)
    if allow_new_head and (outputs := _differing_outputs(comparison)):
        layer = list(own)[-1].rpartition(".")[0]
        notify(f"{path} has {outputs[0]} outputs, the network {outputs[1]}: {layer} starts with random weights")
        file = {name: tensor for name, tensor in comparison.file.items() if is_like(tensor, own[name])}
        comparison = replace(comparison, file=file, mismatched=[])
    if comparison.num_differences:
        raise CheckpointError("\n".join(_report(comparison, weights, type(network).__name__, path)))
    # keys and shapes are the network's own, so its version numbers apply: safetensors files have none
    full.update({name: tensor for name, tensor in comparison.file.items() if name in own})
    try:
        network.load_state_dict(full)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} has the keys and shapes of {type(network).__name__}, but loading it failed: {reason_of(error)}"
        ) from error


def initialise_from(
    path: Path, weights: ExternalWeights | None = None, *, notify: Callable[[str], None] = lambda text: None
) -> Callable[[nn.Module], None]:
    """A function that initialises a new network from a weights file, before it is trained.

    Args:
        path: The file.
        weights: Its content, if it was read before.
        notify: Called with notes about the keys, and if the last layer keeps its random weights, because the file is
            for other labels.

    Raises:
        CheckpointError: As `read_weights`; the returned function raises as `load_state_dict`.
    """
    read = weights or read_weights(path)
    return lambda network: load_state_dict(network, read, path=path, allow_new_head=True, notify=notify)


def _notes(comparison: KeyMatch, weights: ExternalWeights, path: Path) -> Iterator[str]:
    """What was decided while matching the keys."""
    beginning = f"{weights.entry}." if weights.entry else ""
    if others := comparison.others:
        names = [repr(other) for other in others]
        yield (
            f"took the weights under {comparison.prefix!r} in {path.name}; {listed(names)} fits, too: choose with "
            f"--entry {printable(beginning + others[0].rstrip('.'))}"
        )
    groups = [name.rpartition(".")[2] for name in comparison.counters]
    groups += [name.partition(".")[0] for name in comparison.left_out if not others]
    if groups:
        listing = listed([f"{name} ({count})" for name, count in Counter(groups).items()])
        yield f"left out of {path.name}, because the network does not have them: {listing}"
    if respelled := comparison.respelled:
        name, source = next(iter(respelled.items()))
        yield f"matched {len(respelled)} keys by another spelling, e.g. {printable(source)} is {name} in the network"


def _report(comparison: KeyMatch, weights: ExternalWeights, name: str, path: Path) -> Iterator[str]:
    own, file = comparison.own, comparison.file
    without = f" (after removing {comparison.prefix!r} from its keys)" if comparison.prefix else ""
    yield f"{path} does not fit {name}{without}."
    yield from _section("missing from the file", [partial(_missing, comparison, item) for item in comparison.missing])
    yield from _section("unexpected in the file", [partial(_kind, item, file[item]) for item in comparison.unexpected])
    yield from _section(
        "of another shape", [partial(_mismatched, item, file[item], own[item]) for item in comparison.mismatched]
    )
    yield from _advice(comparison)
    if weights.other_entries:
        names = [repr(entry) for entry in weights.other_entries]
        yield f"The file also has weights in {listed(names)}: choose with --entry {printable(weights.other_entries[0])}"


def _section(title: str, lines: Sequence[Callable[[], str]]) -> Iterator[str]:
    if lines:
        yield f"{title} ({len(lines)}):"
        yield from (f"  {line()}" for line in lines[:NUM_LISTED])
    if len(lines) > NUM_LISTED:
        yield f"  … and {len(lines) - NUM_LISTED} more"


def _missing(comparison: KeyMatch, name: str) -> str:
    nearest = _nearest(comparison, name)
    beside = f"; nearest in the file: {_kind(nearest, comparison.file[nearest])}" if nearest else ""
    return _kind(name, comparison.own[name]) + beside


def _nearest(comparison: KeyMatch, name: str) -> str | None:
    alike = [item for item in comparison.unexpected if is_like(comparison.file[item], comparison.own[name])]
    found = get_close_matches(name, alike, n=1, cutoff=0.4) or get_close_matches(name, comparison.unexpected, n=1)
    return next(iter(found), None)


def _kind(name: str, tensor: Tensor) -> str:
    return f"{printable(name)} {_shape(tensor)}"


def _mismatched(name: str, tensor: Tensor, own: Tensor) -> str:
    if tensor.shape == own.shape:
        return f"{printable(name)}: file {tensor.dtype}, network {own.dtype}"
    return f"{printable(name)}: file {_shape(tensor)}, network {_shape(own)}"


def _shape(tensor: Tensor) -> str:
    return "of any shape" if is_lazy(tensor) else str(tuple(tensor.shape))


def _advice(comparison: KeyMatch) -> Iterator[str]:
    """At most one sentence about the likely cause."""
    own, file, unexpected = comparison.own, comparison.file, set(comparison.unexpected)
    num_matched = sum(name in own for name in file)
    inside = Counter(
        prefix
        for name in comparison.missing
        for prefix in prefixes(name)
        if prefix and name.removeprefix(prefix) in unexpected
    )
    part, num_inside = inside.most_common(1)[0] if inside else ("", 0)
    if outputs := _differing_outputs(comparison):
        yield f"The network has {outputs[1]} outputs, the file {outputs[0]}: the number of labels differs."
    elif 2 * num_inside > len(comparison.missing):
        yield f"The network's keys begin with {part!r}, the file's do not: it holds the weights of that part only."
    elif comparison.prefix and not comparison.missing and 2 * len(unexpected) < len(file):
        yield f"Nearly all keys of the file begin with {comparison.prefix!r}; the unexpected ones do not."
    elif 2 * num_matched < len(own):
        yield f"Of the network's {len(own)} keys, the file has {num_matched}: it belongs to another architecture."


def _differing_outputs(comparison: KeyMatch) -> tuple[int, int] | None:
    """Outputs of the file and of the network, if nothing else differs between the two."""
    if comparison.missing or comparison.unexpected:
        return None
    pairs: set[tuple[int, int]] = set()
    for name in comparison.mismatched:
        shapes = comparison.file[name].shape, comparison.own[name].shape
        differing = [pair for pair in zip(*shapes, strict=False) if pair[0] != pair[1]]
        if len(shapes[0]) != len(shapes[1]) or len(differing) != 1:
            return None
        pairs.update(differing)
    if len(pairs) != 1 or (last := list(comparison.own)[-1]) not in comparison.mismatched:
        return None
    # the last entry is the bias of the last layer, or its weight if there is none: outputs are its first dimension
    return pairs.pop() if len(comparison.file[last]) != len(comparison.own[last]) else None
