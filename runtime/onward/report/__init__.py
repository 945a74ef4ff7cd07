"""Report pages: one self-contained HTML file each, with inline SVG, readable in light and dark, offline."""

from onward.report.page import Page

__all__ = ["Page"]
