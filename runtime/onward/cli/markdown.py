"""Markdown: tables and lines of an answer, as the summary of a job in CI shows them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from onward.files import cannot_write
from onward.printable import escape_html

__all__ = ["Table", "append_markdown", "markdown_of"]

#: Columns and rows, as `onward.cli.console.print_table` takes them.
Table = tuple[Sequence[str], Sequence[Sequence[str]]]
#: What Markdown takes for more than text; `<`, `>` and `&` are HTML's.
SPECIAL = re.compile(r"[\\`*_\[\]|#~]")
#: The empty line between two items of a list.
BETWEEN_ITEMS = re.compile(r"^(- .*\n)\n(?=- )", re.MULTILINE)


def markdown_of(title: str, parts: Iterable[Table | str]) -> str:
    """A section: a heading, the tables, and each line as a paragraph, or as an item of a list if it is indented."""
    blocks = [f"### {_escape(title)}", *(_line(part) if isinstance(part, str) else _table(*part) for part in parts)]
    return BETWEEN_ITEMS.sub(r"\1", "".join(f"{block}\n\n" for block in blocks))


def append_markdown(path: Path, text: str) -> None:
    """Add text to the end of a file.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise cannot_write(path, error) from error


def _line(text: str) -> str:
    return f"- {_escape(text)}" if text.startswith(" ") else _escape(text)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    names = [_escape(column.removeprefix(">")) for column in columns]
    alignment = ["---:" if column.startswith(">") else "---" for column in columns]
    return "\n".join(_lines([names, alignment, *([_escape(cell) for cell in row] for row in rows)]))


def _lines(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    return (f"| {' | '.join(cells)} |" for cells in rows)


def _escape(text: str) -> str:
    """Text of names and messages as nothing but text."""
    return SPECIAL.sub(r"\\\g<0>", escape_html(text.strip(), quote=False))
