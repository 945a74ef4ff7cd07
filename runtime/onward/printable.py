"""Printable text: names, labels and metadata come from files; here they lose what a terminal or a page would obey.

Escaped are control characters (C0 with ESC and BEL, DEL, C1), marks that change the direction of text, line and
paragraph separators, and halves of surrogate pairs. A newline becomes `\\n`, so that a name cannot begin a line.

Source: Unicode Standard Annex 9, table 4, for the marks; ECMA-48 for the control characters.
"""

from __future__ import annotations

import html
import re

__all__ = ["escape_html", "escape_json", "printable"]

_C0 = "\x00-\x1f"
_BEYOND_C0 = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_OBEYED = re.compile(f"[{_C0}{_BEYOND_C0}]")
_OBEYED_IN_JSON = re.compile(f"[{_BEYOND_C0}]")


def printable(text: str) -> str:
    """The text on one line, with escapes as Python writes them: `\\x1b`, `\\u202e`, `\\n`."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def escape_json(document: str) -> str:
    """A document that `json.dumps` wrote without `ensure_ascii`, which equals this one and can be printed."""
    return _OBEYED_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def escape_html(text: str, *, quote: bool = True) -> str:
    """Text as a page shows it."""
    return html.escape(printable(text), quote)
