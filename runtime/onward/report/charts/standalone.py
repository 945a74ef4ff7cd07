"""Standalone: a chart outside of a page."""

from __future__ import annotations

from onward.report.colours import AROUND, SERIES

__all__ = ["standalone"]

#: Given to every chart; of the others those that it uses.
ALWAYS = ("ink", "line", "c0", "c1", "c2", "c3")


def standalone(svg: str) -> str:
    """A chart as a file of its own, with the colours that a page would give it, in light and dark."""
    colours = AROUND | {f"c{index}": pair for index, pair in enumerate(SERIES)}
    used = [*ALWAYS, *(name for name in colours if name not in ALWAYS and f"var(--{name})" in svg)]
    light, night = (";".join(f"--{name}:{colours[name][at]}" for name in used) for at in (0, 1))
    style = (
        f"<style>:root{{{light};font:11px system-ui,sans-serif;fill:var(--ink)}}"
        f"@media(prefers-color-scheme:dark){{:root{{{night}}}}}</style>"
    )
    head, _, body = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{style}{body}\n'
