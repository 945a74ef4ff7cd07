"""parity.html: the gate's answer as a page, the verdict in its first line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.explanation import add_explanation
from export.gate import Examination
from export.passes import PassResult
from runtime.parity import CONSTANT, MAX_NOISE_RATIO, Verdict
from runtime.report import Page
from runtime.report.charts import bars

__all__ = ["ratio_charts", "write_parity_page"]

COLUMNS = (
    "artifact",
    "output",
    "images",
    "largest error",
    "PyTorch's own",
    "noise ratio",
    "rms ratio",
    "max |Δ| PyTorch",
    "assert_close",
    "top-1 agreement",
    "verdict",
)


def write_parity_page(path: Path, title: str, examinations: Sequence[Examination]) -> None:
    """Write the page.

    Args:
        path: Where to.
        title: What the model is.
        examinations: Of each artifact.
    """
    worst = max(item.verdict.noise_ratio for item in examinations)
    passed = all(item.passed for item in examinations)
    verdict = (
        f"Passed: no artifact is further from the mathematical model than {worst:.2f} times PyTorch's own error."
        if passed
        else f"Failed: an artifact is up to {worst:.1f} times PyTorch's own error from the mathematical model."
    )
    page = Page(title, verdict)
    page.section(
        "Error against the noise floor",
        "The reference is the model in float64. PyTorch's float32 is some way from it: the noise floor, 1 on this "
        f"axis. An artifact may be up to {MAX_NOISE_RATIO:g} times as far.",
    )
    page.figures(
        [
            (f"{output}, by kind of image", chart)
            for output, chart in ratio_charts([item.verdict for item in examinations])
        ]
    )
    if not all(row.noise.is_measured for item in examinations for row in item.verdict.comparisons):
        page.section(
            "No reference in float64",
            "This model cannot run in float64, so PyTorch's float32 is the reference and torch.testing.assert_close "
            "at its defaults is the verdict. The ratios here are over 4 units in the last place.",
        )
    page.section("Every measurement")
    page.table(COLUMNS, parity_rows(examinations))
    page.section("Weights", "Every stored value is the checkpoint's, bit for bit, or a stated fold of it.")
    page.table(
        ["artifact", "equal bit for bit", "rearranged", "folds", "scalars of the graph", "unexplained"],
        [
            [item.artifact, str(item.weights.num_exact), str(item.weights.num_rearranged)]
            + [str(len(item.weights.folds)), str(item.weights.num_scalars), str(len(item.weights.strangers))]
            for item in examinations
        ],
    )
    passes = [result for item in examinations for result in item.passes]
    if passes:
        page.section(
            "Passes",
            "What was done to the ONNX graph, each step on a copy that was measured on a few samples. A step that "
            "would take the noise ratio above 2 was left out.",
        )
        page.table(["pass", "places", "noise ratio before", "after", "kept", ""], [_pass_row(item) for item in passes])
    for item in examinations:
        if item.explanation is not None:
            add_explanation(page, item.explanation)
    page.write(path)


def ratio_charts(verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    """A chart of noise ratios for each output: its name, and the SVG."""
    outputs = list(dict.fromkeys(row.output for verdict in verdicts for row in verdict.comparisons))
    return [(output, _ratio_chart(verdicts, output)) for output in outputs]


def _ratio_chart(verdicts: Sequence[Verdict], output: str) -> str:
    ratios = {
        verdict.artifact: {
            row.kind: row.noise_ratio for row in verdict.comparisons if row.output == output and row.kind != CONSTANT
        }
        for verdict in verdicts
    }
    return bars(ratios, y_label="noise ratio", rule=MAX_NOISE_RATIO)


def _pass_row(item: PassResult) -> list[str]:
    ratios = ["–" if ratio is None else f"{ratio:.2f}" for ratio in (item.noise_ratio_before, item.noise_ratio_after)]
    return [item.name, str(item.num_applied), *ratios, "yes" if item.was_kept else "no", item.reason]


def parity_rows(examinations: Sequence[Examination]) -> list[list[str]]:
    """A row for every comparison."""
    return [
        [item.artifact, row.output, f"{row.num_samples} {row.kind}", f"{row.error:.1e}"]
        + [f"{row.noise.floor:.1e}", f"{row.noise_ratio:.2f}", f"{row.rms_ratio:.2f}", f"{row.max_delta:.1e}"]
        + ["yes" if row.assert_close else "no", f"{row.top1_agreement:.1%}", "passed" if row.passed else "failed"]
        for item in examinations
        for row in item.verdict.comparisons
    ]
