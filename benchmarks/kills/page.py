"""Page: docs/kills.md, the table of commands and kills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.kills.tally import NOTHING, Tally

__all__ = ["page"]

RESULTS = (NOTHING, "the old result", "an epoch of the new run", "the new result", "damaged")


def page(tallies: Sequence[Tally], *, seed: int) -> str:
    """The whole page."""
    return "\n".join(_lines(tallies, seed))


def _lines(tallies: Sequence[Tally], seed: int) -> Iterator[str]:
    num_kills, num_broken = (sum(getattr(item, name) for item in tallies) for name in ("num_kills", "num_broken"))
    yield from (
        "# Killed runs",
        "",
        "`make kills` writes this page. It starts real commands, kills each with SIGKILL at a random moment, and looks",
        "at what is there. The law:",
        "",
        "1. After a kill, the output is the old result or the new one, whole: never a mixture. A checkpoint of `train`",
        "   is one whole epoch of one run; `train` and `predict` also keep the state from which `--resume` continues.",
        "2. A run that is resumed after up to five kills ends with the result of an undisturbed one: for `train` the",
        "   same weights, optimizer, history and metrics, bit for bit, but for the seconds that they took; for",
        "   `predict` the same rows and errors; for `export`, which starts over, the same artifacts.",
        "3. Beside the output a kill leaves only files of the kinds below. They block nothing, and the next run",
        "   continues with them or removes them.",
        "",
        f"With seed {seed}: **{num_kills} kills, {num_broken} of which broke the law**.",
        "",
        f"| command | kills | {' | '.join(RESULTS)} | could be resumed | completed runs | law broken |",
        f"| --- |{' ---: |' * (len(RESULTS) + 4)}",
    )
    for item in tallies:
        figures = (item.num_kills, *(item.results[name] for name in RESULTS), item.num_resumed, item.num_completed)
        yield f"| {item.command} | {' | '.join(map(str, figures))} | {item.num_broken} |"
    yield from (
        "",
        "Half of the runs replace the result of another run. The columns in the middle say what a kill left at the",
        "output. `predict` reads eight kinds of sources, with damaged images among them, and writes four kinds of",
        "files.",
        "",
        "| command | left beside the output | kills |",
        "| --- | --- | ---: |",
    )
    for item in tallies:
        for kind, count in sorted(item.leftovers.items()):
            yield f"| {item.command} | `{kind}` | {count} |"
    for item in tallies:
        yield from (f"- {item.command}, {line}" for line in item.broken)
    yield ""
