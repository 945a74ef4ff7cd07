"""Page: sections of text, tables, figures and pictures become one HTML file that needs no network."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onward.files import written_whole
from onward.printable import escape_html

__all__ = ["COLOURS", "SERIES", "UNCERTAIN", "Page", "Tile", "png_data_uri", "series_colour"]

#: A large figure: the figure, its caption, and `good`, `bad`, `UNCERTAIN` or nothing.
Tile = tuple[str, str, str]
UNCERTAIN = "uncertain"

#: (on a light page, on a dark page) for each series, in order. From the fifth on they are as far from each other and
#: from the rest as possible in OKLab, for normal sight and simulated deuteranopia and protanopia, with a contrast of at
#: least 3 to the background of charts (WCAG 2.2, 1.4.11).
#: Sources: B. Ottosson, "A perceptual color space for image processing", 2020; G. Machado and others, "A
#: physiologically-based model for simulation of color vision deficiency", 2009.
SERIES = (
    ("#2460d8", "#6ea0ff"),
    ("#d9570a", "#ff9757"),
    ("#14805e", "#4cc79f"),
    ("#8a3fc4", "#c48df0"),
    ("#ff349d", "#ffa5d2"),
    ("#0b9ac2", "#57d5ff"),
    ("#764f05", "#a5842b"),
    ("#000a69", "#1660ef"),
    ("#7a0032", "#c62a61"),
    ("#897eff", "#7f699f"),
    ("#464772", "#ffffeb"),
    ("#3b0000", "#bfff1b"),
)
#: Name -> (on a light page, on a dark page): the variables of the style sheet.
COLOURS = {
    "ink": ("#1b1f24", "#e6e8eb"),
    "line": ("#dfe3e8", "#333a42"),
    "soft": ("#5d6671", "#9aa4b0"),
    "panel": ("#f6f7f9", "#1d2126"),
    "bad": ("#c22b2b", "#ff7b72"),
    "good": ("#14805e", "#4cc79f"),
    "paper": ("#ffffff", "#14171a"),
} | {f"c{index}": pair for index, pair in enumerate(SERIES)}
#: A longer cell counts as words, not as a figure.
LONGEST_FIGURE = 16
STYLE = """
* { box-sizing: border-box } body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 40px 20px 80px }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em }
h2 { font-size: 19px; margin: 0 0 4px }
p { margin: 0 0 10px; color: var(--soft); max-width: 76ch } .lead { font-size: 17px; color: var(--ink) }
section { margin-top: 34px } .figures { display: flex; flex-wrap: wrap; gap: 16px;
  align-items: flex-start; margin: 12px 0 }
figure { margin: 0; padding: 14px; background: var(--panel); border-radius: 10px; flex: 1 1 320px; min-width: 0;
  max-width: 720px }
figcaption { font-size: 13px; color: var(--soft); margin-bottom: 6px }
svg { display: block; width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: var(--ink) }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: 14px }
th, td { text-align: right; padding: 5px 8px; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { font-weight: 600; color: var(--soft); font-size: 13px }
.w2 th:nth-child(2), .w2 td:nth-child(2) { text-align: left; white-space: normal }
.w3 th:nth-child(3), .w3 td:nth-child(3) { text-align: left; white-space: normal }
.w4 th:nth-child(4), .w4 td:nth-child(4) { text-align: left; white-space: normal }
.w5 th:nth-child(5), .w5 td:nth-child(5) { text-align: left; white-space: normal }
.w6 th:nth-child(6), .w6 td:nth-child(6) { text-align: left; white-space: normal }
.w7 th:nth-child(7), .w7 td:nth-child(7) { text-align: left; white-space: normal }
.w8 th:nth-child(8), .w8 td:nth-child(8) { text-align: left; white-space: normal }
.w9 th:nth-child(9), .w9 td:nth-child(9) { text-align: left; white-space: normal }
.w10 th:nth-child(10), .w10 td:nth-child(10) { text-align: left; white-space: normal }
.w11 th:nth-child(11), .w11 td:nth-child(11) { text-align: left; white-space: normal }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 22px 0 0 }
.tile { background: var(--panel); border-radius: 10px; padding: 12px 16px; flex: 1 1 150px }
.tile b { display: block; font-size: 24px; letter-spacing: -.01em }
.tile b.uncertain { font-size: 15px; font-weight: 500; color: var(--soft); line-height: 36px }
.tile span { color: var(--soft); font-size: 13px }
.good { color: var(--good) } .bad { color: var(--bad) }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 12px }
.card { background: var(--panel); border-radius: 10px; padding: 10px; display: flex; gap: 10px;
  flex-wrap: wrap } .samples .card { flex-wrap: nowrap }
.card img { width: 72px; height: 72px; image-rendering: pixelated; object-fit: cover; border-radius: 6px; flex: none }
.card ol { list-style: none; margin: 0; padding: 0; flex: 1; min-width: 0; font-size: 12px }
.card small { flex: 0 0 100%; margin-top: -4px; font-size: 11px; line-height: 1.3; color: var(--soft);
  overflow-wrap: anywhere }
.card li { position: relative; padding: 1px 4px; margin-bottom: 3px; border-radius: 3px; overflow: hidden;
  display: flex; justify-content: space-between; gap: 6px } .card li i { position: absolute; inset: 0 auto 0 0;
  background: var(--c0); opacity: .25 } .card li.bad i { background: var(--bad) }
.card li b { font-weight: 500; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.samples { grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)) }
.card .none { width: 72px; height: 72px; flex: none; border: 1px dashed var(--line); border-radius: 6px; padding: 4px;
  font-size: 11px; line-height: 1.25; color: var(--soft); display: grid; place-items: center; text-align: center }
.card p { margin: 0; font-size: 12px; line-height: 1.45; min-width: 0; overflow-wrap: anywhere }
.card p b { color: var(--ink); font-size: 13px }
ul { margin: 0 0 10px; padding-left: 20px; max-width: 90ch } li { margin: 2px 0 }
.wide + .wide, .wide + ul { margin-top: 18px } details { margin: 8px 0 } summary { cursor: pointer; color: var(--soft) }
.names { columns: 300px; font-size: 13px; max-width: none; overflow-wrap: anywhere }
code { font: .92em ui-monospace, monospace }
footer { margin-top: 50px; font-size: 13px; color: var(--soft); border-top: 1px solid var(--line); padding-top: 12px }
"""


class Page:
    """A report that grows section by section.

    Args:
        title: The heading.
        lead: One sentence with the verdict.
        mood: `good` or `bad` colours the heading.
    """

    def __init__(self, title: str, lead: str, *, mood: str = "") -> None:
        self.title = title
        self.parts = [
            f'<h1 class="{mood}">{escape_html(title)}</h1>' if mood else f"<h1>{escape_html(title)}</h1>",
            f'<p class="lead">{_marked(lead)}</p>',
        ]

    def tiles(self, tiles: Sequence[Tile]) -> None:
        """Add large figures; uncertain ones are small and grey."""
        cells = "".join(
            f'<div class="tile"><b class="{mood}">{escape_html(figure)}</b><span>{escape_html(what)}</span></div>'
            for figure, what, mood in tiles
        )
        self.parts.append(f'<div class="tiles">{cells}</div>')

    def section(self, heading: str, text: str = "") -> None:
        """Start a section."""
        paragraph = f"<p>{_marked(text)}</p>" if text else ""
        self.parts.append(f"<section><h2>{escape_html(heading)}</h2>{paragraph}</section>")

    def figures(self, figures: Sequence[tuple[str, str]]) -> None:
        """Add figures side by side: (caption, SVG)."""
        cells = "".join(
            f"<figure><figcaption>{escape_html(caption)}</figcaption>{svg}</figure>" for caption, svg in figures
        )
        self.parts.append(f'<div class="figures">{cells}</div>')

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, folded: str = "") -> None:
        """Add a table: words left-aligned, figures right-aligned; a cell `passed` or `failed` is coloured.

        Args:
            columns: Their names.
            rows: A cell for each column.
            folded: If given, the table is behind this summary until the reader opens it.
        """
        moods = {"passed": ' class="good"', "failed": ' class="bad"'}
        head = "".join(f"<th>{escape_html(column)}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(f"<td{moods.get(cell, '')}>{escape_html(cell)}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        words = " ".join(f"w{at}" for at, cells in enumerate(zip(*rows, strict=True), 1) if any(map(_is_words, cells)))
        table = f'<table class="{words}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        whole = f'<div class="wide">{table}</div>'
        self.parts.append(f"<details><summary>{escape_html(folded)}</summary>{whole}</details>" if folded else whole)

    def cards(self, cards: Sequence[tuple[str, str, Sequence[tuple[str, float, bool]], str]]) -> None:
        """Add pictures with probabilities as bars: (data URI, alternative text, (label, share, wrong) each, file).

        The file may be empty.
        """
        self.parts.append(f'<div class="cards">{"".join(_card(*card) for card in cards)}</div>')

    def samples(self, samples: Sequence[tuple[str, str, Sequence[str]]]) -> None:
        """Add pictures with lines of text, the first one bold: (data URI, alternative text, lines).

        If the URI is empty, the alternative text replaces the picture.
        """
        cells = "".join(_sample(*sample) for sample in samples)
        self.parts.append(f'<div class="cards samples">{cells}</div>')

    def points(self, points: Sequence[str]) -> None:
        """Add a list of short texts."""
        items = "".join(f"<li>{_marked(point)}</li>" for point in points)
        self.parts.append(f"<ul>{items}</ul>")

    def details(self, summary: str, names: Sequence[str]) -> None:
        """Add a list that is folded until the reader opens it."""
        items = "".join(f"<li>{escape_html(name)}</li>" for name in names)
        self.parts.append(f'<details><summary>{escape_html(summary)}</summary><ul class="names">{items}</ul></details>')

    def footer(self, text: str) -> None:
        """Add the footer: what made this page."""
        self.parts.append(f"<footer>{_marked(text)}</footer>")

    def render(self) -> str:
        """The whole document."""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape_html(self.title)}</title><style>{_root()}{STYLE}</style></head>\n"
            f"<body><main>{chr(10).join(self.parts)}</main></body></html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the document, completely or not at all.

        Raises:
            OutputError: The path cannot be written, or the disk is full.
        """
        with written_whole(path) as staged:
            staged.write_text(self.render(), encoding="utf-8")


def _root() -> str:
    colours = " ".join(f"--{name}: light-dark({light}, {dark});" for name, (light, dark) in COLOURS.items())
    return f"\n:root {{ color-scheme: light dark; {colours} }}"


def _marked(text: str) -> str:
    """The text in HTML, with `code` in backticks as in Markdown."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape_html(text))


def _is_words(cell: str) -> bool:
    """Whether a cell is more than a figure or one short word."""
    return len(cell) > LONGEST_FIGURE and not cell[0].isdigit()


def _card(picture: str, alternative: str, bars: Sequence[tuple[str, float, bool]], file: str) -> str:
    items = "".join(
        f'<li class="{"bad" if wrong else ""}"><i style="width:{100 * share:.1f}%"></i>'
        f"<b>{escape_html(label)}</b><span>{share:.1%}</span></li>"
        for label, share, wrong in bars
    )
    name = f"<small>{escape_html(file)}</small>" if file else ""
    return f'<div class="card"><img src="{picture}" alt="{escape_html(alternative)}"><ol>{items}</ol>{name}</div>'


def _sample(picture: str, alternative: str, lines: Sequence[str]) -> str:
    image = (
        f'<img src="{picture}" alt="{escape_html(alternative)}">'
        if picture
        else f'<div class="none">{escape_html(alternative)}</div>'
    )
    first, *others = (escape_html(line) for line in lines)
    text = "".join(f"<br>{line}" for line in others)
    return f'<div class="card">{image}<p><b>{first}</b>{text}</p></div>'


def series_colour(index: int) -> str:
    """The colour of the series at that index; the colours repeat after the last one."""
    return f"var(--c{index % len(SERIES)})"


def png_data_uri(image: NDArray[np.uint8], *, max_side_px: int | None = None) -> str:
    """Encode an image as a PNG data URI.

    Args:
        image: uint8 `(height, width, channels)`.
        max_side_px: A larger image is scaled down to this side length.
    """
    data = io.BytesIO()
    shown = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if max_side_px is not None:
        shown.thumbnail((max_side_px, max_side_px), Image.Resampling.BOX)
    shown.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
