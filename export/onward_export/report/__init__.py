"""Report: parity.html, the result of the gate as one page. Its first line is the verdict.

In the order of reading: results (what the page reports on), page (verdict, key figures and the order of the sections),
then the sections: artifacts (error along the graph, weights, passes), noise_ratios (charts, histograms, the table of
measurements), worst_samples, agreement, method (samples, files, preconditions of the reference).

The room draws what the gate measured. It measures and decides nothing.
"""

from onward_export.report.noise_ratios import parity_rows, ratio_charts
from onward_export.report.page import write_parity_page
from onward_export.report.results import Method

__all__ = ["Method", "parity_rows", "ratio_charts", "write_parity_page"]
