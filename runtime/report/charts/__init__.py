"""Charts: numbers become SVG that takes its colours from the page, in light and dark.

Drawn here rather than by a plotting library, because the runtime floor writes reports where nothing but
onnxruntime is installed (docs/decisions/0003-charts.md).
"""

from __future__ import annotations

from runtime.report.charts.bars import bars
from runtime.report.charts.heatmap import heatmap
from runtime.report.charts.histogram import histogram
from runtime.report.charts.lines import lines
from runtime.report.charts.picture import picture
from runtime.report.charts.reliability import reliability
from runtime.report.charts.scatter import scatter
from runtime.report.charts.spans import spans
from runtime.report.charts.stacked import stacked
from runtime.report.charts.standalone import standalone

__all__ = [
    "bars",
    "heatmap",
    "histogram",
    "lines",
    "picture",
    "reliability",
    "scatter",
    "spans",
    "stacked",
    "standalone",
]
