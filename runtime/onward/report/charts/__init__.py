"""Charts: SVG drawings of numbers; a report page sets their colours for light and dark mode.

There is no plotting library, because the runtime floor writes reports where only onnxruntime is installed
(docs/decisions/0003-charts.md).
"""

from __future__ import annotations

from onward.report.charts.bars import bars, stacked
from onward.report.charts.canvas import standalone
from onward.report.charts.classification import heatmap, reliability
from onward.report.charts.distributions import histogram, violin
from onward.report.charts.lines import lines
from onward.report.charts.scatter import scatter

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
