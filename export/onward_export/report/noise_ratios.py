"""Noise ratios: the largest errors over the noise floor as charts, all errors as histograms, and a table of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onward.parity import CONSTANT, MAX_NOISE_RATIO, MAX_RELATIVE_ERROR, Verdict
from onward.report import Page
from onward.report.charts import bars, histogram
from onward_export.gate import GateResult
from onward_export.report.results import ParityResults, format_ratio

__all__ = [
    "Histogram",
    "add_histograms",
    "add_measurements",
    "add_ratios",
    "make_histogram",
    "parity_rows",
    "ratio_charts",
]


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
    "agreement",
    "verdict",
)
#: Above this the axis is logarithmic, else the bars that pass are too low to be seen.
LOG_ABOVE = 30.0


def add_ratios(page: Page, results: ParityResults) -> None:
    """A chart for each output."""
    if results.is_measured:
        page.section(
            "Error against the noise floor",
            "The reference is the model in float64. The largest error of PyTorch's own float32 is the noise floor: 1 "
            f"on this axis. An artifact passes up to {MAX_NOISE_RATIO:g}.",
        )
    else:
        page.section(
            "No reference in float64",
            "This model cannot run in float64. PyTorch's float32 outputs are the reference, and "
            "torch.testing.assert_close "
            "at its defaults gives the verdict. The ratios here are over 4 units in the last place.",
        )
    page.figures(
        [
            (f"{output}, by kind of sample", chart)
            for output, chart in ratio_charts([item.verdict for item in results.artifacts])
        ]
    )


def add_measurements(page: Page, results: ParityResults) -> None:
    """The table of all comparisons."""
    page.section(
        "Every measurement",
        "The noise ratio is the largest error over PyTorch's own; the rms ratio is the same for root-mean-square "
        "errors. max |Δ| is the largest difference from PyTorch's float32. Constant images fail above "
        f"{MAX_RELATIVE_ERROR:g} of the largest output, because correct networks can be far above the noise floor on "
        "them.",
    )
    rows = parity_rows(results.artifacts)
    page.table(COLUMNS, rows, folded=f"{len(rows)} comparisons" if results.passed else "")


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


def parity_rows(results: Sequence[GateResult]) -> list[list[str]]:
    """A row for every comparison."""
    return [
        [item.artifact, row.output, f"{row.num_samples} {row.kind}", f"{row.error:.1e}"]
        + [f"{row.noise.floor:.1e}", format_ratio(row.noise_ratio), format_ratio(row.rms_ratio), f"{row.max_delta:.1e}"]
        + ["yes" if row.assert_close else "no", "–" if row.agreement is None else f"{row.agreement:.1%}"]
        + ["passed" if row.passed else "failed"]
        for item in results
        for row in item.verdict.comparisons
    ]


PYTORCH = "PyTorch"
#: Smaller errors are counted in the first bin; errors above 1e8 noise floors, and NaN, in the last.
LOWEST, HIGHEST = -4, 8
BINS_PER_DECADE = 5


@dataclass(frozen=True)
class Histogram:
    """Numbers of values by their error over the noise floor.

    Args:
        edges: The edges of the bins, from 1e-4 to a power of ten that no value exceeds, at least 10.
        counts: Name of the series -> one number for each bin.
    """

    edges: tuple[float, ...]
    counts: Mapping[str, tuple[int, ...]]


def make_histogram(series: Mapping[str, NDArray[np.float64]], *, highest: float = 0.0) -> Histogram:
    """Count values into bins of a fifth of a decade.

    Args:
        series: Name -> errors over the noise floor, of any shape.
        highest: The axis ends at this or higher.
    """
    last = min(math.ceil(math.log10(max(10.0, highest, _largest(series)))), HIGHEST)
    edges = np.logspace(LOWEST, last, (last - LOWEST) * BINS_PER_DECADE + 1)
    counts = {
        name: np.histogram(np.clip(np.nan_to_num(values, nan=np.inf), edges[0], edges[-1]), edges)[0]
        for name, values in series.items()
    }
    return Histogram(tuple(edges.tolist()), {name: tuple(item.tolist()) for name, item in counts.items()})


def add_histograms(page: Page, results: ParityResults) -> None:
    """A histogram for each artifact, all on the same axis, for the first output and any other that failed."""
    outputs = [name for name in results.outputs if name == results.outputs[0] or _has_failed(results, name)]
    pairs = [(item, output, _series(results, item, output)) for output in outputs for item in results.artifacts]
    highest = max(_largest(series) for _, _, series in pairs)
    page.section(
        "Distribution of the errors",
        "Every value of every sample, by its error over the noise floor. "
        + (
            "Values left of the line at 1 are within PyTorch's largest error. The artifact ran in batches of every "
            "size, PyTorch in its largest ones. The histogram of a correct artifact has the shape of PyTorch's."
            if results.is_measured
            else "PyTorch is the reference here and has no error of its own; the floor is 4 units in the last place."
        )
        + f" Errors below {10.0**LOWEST:g} are in the first bin.",
    )
    page.figures([_figure(item, output, series, highest) for item, output, series in pairs])


def _figure(
    item: GateResult, output: str, series: Mapping[str, NDArray[np.float64]], highest: float
) -> tuple[str, str]:
    made = make_histogram(series, highest=highest)
    chart = histogram(
        made.counts,
        edges=made.edges,
        x_label="error over the noise floor",
        marks={"1": 1.0, f"gate {MAX_NOISE_RATIO:g}": MAX_NOISE_RATIO},
    )
    return f"{item.artifact}: {series[item.artifact].size:,} {output}", chart


def _series(results: ParityResults, item: GateResult, output: str) -> dict[str, NDArray[np.float64]]:
    """PyTorch's errors and the artifact's, for all kinds that are judged by the noise floor."""
    eager = [results.eager_ratios(kind, output).ravel() for kind in results.kinds]
    given = [results.ratios(item, kind, output).ravel() for kind in results.kinds]
    # without a reference in float64 PyTorch is the reference, and has no error
    beside = {PYTORCH: np.concatenate(eager)} if results.is_measured else {}
    return beside | {item.artifact: np.concatenate(given)}


def _has_failed(results: ParityResults, output: str) -> bool:
    rows = [row for item in results.artifacts for row in item.verdict.comparisons]
    return any(row.output == output and row.kind != CONSTANT and not row.passed for row in rows)


def _largest(series: Mapping[str, NDArray[np.float64]]) -> float:
    finite = [values[np.isfinite(values)] for values in series.values()]
    return max((float(values.max()) for values in finite if values.size), default=0.0)
