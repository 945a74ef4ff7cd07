"""`python -m benchmarks.bench peers|handmade|pairs`: each prints one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.bench.handmade import compare_with_handmade
from benchmarks.bench.pairs import time_pairs
from benchmarks.bench.peers import compare_with_peers
from onward.cli.console import app, run
from onward.errors import UsageError

COMPARISONS = {"peers": compare_with_peers, "handmade": compare_with_handmade, "pairs": time_pairs}


def main(
    comparison: Annotated[str, typer.Argument(metavar="peers|handmade|pairs")],
    folder: Annotated[Path, typer.Option(help="Keeps bundles and reports for the next run.")] = Path("artifacts/bench"),
) -> None:
    """Put `onward bench` to the test."""
    if comparison not in COMPARISONS:
        raise UsageError(f"unknown comparison {comparison!r}: expected {', '.join(COMPARISONS)}.")
    folder.mkdir(parents=True, exist_ok=True)
    COMPARISONS[comparison](folder)


if __name__ == "__main__":
    application = app(main.__doc__ or "")
    application.command()(main)
    run(application, "python -m benchmarks.bench")
