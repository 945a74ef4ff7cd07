"""Ratios: the largest errors over the noise floor, as charts, and every measurement as a table."""

from __future__ import annotations

from collections.abc import Sequence

from onward.parity import CONSTANT, MAX_NOISE_RATIO, MAX_RELATIVE_ERROR, Verdict
from onward.report import Page
from onward.report.charts import bars
from onward_export.gate import Examination
from onward_export.report.evidence import Evidence
from onward_export.report.headline import times

__all__ = ["add_measurements", "add_ratios", "parity_rows", "ratio_charts"]

COLUMNS = (
    "artifact",
    "output",
    "samples",
    "largest error",
    "PyTorch's own",
    "noise ratio",
    "rms ratio",
    "max |Δ|",
    "assert_close",
    "top-1 agrees",
    "verdict",
)
#: Above this the bars that pass would be too low to be seen.
LOG_ABOVE = 30.0


def add_ratios(page: Page, evidence: Evidence) -> None:
    """A chart for each output."""
    if evidence.is_measured:
        page.section(
            "Error against the noise floor",
            "The reference is the model in float64. PyTorch's float32 is some way from it: its largest error is the "
            f"noise floor, 1 on this axis. An artifact may be up to {MAX_NOISE_RATIO:g} times as far.",
        )
    else:
        page.section(
            "No reference in float64",
            "This model cannot run in float64, so PyTorch's float32 is the reference and torch.testing.assert_close "
            "at its defaults is the verdict. The ratios here are over 4 units in the last place.",
        )
    page.figures(
        [
            (f"{output}, by kind of sample", chart)
            for output, chart in ratio_charts([item.verdict for item in evidence.examinations])
        ]
    )


def add_measurements(page: Page, evidence: Evidence) -> None:
    """The table of all comparisons."""
    page.section(
        "Every measurement",
        "The noise ratio is the largest error over PyTorch's own, the rms ratio the same of root-mean-square errors; "
        "max |Δ| is the largest difference from PyTorch's float32. "
        f"Constant images are judged by scale: they fail above {MAX_RELATIVE_ERROR:g} of the largest output, because "
        "correct networks can be far from the floor on them.",
    )
    page.table(COLUMNS, parity_rows(evidence.examinations))


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
    is_wide = any(ratio > LOG_ABOVE for by_kind in ratios.values() for ratio in by_kind.values())
    return bars(ratios, y_label="noise ratio", rule=MAX_NOISE_RATIO, log_y=is_wide)


def parity_rows(examinations: Sequence[Examination]) -> list[list[str]]:
    """A row for every comparison."""
    return [
        [item.artifact, row.output, f"{row.num_samples} {row.kind}", f"{row.error:.1e}"]
        + [f"{row.noise.floor:.1e}", times(row.noise_ratio), times(row.rms_ratio), f"{row.max_delta:.1e}"]
        + ["yes" if row.assert_close else "no", f"{row.top1_agreement:.1%}", "passed" if row.passed else "failed"]
        for item in examinations
        for row in item.verdict.comparisons
    ]
