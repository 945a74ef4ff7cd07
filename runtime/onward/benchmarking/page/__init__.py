"""Page: a report as one HTML file, with the verdict in its first sentence."""

from onward.benchmarking.page.page import write_page

__all__ = ["write_page"]
