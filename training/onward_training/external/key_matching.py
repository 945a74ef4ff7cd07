"""Key matching: which weight of a file belongs to which weight of the network.

First by the names as they are, without a prefix such as `model.`. If that leaves a weight over on either side, by the
names' normal form: without what wrappers insert, and in one spelling. A weight is never matched by its shape alone, and
two names that cannot be told apart are an error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from torch.nn.parameter import is_lazy

from onward.errors import CheckpointError
from onward.printable import printable
from onward_training.external.entries import is_averaged
from onward_training.external.texts import listed
from onward_training.external.weights import BATCH_COUNTER, ExternalWeights

__all__ = ["KeyMatch", "compare", "is_like", "prefixes"]

#: Attributes under which programs commonly keep a network.
ATTRIBUTES = ("model", "net", "network")
#: What DataParallel, torch.compile, FSDP, activation checkpointing and Fabric insert into names.
WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_original_module")
)
#: Counters that the profiler thop adds to each module, as floats.
PROFILER_COUNTERS = frozenset(("total_ops", "total_params"))
#: The names of weight norm and spectral norm as parametrizations -> those of the older hooks.
PARAMETRIZATIONS = (
    (re.compile(r"\bparametrizations\.(\w+)\.original0$"), r"\1_g"),
    (re.compile(r"\bparametrizations\.(\w+)\.original1$"), r"\1_v"),
    (re.compile(r"\bparametrizations\.(\w+)\.original$"), r"\1_orig"),
    (re.compile(r"\bparametrizations\.(\w+)\.\d+\._([uv])$"), r"\1_\2"),
)


@dataclass(frozen=True)
class KeyMatch:
    """The weights of the file compared with those of the network.

    Args:
        own: The network's.
        file: The file's, under the network's names; and the unexpected ones, without `prefix` if they had it.
        prefix: What was removed.
        missing: Keys that only the network has.
        unexpected: Keys that only the file has.
        mismatched: Keys that both have, with another shape, or with integers in the file and floats in the network.
        respelled: The network's name -> the file's, where a wrapper or the spelling made the difference.
        left_out: The file's names outside the network, where that is no error.
        counters: The file's names of single numbers that count, which are left out, too.
        others: Prefixes under which the file has other networks that fit.
    """

    own: Mapping[str, Tensor]
    file: Mapping[str, Tensor]
    prefix: str
    missing: Sequence[str]
    unexpected: Sequence[str]
    mismatched: Sequence[str]
    respelled: Mapping[str, str]
    left_out: Sequence[str]
    others: Sequence[str]
    counters: Sequence[str] = ()

    @property
    def num_differences(self) -> int:
        """0 if each weight of either side belongs to one of the other."""
        return len(self.missing) + len(self.unexpected) + len(self.mismatched)


def compare(own: Mapping[str, Tensor], weights: ExternalWeights, path: Path) -> KeyMatch:
    """Match the names, as they are or by their normal form: whichever leaves fewer over.

    Raises:
        CheckpointError: Several networks in the file fit, or two names have one normal form.
    """
    # with the removed prefix again, because `module` may be the network's own attribute
    whole = {weights.stripped + name: tensor for name, tensor in weights.state_dict.items()}
    ends = {name.rpartition(".")[2] for name in own}
    counters = [name for name, tensor in whole.items() if _is_counter(name, tensor, ends)]
    whole = {name: tensor for name, tensor in whole.items() if name not in set(counters)}
    best = _compared(own, whole, weights, path, plain=_unchanged, spelled=_unchanged)
    if best.num_differences:
        normal = _compared(own, whole, weights, path, plain=_unwrapped, spelled=_joined)
        best = normal if normal.num_differences < best.num_differences else best
    return replace(best, counters=[name for name in counters if not name.endswith(BATCH_COUNTER)])


def _is_counter(name: str, tensor: Tensor, ends: set[str]) -> bool:
    """A single number that counts, such as AveragedModel's `n_averaged`, under a name that the network lacks."""
    end = name.rpartition(".")[2]
    if end in ends or tensor.numel() != 1:
        return False
    return end in PROFILER_COUNTERS or not (tensor.ndim or tensor.is_floating_point() or tensor.is_complex())


def _unchanged(name: str) -> str:
    return name


def _unwrapped(name: str) -> str:
    """`module.features._orig_mod.0.weight` -> `features.0.weight`; weight norm's names -> those of its older form."""
    name = ".".join(part for part in name.split(".") if part not in WRAPPERS)
    for pattern, replacement in PARAMETRIZATIONS:
        name = pattern.sub(replacement, name)
    return name


def _joined(name: str) -> str:
    """`norm.1.weight` -> `norm1.weight`, as DenseNet's layers were renamed."""
    return re.sub(r"(?<=[A-Za-z])\.(?=\d)", "", name)


def _compared(
    own: Mapping[str, Tensor],
    whole: Mapping[str, Tensor],
    weights: ExternalWeights,
    path: Path,
    *,
    plain: Callable[[str], str],
    spelled: Callable[[str], str],
) -> KeyMatch:
    inner = _common_prefix(own, whole, plain)  # of the network, if the file's names begin after it
    own_plain = {name: plain(name).removeprefix(inner) for name in own}
    file_plain = {name: plain(name) for name in whole}
    default = plain(f"{weights.stripped}name").removesuffix("name")
    prefix, others = _prefix(own, own_plain, whole, file_plain, weights, path, default=default, is_part=bool(inner))
    rests = {name: item.removeprefix(prefix) for name, item in file_plain.items() if item.startswith(prefix)}
    if plain is not _unchanged:
        rests |= _rests_without_attributes(file_plain, rests, set(own_plain.values()))
    pairs = _paired(own_plain, rests, spelled, path)
    taken = set(pairs.values())
    unmatched = [name for name in whole if name not in taken and not name.endswith(BATCH_COUNTER)]
    other_names = {other + item for other in others for item in own_plain.values()}
    left_out = [
        name
        for name in unmatched
        if file_plain[name] in other_names or (weights.kind == "lightning" and _is_beside(file_plain[name], prefix))
    ]
    unexpected = {rests.get(name, name): whole[name] for name in unmatched if name not in left_out}
    return KeyMatch(
        own,
        unexpected | {name: whole[source] for name, source in pairs.items()},
        prefix,
        missing=[name for name in own if name not in pairs and not name.endswith(BATCH_COUNTER)],
        unexpected=list(unexpected),
        mismatched=[name for name, source in pairs.items() if not is_like(whole[source], own[name])],
        respelled={name: source for name, source in pairs.items() if source.removeprefix(prefix) != name},
        left_out=left_out,
        others=others,
    )


def _common_prefix(own: Mapping[str, Tensor], whole: Mapping[str, Tensor], plain: Callable[[str], str]) -> str:
    """What each of the network's names begins with, if no name of the file contains it: the file is of that part."""
    names = [plain(name) for name in own]
    file = [plain(name) for name in whole]
    common = ""
    for prefix in list(prefixes(names[0]))[1:] if names else ():
        if not all(name.startswith(prefix) for name in names) or any(prefix in name for name in file):
            break
        common = prefix
    return common


def _prefix(
    own: Mapping[str, Tensor],
    own_plain: Mapping[str, str],
    whole: Mapping[str, Tensor],
    file_plain: Mapping[str, str],
    weights: ExternalWeights,
    path: Path,
    *,
    default: str,
    is_part: bool,
) -> tuple[str, list[str]]:
    """The prefix with which most of the network's names are found, in the right shape; and others that fit as well.

    Of several that fit, the averaged network is chosen, or the one under a usual name.
    """
    by_plain = {item: own[name] for name, item in own_plain.items()}
    found, alike = Counter({default: 0}), Counter[str]()
    for name, item in file_plain.items():
        for prefix in prefixes(item):
            bare = item.removeprefix(prefix)
            if bare in by_plain and (_is_usual(prefix) or not is_part):
                found[prefix] += 1
                alike[prefix] += is_like(whole[name], by_plain[bare])
    most = max((count, alike[prefix]) for prefix, count in found.items())
    leaders = [prefix for prefix, count in found.items() if (count, alike[prefix]) == most]
    usual = [prefix for prefix in leaders if _is_usual(prefix)]
    if len(leaders) == 1 or most[0] < sum(not name.endswith(BATCH_COUNTER) for name in own):
        return min(usual or leaders, key=len), []
    averaged = [prefix for prefix in leaders if is_averaged(prefix)]
    chosen = next((only[0] for only in (averaged, usual) if len(only) == 1), None)
    if chosen is None:
        beginning = f"{weights.entry}." if weights.entry else ""
        raise CheckpointError(
            f"{path} holds several networks that fit, under {listed([repr(prefix) for prefix in leaders])}: choose "
            f"one with --entry, e.g. --entry {printable(beginning + leaders[0].rstrip('.'))}"
        )
    return chosen, [prefix for prefix in leaders if prefix != chosen]


def _is_usual(prefix: str) -> bool:
    return set(prefix.split(".")) <= {*ATTRIBUTES, *WRAPPERS, ""}


def _rests_without_attributes(
    file_plain: Mapping[str, str], rests: Mapping[str, str], own: set[str]
) -> Iterator[tuple[str, str]]:
    """Names that the prefix does not explain: without the usual attributes, if a name of the network's is left."""
    taken = set(rests.values())
    for name, item in file_plain.items():
        if rests.get(name) in own:
            continue
        first, _, rest = item.partition(".")
        candidates = [item]
        while first in ATTRIBUTES:
            candidates.append(rest)
            first, _, rest = rest.partition(".")
        yield from ((name, bare) for bare in candidates if bare in own - taken)


def _paired(
    own_plain: Mapping[str, str], rests: Mapping[str, str], spelled: Callable[[str], str], path: Path
) -> dict[str, str]:
    """The network's name -> the file's.

    Raises:
        CheckpointError: Several names on one side have one normal form, and nothing tells them apart.
    """
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for side, names in enumerate((own_plain, rests)):
        for name, item in names.items():
            groups.setdefault(spelled(item), ([], []))[side].append(name)
    pairs: dict[str, str] = {}
    for ours, theirs in groups.values():
        if len(ours) == len(theirs) == 1:
            pairs[ours[0]] = theirs[0]
        elif ours and theirs:
            pairs |= _told_apart(ours, theirs, own_plain, rests, path)
    return {name: pairs[name] for name in own_plain if name in pairs}


def _told_apart(
    ours: Sequence[str], theirs: Sequence[str], own_plain: Mapping[str, str], rests: Mapping[str, str], path: Path
) -> Mapping[str, str]:
    """Names of one normal form, by their plain names; these are unique on both sides or it is an error."""
    own, file = ({names[name]: name for name in group} for names, group in ((own_plain, ours), (rests, theirs)))
    if len(own) < len(ours) or len(file) < len(theirs):
        raise CheckpointError(
            f"{path} has {listed(theirs)}, the network {listed(ours)}: these names differ only in what wrappers such "
            f"as DataParallel and torch.compile insert, so it is not clear which belong together. Save the state_dict "
            f"of the network inside the wrapper (`network.module` or `network._orig_mod`)."
        )
    return {own[item]: file[item] for item in own if item in file}


def _is_beside(name: str, prefix: str) -> bool:
    """Whether it is of another attribute than the network of a LightningModule."""
    attribute = next((part for part in prefix.split(".") if part not in {*WRAPPERS, ""}), "")
    return bool(attribute) and f"{attribute}." not in name[: len(prefix)]


def prefixes(name: str) -> Iterator[str]:
    """`a.b.c` -> "", `a.` and `a.b.`."""
    yield ""
    yield from (name[: found.end()] for found in re.finditer(r"\.", name))


def is_like(tensor: Tensor, own: Tensor) -> bool:
    """Whether a weight of the file may be loaded into one of the network."""
    if is_lazy(own):
        return True
    # integers instead of floats come from a quantized network, and need its scales
    return tensor.shape == own.shape and (tensor.is_floating_point() or not own.is_floating_point())
