"""Page: docs/zoo.md and its chart, from the results of the campaign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.zoo.member import NUM_SAMPLES, Member
from onward.parity import CONSTANT, MAX_NOISE_RATIO
from onward.report.charts import lines, standalone

__all__ = ["chart", "page"]

TITLES = {"onnx": "ONNX", "torchscript": "TorchScript", "pt2": ".pt2"}
COLUMNS = ("model", "parameters", "image", "noise ratio: ONNX, TorchScript, .pt2", "rms ratio", "on constant images")
COLUMNS_RIGHT = ("ONNX file", "export", "nodes", "folds")
Row = Mapping[str, Any]


def page(zoo: Sequence[Member], rows: Mapping[str, Row]) -> str:
    """The page.

    Args:
        zoo: All members.
        rows: Name -> result, for completed members.
    """
    passed = [rows[member.name] for member in zoo if _outcome(rows, member) == "passed"]
    table = [[*COLUMNS, *COLUMNS_RIGHT], ["---"] * len(COLUMNS) + ["---:"] * len(COLUMNS_RIGHT)]
    table += [_cells(row) for row in sorted(passed, key=lambda row: str(row["member"]["name"]))]
    others = [["model", "reason"], ["---", "---"]]
    others += [[member.name, _why_not(rows, member)] for member in zoo if _outcome(rows, member) != "passed"]
    distribution = [["", "median", "90 %", "largest", "of", "at most 1", "at most 1.5", "at most 2"], ["---"] * 8]
    distribution += [_distribution(passed, name) for name in TITLES if passed]
    return TEMPLATE.format(
        num_passed=len(passed),
        num_refused=sum(_outcome(rows, member) == "refused" for member in zoo),
        num_members=len(zoo),
        num_open=sum(_outcome(rows, member) in ("failed", "open", "left out") for member in zoo),
        num_samples=NUM_SAMPLES,
        gate=f"{MAX_NOISE_RATIO:g}",
        distribution=_table(distribution),
        table=_table(table),
        others=_table(others) if len(others) > 2 else "None.",
    )


def chart(rows: Iterable[Row]) -> str:
    """The noise ratios of each format from the smallest to the largest, as SVG."""
    passed = [row for row in rows if row["outcome"] == "passed"]
    series = {title: sorted(_ratio(row, name) for row in passed) for name, title in TITLES.items()}
    series["the gate"] = [MAX_NOISE_RATIO] * len(passed)
    ranks = [float(rank) for rank in range(1, len(passed) + 1)]
    return standalone(lines(series, x=ranks, x_label="models, by noise ratio", y_label="noise ratio"))


def _outcome(rows: Mapping[str, Row], member: Member) -> str:
    if member.left_out:
        return "left out"
    return str(rows[member.name]["outcome"]) if member.name in rows else "open"


def _why_not(rows: Mapping[str, Row], member: Member) -> str:
    if member.left_out:
        return f"left out: {member.left_out}"
    if member.name not in rows:
        return f"not run: the time budget ended before ({member.gmacs:,.2f}e9 multiply-adds an image)."
    row = rows[member.name]
    return f"{row['outcome']}: {row['reason']}"


def _cells(row: Row) -> list[str]:
    member = row["member"]
    native = "" if member["side"] == member["native_side"] else f" (native {member['native_side']})"
    return [
        member["name"],
        f"{member['num_parameters'] / 1e6:,.1f} M",
        f"{member['side']}{native}",
        ", ".join(f"{_ratio(row, name):.2f}" for name in TITLES),
        ", ".join(f"{_ratio(row, name, key='rms_ratio'):.2f}" for name in TITLES),
        ", ".join(f"{_ratio(row, name, constant=True):.2f}" for name in TITLES),
        f"{_artifact(row, 'onnx')['size_bytes'] / 1e6:,.1f} MB",
        f"{row['export_s']:,.1f} s",
        f"{row['num_nodes']:,}",
        f"{row['num_folds']:,}",
    ]


def _distribution(passed: Sequence[Row], name: str) -> list[str]:
    ratios = np.array([_ratio(row, name) for row in passed])
    largest = passed[int(ratios.argmax())]["member"]["name"]
    shares = [f"{(ratios <= bound).mean():.0%}" for bound in (1, 1.5, 2)]
    middle = [f"{value:.2f}" for value in (np.median(ratios), np.quantile(ratios, 0.9), ratios.max())]
    return [TITLES[name], *middle, largest, *shares]


def _ratio(row: Row, name: str, *, key: str = "noise_ratio", constant: bool = False) -> float:
    """The largest over logits and probabilities."""
    rows = [item for item in _artifact(row, name)["rows"] if (item["kind"] == CONSTANT) == constant]
    return max(float(item[key]) for item in rows)


def _artifact(row: Row, name: str) -> Row:
    found: Row = next(item for item in row["artifacts"] if item["name"] == name)
    return found


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


TEMPLATE = """# The zoo: every classification builder of torchvision

Each of torchvision's {num_members} classification builders, with random weights, was exported under the gate in a
process of its own. {num_passed} passed in every format, {num_refused} were refused, {num_open} were not run or did
not end. `make zoo` writes this page within an hour on two cores, and continues where it was interrupted.
`tests/export/test_zoo.py` does the same with a small family.

The weights are torchvision's random ones (seed 0), with two exceptions: a tensor of one repeated number is drawn at
random, and batch norm's statistics are those of a batch of images. `benchmarks/zoo/alive.py` says why. A trained
network is better conditioned than these. Each network gets {num_samples} images of random pixels and the five
constant ones, in batches of 1, 2, 7 and 16. Networks that take long get smaller images, as the table says.

## Noise ratios

The larger ratio of logits and probabilities, over random images. The gate fails above {gate}.

{distribution}

![Noise ratios of each format from the smallest to the largest](zoo.svg)

## Every model that passed

Ratios are in the order ONNX, TorchScript, .pt2. On constant images they are only reported: there an error must stay
below 1e-4 of the output's scale, and onnxruntime's means over planes of equal numbers use up some of it
([why](decisions/0010-gate.md)). *Export* is the time of `torch.export`, ONNX and .pt2, and the wait for TorchScript.
*Folds* are the initializers of the ONNX file that were computed from several of the checkpoint's tensors.

{table}

## The others

{others}
"""
