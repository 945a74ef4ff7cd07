"""Page: docs/zoo.md and its charts, from the results of the campaign.

Each library has a section. The page keeps a section that has more results than the campaign: results are made anew when
the exporter changes, which takes hours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.zoo.bare import CULPRITS
from benchmarks.zoo.source import Member
from onward.parity import CONSTANT, MAX_NOISE_RATIO
from onward.report.charts import lines, standalone
from onward_export.stages import ONNX, PT2, TORCH_EXPORT, TORCHSCRIPT

__all__ = ["chart", "is_new", "page"]

TITLES = {"onnx": "ONNX", "torchscript": "TorchScript", "pt2": ".pt2"}
ORDER = ("torchvision", "timm")
COLUMNS = {
    "torchvision": (
        *("model", "parameters", "image", "noise ratio: ONNX, TorchScript, .pt2", "rms ratio", "on constant images"),
        *("ONNX file", "export", "nodes", "folds"),
    ),
    "timm": ("family", "model", "parameters", "image", "noise ratio: ONNX, TorchScript, .pt2", "export", "in all"),
}
Row = Mapping[str, Any]
Rows = Mapping[Member, Row]


def page(zoo: Sequence[Member], rows: Rows, before: str = "") -> str:
    """The page.

    Args:
        zoo: All members of the libraries that were run.
        rows: Member -> result, for completed members.
        before: The page as it is.
    """
    sections = []
    for library in ORDER:
        ours = [member for member in zoo if member.library == library]
        if ours and is_new(library, rows, before):
            text, num_results = _section(library, ours, rows), _num_results(library, rows)
        elif old := _old(library, before):
            text, num_results = old[2], int(old[1])
        else:
            continue
        sections.append(f"<!-- {library}: {num_results} results -->\n\n{text.strip()}\n\n<!-- end -->")
    return TEMPLATE.format(gate=f"{MAX_NOISE_RATIO:g}", sections="\n\n".join(sections))


def is_new(library: str, rows: Rows, before: str) -> bool:
    """Whether a library has at least as many results as its section of the page."""
    old = _old(library, before)
    return old is None or _num_results(library, rows) >= int(old[1])


def _old(library: str, before: str) -> re.Match[str] | None:
    return re.search(rf"<!-- {library}: (\d+) results -->\n(.*?)<!-- end -->", before, re.DOTALL)


def _num_results(library: str, rows: Rows) -> int:
    return sum(member.library == library for member in rows)


def chart(rows: Iterable[Row]) -> str:
    """The noise ratios of each format from the smallest to the largest, as SVG."""
    passed = [row for row in rows if row["outcome"] == "passed"]
    series = {title: sorted(_ratio(row, name) for row in passed) for name, title in TITLES.items()}
    series["the gate"] = [MAX_NOISE_RATIO] * len(passed)
    ranks = [float(rank) for rank in range(1, len(passed) + 1)]
    return standalone(lines(series, x=ranks, x_label="models, by noise ratio", y_label="noise ratio"))


def _section(library: str, zoo: Sequence[Member], rows: Rows) -> str:
    outcomes = Counter(_outcome(rows, member) for member in zoo)
    measured = [rows[member] for member in zoo if "artifacts" in rows.get(member, {})]
    table = [_cells(library, row) for row in sorted(measured, key=_key)]
    others = [cells for member in zoo if _outcome(rows, member) != "passed" for cells in _why_not(rows, member)]
    passed = [row for row in measured if row["outcome"] == "passed"]
    return SECTIONS[library].format(
        num_members=len(zoo),
        num_families=len({member.family for member in zoo}),
        num_run=len(zoo) - outcomes["open"] - outcomes["left out"],
        num_passed=outcomes["passed"],
        num_onnx=sum(_has(row, "onnx") for row in measured),
        num_partly=outcomes["partly"],
        num_refused=outcomes["refused"],
        num_failed=outcomes["failed"],
        num_open=outcomes["open"],
        distribution=_distributions(measured) if measured else "Nothing has passed yet.",
        chart=CHART.format(library=library) if passed else "",
        causes=_causes([rows[member] for member in zoo if member in rows]),
        table=_table(COLUMNS[library], table) if table else "None yet.",
        others=_others(others),
    )


def _key(row: Row) -> tuple[str, str]:
    return row["member"]["family"], row["member"]["name"]


def _outcome(rows: Rows, member: Member) -> str:
    if member.left_out:
        return "left out"
    return str(rows[member]["outcome"]) if member in rows else "open"


def _why_not(rows: Rows, member: Member) -> list[list[str]]:
    """Lines of the table of the others; one that was only not run yet has none where many were not."""
    if member.left_out:
        return [[member.name, "all", f"left out: {member.left_out}", ""]]
    if member not in rows:
        return []
    row = rows[member]
    if row["outcome"] == "failed":
        return [[member.name, "all", f"failed: {row['reason']}", ""]]
    formats: dict[str, list[str]] = {}
    for name, reason in row["reason"].items():
        formats.setdefault(reason, []).append(TITLES[name])
    return [
        [member.name, ", ".join(names), _cell(reason), _bare(row) if "ONNX" in names else ""]
        for reason, names in formats.items()
    ]


def _others(lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return "None."
    table = _table(("model", "format", "reason", "bare export"), lines)
    return table + BARE if any(line[-1] for line in lines) else table


def _bare(row: Row) -> str:
    """What `torch.onnx.export` and onnxruntime alone do."""
    if "bare" not in row:
        return ""
    bare = row["bare"]
    titles = {"ratio": "onnxruntime", "ratio_plain": "not optimised", "ratio_reference": "onnx's evaluator"}
    parts = [f"{title} {_number(bare[key])}" for key, title in titles.items() if key in bare]
    if "own_error" in bare:
        parts.append(f"PyTorch's own error {bare['own_error']:.0e} of the scale")
    if "error" in bare:
        parts.append(_cell(bare["error"]))
    return f"**{row['culprit']}**: {'; '.join(parts)}"


def _causes(rows: Sequence[Row]) -> str:
    """How many formats were refused for each cause; numbers and names do not count as different causes."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        if row["outcome"] == "failed":
            counts["all", _cause(row["reason"]), ""] += 1
        elif "reason" in row:
            for name, reason in row["reason"].items():
                counts[TITLES[name], _cause(reason), row.get("culprit", "") if name == "onnx" else ""] += 1
    if not counts:
        return "Nothing was refused."
    cells = [[cause, format, culprit, f"{count}"] for (format, cause, culprit), count in counts.most_common()]
    return _table(("cause", "format", "what is wrong", "models"), cells)


def _cause(reason: str) -> str:
    sentence = re.split(r"(?<=[.:;]) ", _cell(reason))[0] if len(reason) > 120 else _cell(reason)
    return re.sub(r"(?<![A-Za-z])\d[\d.,e+-]*\d|(?<![A-Za-z\d])\d", "N", re.sub(r"'[^']*'|`[^`]*`", "…", sentence))


def _cells(library: str, row: Row) -> list[str]:
    member = row["member"]
    native = "" if member["side"] == member["native_side"] else f" (native {member['native_side']})"
    export_s = sum(row["stages"].get(stage, 0) for stage in (TORCH_EXPORT, ONNX, PT2, TORCHSCRIPT))
    cells = {
        "family": str(member["family"]),
        "model": str(member["name"]),
        "parameters": f"{member['num_parameters'] / 1e6:,.1f} M",
        "image": f"{member['side']}{native}",
        "noise ratio: ONNX, TorchScript, .pt2": ", ".join(_number(_ratio(row, name)) for name in TITLES),
        "rms ratio": ", ".join(_number(_ratio(row, name, key="rms_ratio")) for name in TITLES),
        "on constant images": ", ".join(_number(_ratio(row, name, constant=True)) for name in TITLES),
        "ONNX file": f"{_artifact(row, 'onnx').get('size_bytes', 0) / 1e6:,.1f} MB",
        "export": f"{export_s:,.1f} s",
        "in all": f"{row['seconds']:,.1f} s",
        "nodes": f"{row.get('num_nodes', 0):,}",
        "folds": f"{row.get('num_folds', 0):,}",
    }
    return [cells[column] for column in COLUMNS[library]]


def _distributions(measured: Sequence[Row]) -> str:
    columns = ("", "models", "median", "90 %", "largest", "of", "at most 1", "at most 1.5", "at most 2")
    return _table(
        columns, [_distribution(measured, name) for name in TITLES if any(_has(row, name) for row in measured)]
    )


def _distribution(measured: Sequence[Row], name: str) -> list[str]:
    rows = [row for row in measured if _has(row, name)]
    ratios = np.array([_ratio(row, name) for row in rows])
    largest = rows[int(ratios.argmax())]["member"]["name"]
    shares = [f"{(ratios <= bound).mean():.0%}" for bound in (1, 1.5, 2)]
    middle = [f"{value:.2f}" for value in (np.median(ratios), np.quantile(ratios, 0.9), ratios.max())]
    return [TITLES[name], str(len(rows)), *middle, largest, *shares]


def _ratio(row: Row, name: str, *, key: str = "noise_ratio", constant: bool = False) -> float:
    """The largest over logits and probabilities; not a number without the format."""
    rows = [item for item in _artifact(row, name).get("rows", ()) if (item["kind"] == CONSTANT) == constant]
    return max((float(item[key]) for item in rows), default=np.nan)


def _has(row: Row, name: str) -> bool:
    return bool(_artifact(row, name))


def _artifact(row: Row, name: str) -> Row:
    return next((item for item in row["artifacts"] if item["name"] == name), {})


def _number(value: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = [columns, ["---"] * len(columns)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows])


CHART = "\n![Noise ratios of each format from the smallest to the largest](zoo-{library}.svg)\n"
TEMPLATE = """# The zoo: classifiers of torchvision and timm

Classifiers with random weights are exported under the gate, each in a process of its own. `make zoo` writes this page:
it runs for an hour, and continues where it was interrupted (`python -m benchmarks.zoo --help`).
`tests/export/test_zoo.py` does the same with a small family.

The weights are the library's random ones (seed 0), with two exceptions: a tensor of one repeated number is drawn at
random, and batch norm's statistics are those of a batch of images. `benchmarks/zoo/alive.py` says why. A trained
network is better conditioned than these.

A noise ratio is the larger one of logits and probabilities, over random images. The gate fails above {gate}. Ratios are
in the order ONNX, TorchScript, .pt2. *Export* is the time of `torch.export`, ONNX and .pt2, and the wait for
TorchScript.

{sections}
"""
OTHERS = """
### The others

{others}
"""
BARE = f"""

For a network that ONNX does not pass, the last columns tell what is wrong: {", ".join(CULPRITS[:-1])}
or {CULPRITS[-1]}. They come from `torch.onnx.export(dynamo=True)` without any code of Onward: the largest error of ONNX
against float64, over that of float32; by onnxruntime, by onnxruntime without its optimisations, and by onnx's own slow
evaluator."""
SECTIONS = {
    "torchvision": """## torchvision: every classification builder

Of {num_members} builders {num_passed} passed in every format; ONNX passed for {num_onnx}. {num_partly} passed in some
formats, {num_refused} were refused, {num_failed} did not end, {num_open} were not run. Networks that take long get
smaller images, as the table says.

{distribution}
{chart}
On constant images ratios are only reported: there an error must stay below 1e-4 of the output's scale, and
onnxruntime's means over planes of equal numbers use up some of it ([why](decisions/0010-gate.md)). *Folds* are the
initializers of the ONNX file that were computed from several of the checkpoint's tensors.

{table}

### Causes

{causes}
"""
    + OTHERS,
    "timm": """## timm: small networks of all its families

{num_members} networks of {num_families} families (timm's modules) are chosen by computation: the two smallest of each
family, then the smallest of each kind of name, then the third smallest of a family. Each has 10 classes and the
smallest images that it takes. {num_run} were run, {num_open} were not run yet. {num_passed} passed in every format;
ONNX passed for {num_onnx}. {num_partly} passed in some formats, {num_refused} were refused, {num_failed} did not end.

{distribution}
{chart}
### Causes

{causes}

### Every network of which a format passed

{table}
"""
    + OTHERS,
}
