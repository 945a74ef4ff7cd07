"""Charts: numbers become SVG that takes its colours from the page, in light and dark.

Drawn here rather than by a plotting library, because the runtime floor writes reports where nothing but
onnxruntime is installed (docs/decisions/0003-charts.md).
"""

from __future__ import annotations

from onward.report.charts.bars import bars, stacked
from onward.report.charts.canvas import picture, standalone
from onward.report.charts.heatmap import heatmap
from onward.report.charts.histogram import histogram, reliability
from onward.report.charts.lines import lines
from onward.report.charts.scatter import scatter
from onward.report.charts.violin import spans

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
