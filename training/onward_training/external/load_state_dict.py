"""Load external weights into a network, or report each key that does not fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from onward.errors import CheckpointError, reason_of
from onward_training.external.safe_loading import listed, printable
from onward_training.external.weights import BATCH_COUNTER, ExternalWeights, read_weights

__all__ = ["initialise_from", "load_state_dict"]

NUM_LISTED = 8
#: Attributes under which programs commonly keep a network.
ATTRIBUTES = ("model", "net", "network")


def load_state_dict(
    network: nn.Module,
    weights: ExternalWeights,
    *,
    path: Path,
    allow_new_head: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> None:
    """Load the weights into the network, in place and cast to its dtypes; after an error, the network is unchanged.

    A prefix such as `model.` is removed if the network's keys fit without it. In a Lightning file, keys outside the
    network (metrics, a loss) are then ignored; in any other file, every key must belong to the network.

    Args:
        network: On any device.
        weights: As `read_weights` returns them.
        path: Their file, for messages.
        allow_new_head: If only the last layer differs, because the weights are for other labels, leave that layer
            as it is and notify; by default that is an error.
        notify: Called with a note about the last layer.

    Raises:
        CheckpointError: Keys are missing, unexpected, or of another shape; the message names them.
    """
    full = network.state_dict()
    own = {name: tensor for name, tensor in full.items() if isinstance(tensor, Tensor)}
    comparison = _compare(own, weights, path)
    if allow_new_head and (outputs := _differing_outputs(comparison)):
        layer = list(own)[-1].rpartition(".")[0]
        notify(f"{path} has {outputs[0]} outputs, the network {outputs[1]}: {layer} starts with random weights")
        file = {name: tensor for name, tensor in comparison.file.items() if tensor.shape == own[name].shape}
        comparison = replace(comparison, file=file, mismatched=[])
    if comparison.missing or comparison.unexpected or comparison.mismatched:
        raise CheckpointError("\n".join(_report(comparison, type(network).__name__, path)))
    # keys and shapes are the network's own, so its version numbers apply: safetensors files have none
    full.update({name: tensor for name, tensor in comparison.file.items() if name in own})
    try:
        network.load_state_dict(full)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} has the keys and shapes of {type(network).__name__}, but loading it failed: {reason_of(error)}"
        ) from error


def initialise_from(
    path: Path, *, allow_globals: Sequence[str] = (), notify: Callable[[str], None] = lambda text: None
) -> Callable[[nn.Module], None]:
    """A function that initialises a new network from a weights file, before it is trained.

    Args:
        path: The file; it is read now.
        allow_globals: As `read_weights` takes them.
        notify: Called if the last layer keeps its random weights, because the file is for other labels.

    Raises:
        CheckpointError: As `read_weights`; the returned function raises as `load_state_dict`.
    """
    weights = read_weights(path, allow_globals=allow_globals)
    return lambda network: load_state_dict(network, weights, path=path, allow_new_head=True, notify=notify)


@dataclass(frozen=True)
class _Comparison:
    """The weights of the file compared with those of the network.

    Args:
        own: The network's.
        file: The file's, without `prefix`; keys that did not have it are unchanged.
        prefix: What was removed.
        missing: Keys that only the network has.
        unexpected: Keys that only the file has.
        mismatched: Keys that both have, with another shape, or with integers in the file and floats in the network.
    """

    own: Mapping[str, Tensor]
    file: Mapping[str, Tensor]
    prefix: str
    missing: Sequence[str]
    unexpected: Sequence[str]
    mismatched: Sequence[str]


def _compare(own: Mapping[str, Tensor], weights: ExternalWeights, path: Path) -> _Comparison:
    # with the removed prefix again, because `module` may be the network's own attribute
    whole = {weights.stripped + name: tensor for name, tensor in weights.state_dict.items()}
    prefix = _prefix(own, whole, weights, path)
    file = {name.removeprefix(prefix): tensor for name, tensor in whole.items() if name.startswith(prefix)}
    beside = {name: tensor for name, tensor in whole.items() if not name.startswith(prefix)}
    if weights.kind == "lightning":  # other attributes of the LightningModule do not belong to the network
        attribute = prefix.removeprefix(weights.stripped).partition(".")[0]
        beside = {name: tensor for name, tensor in beside.items() if name.startswith(f"{weights.stripped}{attribute}.")}
    return _Comparison(
        own,
        beside | file,
        prefix,
        missing=[name for name in own if name not in file and not name.endswith(BATCH_COUNTER)],
        unexpected=[*(name for name in file if name not in own and not name.endswith(BATCH_COUNTER)), *beside],
        mismatched=[name for name, tensor in file.items() if name in own and not _is_like(tensor, own[name])],
    )


def _prefix(own: Mapping[str, Tensor], whole: Mapping[str, Tensor], weights: ExternalWeights, path: Path) -> str:
    """The prefix of the network's keys in the file: the one with which most keys are found, in the right shape."""
    num_found, num_alike = Counter({weights.stripped: 0}), Counter[str]()
    for name, tensor in whole.items():
        for prefix in _prefixes(name):
            if (bare := name.removeprefix(prefix)) in own:
                num_found[prefix] += 1
                num_alike[prefix] += _is_like(tensor, own[bare])
    most = max((count, num_alike[prefix]) for prefix, count in num_found.items())
    leaders = [prefix for prefix, count in num_found.items() if (count, num_alike[prefix]) == most]
    plain = [prefix for prefix in leaders if set(prefix.split(".")) <= {*ATTRIBUTES, "module", "_orig_mod", ""}]
    # in files of other kinds, the keys of the other networks are reported as unexpected
    if weights.kind == "lightning" and len(leaders) > 1 and len(plain) != 1:
        raise CheckpointError(
            f"{path} holds several networks that fit, under {listed([repr(prefix) for prefix in leaders])}: save the "
            f"right one in its own file."
        )
    return min(plain or leaders, key=len)


def _prefixes(name: str) -> Iterator[str]:
    """`a.b.c` -> "", `a.` and `a.b.`."""
    yield ""
    yield from (name[: found.end()] for found in re.finditer(r"\.", name))


def _is_like(tensor: Tensor, own: Tensor) -> bool:
    if is_lazy(own):
        return True
    # integers instead of floats come from a quantized network, and need its scales
    return tensor.shape == own.shape and (tensor.is_floating_point() or not own.is_floating_point())


def _report(comparison: _Comparison, name: str, path: Path) -> Iterator[str]:
    own, file = comparison.own, comparison.file
    without = f" (after removing {comparison.prefix!r} from its keys)" if comparison.prefix else ""
    yield f"{path} does not fit {name}{without}."
    yield from _section("missing from the file", [partial(_missing, comparison, item) for item in comparison.missing])
    yield from _section("unexpected in the file", [partial(_kind, item, file[item]) for item in comparison.unexpected])
    yield from _section(
        "of another shape", [partial(_mismatched, item, file[item], own[item]) for item in comparison.mismatched]
    )
    yield from _advice(comparison)


def _section(title: str, lines: Sequence[Callable[[], str]]) -> Iterator[str]:
    if lines:
        yield f"{title} ({len(lines)}):"
        yield from (f"  {line()}" for line in lines[:NUM_LISTED])
    if len(lines) > NUM_LISTED:
        yield f"  … and {len(lines) - NUM_LISTED} more"


def _missing(comparison: _Comparison, name: str) -> str:
    nearest = _nearest(comparison, name)
    beside = f"; nearest in the file: {_kind(nearest, comparison.file[nearest])}" if nearest else ""
    return _kind(name, comparison.own[name]) + beside


def _nearest(comparison: _Comparison, name: str) -> str | None:
    alike = [item for item in comparison.unexpected if _is_like(comparison.file[item], comparison.own[name])]
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


def _advice(comparison: _Comparison) -> Iterator[str]:
    """At most one sentence about the likely cause."""
    own, file, unexpected = comparison.own, comparison.file, set(comparison.unexpected)
    num_matched = sum(name in own for name in file)
    inside = Counter(
        prefix for name in comparison.missing for prefix in _prefixes(name) if name.removeprefix(prefix) in unexpected
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


def _differing_outputs(comparison: _Comparison) -> tuple[int, int] | None:
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
