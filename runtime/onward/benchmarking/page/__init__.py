"""bench.html: what a bench found as a page, the verdict in its first sentence."""

from onward.benchmarking.page.page import write_page

__all__ = ["write_page"]
