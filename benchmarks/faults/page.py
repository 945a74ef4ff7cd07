"""Page: docs/faults.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from benchmarks.faults.bench import Outcome
from benchmarks.faults.networks import NETWORKS

__all__ = ["page"]

INTRODUCTION = (
    "A fault is one change of a correct ONNX file, such as exporters and people make. The gate compares outputs "
    "with the reference, and accounts for every stored value (rules 3 and 5 of [the parity rule](parity.md)). "
    "Networks have random weights and images of 16 to 64 pixels; the gate uses 8 samples."
)
NO_EFFECT = (
    "Neither outputs nor the account of weights find these faults. Each was measured on 128 fresh samples of another "
    "seed: the largest noise ratio is within what passes (3), so the fault does not change an output beyond PyTorch's "
    "own rounding. Such faults are a stride over a single pixel, another activation where all inputs are on its common "
    "part, or one unit in the last place of a value that is folded or probed."
)
ULP = (
    "A changed last bit is found where the stored value equals the checkpoint's, also transposed or reshaped. Where "
    "the value is folded or probed, it is not found: it lies within the rounding of the fold or of the nodes that read "
    "it."
)


def page(outcomes: Sequence[Outcome], problems: Sequence[str], *, each: int, seed: int) -> str:
    """The page, in Markdown."""
    networks = len({item.network for item in outcomes})
    escapes = [item for item in outcomes if item.is_escape]
    seen = [item for item in outcomes if item.was_seen]
    account = [item for item in outcomes if item.found_by == "account"]
    unseen = [item for item in outcomes if not item.found_by]
    rows = ["# Faults, and whether the right node is named", ""]
    if escapes:
        rows += [f"**{len(escapes)} faults change outputs beyond the noise, and the gate let them pass:**", ""]
        rows += [f"- **{_place(item)}: {item.fresh_ratio:,.1f} times PyTorch's own error**" for item in escapes]
        rows += [""]
    rows += [
        f"`python -m benchmarks.faults --each {each} --seed {seed}` planted {len(outcomes):,} faults in {networks} of "
        f"{len(NETWORKS)} networks{'' if networks == len(NETWORKS) else ': the others are still to run'}.",
        "",
        INTRODUCTION,
        "",
        "| | faults |",
        "| --- | ---: |",
        f"| planted | {len(outcomes):,} |",
        f"| found by outputs | {len(seen):,} |",
        f"| found by the account of weights alone | {len(account):,} |",
        f"| ended the process that opened the file, so refused | {_count(outcomes, 'crash')} |",
        f"| without effect | {len(unseen) - len(escapes):,} |",
        f"| with an effect beyond the noise, but not found | {len(escapes):,} |",
        f"| right node named, of those found by outputs | {_share(seen)} |",
        f"| right stored value named, of those found by the account alone | {_share(account)} |",
        "",
        "The right node is the changed one, or another that came from the same operator of PyTorch.",
        "",
        *_table("fault", outcomes, lambda item: item.kind),
        "",
        *_table("network", outcomes, lambda item: item.network),
    ]
    ulps = [item for item in outcomes if item.kind == "one ulp in one weight"]
    missed = Counter((item.network, item.value) for item in ulps if not item.found_by)
    rows += ["", "## One unit in the last place", "", ULP, ""]
    rows += [f"Found: {sum(bool(item.found_by) for item in ulps)} of {len(ulps)}."]
    rows += ["", *(f"- not found: {network}, `{value}`" for network, value in missed)] if missed else []
    rows += ["", "## Wrong node or value named", ""]
    rows += [
        f"- {_place(item)}: named `{item.named}`. {item.sentence}" for item in (*seen, *account) if not item.is_right
    ] or ["None."]
    rows += ["", "## No effect", "", NO_EFFECT, ""]
    rows += [f"- {_place(item)}: {item.fresh_ratio:.2f}" for item in unseen if not item.is_escape] or ["None."]
    if problems:
        rows += ["", "## Networks without, or with fewer, faults", "", *(f"- {problem}" for problem in problems)]
    return "\n".join(rows) + "\n"


def _table(title: str, outcomes: Sequence[Outcome], key: Callable[[Outcome], str]) -> list[str]:
    rows = [
        f"| {title} | planted | found by outputs | right node | found by the account | right value | no effect |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in dict.fromkeys(map(key, outcomes)):
        those = [item for item in outcomes if key(item) == name]
        seen = [item for item in those if item.was_seen]
        account = [item for item in those if item.found_by == "account"]
        figures = (
            *(len(those), len(seen), sum(item.is_right for item in seen)),
            *(len(account), sum(item.is_right for item in account)),
            sum(not item.found_by and not item.is_escape for item in those),
        )
        rows.append(f"| {name} | {' | '.join(map(str, figures))} |")
    return rows


def _place(item: Outcome) -> str:
    at = f"`{item.value}`, read by `{item.planted}`" if item.value else f"`{item.planted}`"
    return f"{item.network}, {item.kind} at {at}"


def _count(outcomes: Sequence[Outcome], found_by: str) -> int:
    return sum(item.found_by == found_by for item in outcomes)


def _share(outcomes: Sequence[Outcome]) -> str:
    right = sum(item.is_right for item in outcomes)
    return f"{right:,} of {len(outcomes):,} ({right / len(outcomes):.1%})" if outcomes else "–"
