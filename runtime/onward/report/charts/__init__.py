"""Charts: SVG drawings of numbers; a report page sets their colours for light and dark mode.

There is no plotting library, because the runtime floor writes reports where only onnxruntime is installed
(docs/decisions/0003-charts.md).
"""

from __future__ import annotations

from onward.report.charts.bars import bars, stacked
from onward.report.charts.canvas import standalone
from onward.report.charts.heatmap import heatmap
from onward.report.charts.histogram import histogram, reliability
from onward.report.charts.lines import lines
from onward.report.charts.scatter import scatter
from onward.report.charts.violin import violin

__all__ = [
    "bars",
    "heatmap",
    "histogram",
    "lines",
    "reliability",
    "scatter",
    "stacked",
    "standalone",
    "violin",
]
