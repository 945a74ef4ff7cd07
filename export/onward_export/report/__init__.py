"""parity.html: the gate's answer as a page, the verdict in its first line."""

from onward_export.report.noise_ratios import parity_rows, ratio_charts
from onward_export.report.page import write_parity_page

__all__ = ["parity_rows", "ratio_charts", "write_parity_page"]
