"""parity.html: the gate's answer as a page, the verdict in its first line."""

from onward_export.report.page import write_parity_page
from onward_export.report.ratios import parity_rows, ratio_charts

__all__ = ["parity_rows", "ratio_charts", "write_parity_page"]
