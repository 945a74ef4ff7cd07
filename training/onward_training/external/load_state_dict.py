"""Fitting: foreign weights go into a network, or it is said why they do not."""

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
from onward_training.external.weights import COUNTER, ForeignWeights, read_weights

__all__ = ["fit", "start_from"]

NUM_LISTED = 8
#: Attributes that a network is commonly kept under.
ATTRIBUTES = ("model", "net", "network")


def fit(
    network: nn.Module,
    weights: ForeignWeights,
    *,
    path: Path,
    other_labels: Callable[[str], None] | None = None,
) -> None:
    """Load the weights into the network, in place and cast to its dtypes; after an error it is as it was.

    A prefix such as `model.` is taken off where the network's keys fit without it. Of a Lightning file, what stands
    beside the network (metrics, a loss) is then left alone; of any other file, every key must be the network's.

    Args:
        network: On any device.
        weights: As `read_weights` gives them.
        path: Where they came from, for messages.
        other_labels: Where it is given and the weights are of a network for other labels, alike but for its last
            layer, that layer stays as it is and this is told so; else they are refused.

    Raises:
        CheckpointError: A key is missing, left over, or of another shape; each is named.
    """
    full = network.state_dict()
    own = {name: tensor for name, tensor in full.items() if isinstance(tensor, Tensor)}
    comparison = _compare(own, weights, path)
    if other_labels is not None and (outputs := _other_labels(comparison)):
        layer = list(own)[-1].rpartition(".")[0]
        other_labels(f"{path} has {outputs[0]} outputs, the network {outputs[1]}: {layer} begins with random weights")
        file = {name: tensor for name, tensor in comparison.file.items() if tensor.shape == own[name].shape}
        comparison = replace(comparison, file=file, unlike=[])
    if comparison.missing or comparison.left_over or comparison.unlike:
        raise CheckpointError("\n".join(_report(comparison, type(network).__name__, path)))
    # keys and shapes are the network's own, so its version numbers hold too: safetensors keep none
    full.update({name: tensor for name, tensor in comparison.file.items() if name in own})
    try:
        network.load_state_dict(full)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not load into {type(network).__name__}, though its keys and shapes fit: {reason_of(error)}"
        ) from error


def start_from(
    path: Path, *, allow_globals: Sequence[str] = (), tell: Callable[[str], None] = lambda text: None
) -> Callable[[nn.Module], None]:
    """What puts somebody's weights into a new network, to train on from them.

    Args:
        path: The file; it is read now.
        allow_globals: As `read_weights` takes them.
        tell: Told where the last layer stays random, since the weights are of a network for other labels.

    Raises:
        CheckpointError: As `read_weights`; and, when it is called, as `fit`.
    """
    weights = read_weights(path, allow_globals=allow_globals)
    return lambda network: fit(network, weights, path=path, other_labels=tell)


@dataclass(frozen=True)
class _Comparison:
    """The file's weights beside the network's.

    Args:
        own: The network's.
        file: The file's, without `prefix`; those that did not have it keep their whole name.
        prefix: What was taken off.
        missing: Names that only the network has.
        left_over: Names that only the file has.
        unlike: Names that both have, of another shape, or integers for what is no integer.
    """

    own: Mapping[str, Tensor]
    file: Mapping[str, Tensor]
    prefix: str
    missing: Sequence[str]
    left_over: Sequence[str]
    unlike: Sequence[str]


def _compare(own: Mapping[str, Tensor], weights: ForeignWeights, path: Path) -> _Comparison:
    # with what was taken off put back, as `module` may after all be the network's own attribute
    whole = {weights.stripped + name: tensor for name, tensor in weights.state_dict.items()}
    prefix = _prefix(own, whole, weights, path)
    file = {name.removeprefix(prefix): tensor for name, tensor in whole.items() if name.startswith(prefix)}
    beside = {name: tensor for name, tensor in whole.items() if not name.startswith(prefix)}
    if weights.kind == "lightning":  # the other attributes of the LightningModule are no part of the network
        attribute = prefix.removeprefix(weights.stripped).partition(".")[0]
        beside = {name: tensor for name, tensor in beside.items() if name.startswith(f"{weights.stripped}{attribute}.")}
    return _Comparison(
        own,
        beside | file,
        prefix,
        missing=[name for name in own if name not in file and not name.endswith(COUNTER)],
        left_over=[*(name for name in file if name not in own and not name.endswith(COUNTER)), *beside],
        unlike=[name for name, tensor in file.items() if name in own and not _is_like(tensor, own[name])],
    )


def _prefix(own: Mapping[str, Tensor], whole: Mapping[str, Tensor], weights: ForeignWeights, path: Path) -> str:
    """What stands in front of the network's keys in the file: under it, most of them are found, in the right shape."""
    num_found, num_alike = Counter({weights.stripped: 0}), Counter[str]()
    for name, tensor in whole.items():
        for prefix in _prefixes(name):
            if (bare := name.removeprefix(prefix)) in own:
                num_found[prefix] += 1
                num_alike[prefix] += _is_like(tensor, own[bare])
    most = max((count, num_alike[prefix]) for prefix, count in num_found.items())
    leaders = [prefix for prefix, count in num_found.items() if (count, num_alike[prefix]) == most]
    plain = [prefix for prefix in leaders if set(prefix.split(".")) <= {*ATTRIBUTES, "module", "_orig_mod", ""}]
    if weights.kind == "lightning" and len(leaders) > 1 and len(plain) != 1:  # others have keys left over, and say so
        raise CheckpointError(
            f"{path} holds several networks that fit, under {listed([repr(prefix) for prefix in leaders])}; save the "
            f"one that is meant in a file of its own."
        )
    return min(plain or leaders, key=len)


def _prefixes(name: str) -> Iterator[str]:
    """`a.b.c` -> "", `a.` and `a.b.`."""
    yield ""
    yield from (name[: found.end()] for found in re.finditer(r"\.", name))


def _is_like(tensor: Tensor, own: Tensor) -> bool:
    if is_lazy(own):
        return True
    # integers for what is no integer are a quantized network's, and mean nothing without their scale
    return tensor.shape == own.shape and (tensor.is_floating_point() or not own.is_floating_point())


def _report(comparison: _Comparison, name: str, path: Path) -> Iterator[str]:
    own, file = comparison.own, comparison.file
    without = f", read without {comparison.prefix!r} in front of its keys" if comparison.prefix else ""
    yield f"{path} does not fit {name}{without}."
    yield from _section("missing from the file", [partial(_missing, comparison, item) for item in comparison.missing])
    yield from _section("left over in the file", [partial(_kind, item, file[item]) for item in comparison.left_over])
    yield from _section(
        "of another shape", [partial(_unlike, item, file[item], own[item]) for item in comparison.unlike]
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
    alike = [item for item in comparison.left_over if _is_like(comparison.file[item], comparison.own[name])]
    found = get_close_matches(name, alike, n=1, cutoff=0.4) or get_close_matches(name, comparison.left_over, n=1)
    return next(iter(found), None)


def _kind(name: str, tensor: Tensor) -> str:
    return f"{printable(name)} {_shape(tensor)}"


def _unlike(name: str, tensor: Tensor, own: Tensor) -> str:
    if tensor.shape == own.shape:
        return f"{printable(name)}: file {tensor.dtype}, network {own.dtype}"
    return f"{printable(name)}: file {_shape(tensor)}, network {_shape(own)}"


def _shape(tensor: Tensor) -> str:
    return "of any shape" if is_lazy(tensor) else str(tuple(tensor.shape))


def _advice(comparison: _Comparison) -> Iterator[str]:
    """At most one sentence on what is likely the matter."""
    own, file, left_over = comparison.own, comparison.file, set(comparison.left_over)
    num_matched = sum(name in own for name in file)
    inside = Counter(
        prefix for name in comparison.missing for prefix in _prefixes(name) if name.removeprefix(prefix) in left_over
    )
    part, num_inside = inside.most_common(1)[0] if inside else ("", 0)
    if labels := _other_labels(comparison):
        yield f"The network has {labels[1]} outputs, the file {labels[0]}: the number of labels differs."
    elif 2 * num_inside > len(comparison.missing):
        yield f"The network's keys begin with {part!r}, the file's do not: it holds the weights of that part alone."
    elif comparison.prefix and not comparison.missing and 2 * len(left_over) < len(file):
        yield f"Nearly all keys of the file begin with {comparison.prefix!r}; those left over are no part of it."
    elif 2 * num_matched < len(own):
        yield f"Of the network's {len(own)} keys, the file has {num_matched}: it is of another architecture."


def _other_labels(comparison: _Comparison) -> tuple[int, int] | None:
    """Outputs of the file and of the network, where all that differs at all differs in those."""
    if comparison.missing or comparison.left_over:
        return None
    pairs: set[tuple[int, int]] = set()
    for name in comparison.unlike:
        shapes = comparison.file[name].shape, comparison.own[name].shape
        differing = [pair for pair in zip(*shapes, strict=False) if pair[0] != pair[1]]
        if len(shapes[0]) != len(shapes[1]) or len(differing) != 1:
            return None
        pairs.update(differing)
    if len(pairs) != 1 or (last := list(comparison.own)[-1]) not in comparison.unlike:
        return None
    # the last is the bias of the last layer, or the weight of one without, which has its outputs in front
    return pairs.pop() if len(comparison.file[last]) != len(comparison.own[last]) else None
