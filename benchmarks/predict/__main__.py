"""`python -m benchmarks.predict [arrays] [jpegs] [cold] [memory]`: each prints one table. Part of `make bench`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.predict.options import Options
from onward.cli.console import app, remark, run
from onward.errors import UsageError

COMPARISONS = ("arrays", "jpegs", "cold", "memory")


def main(
    comparisons: Annotated[
        list[str] | None, typer.Argument(metavar="arrays|jpegs|cold|memory", help="By default all four.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="That count; by default 9, 7, 15 and 3.")] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="By default 60,000, 1,000 and, for memory, 1,000,000.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Keeps photographs and bundles for the next run.")] = None,
    network: Annotated[list[str] | None, typer.Option(help="Of jpegs, repeatable: a builder of torchvision.")] = None,
) -> None:
    """Measure `onward predict` beside its peers, in turns."""
    chosen = comparisons or list(COMPARISONS)
    unknown = [name for name in chosen if name not in COMPARISONS]
    if unknown:
        raise UsageError(f"there is no comparison {unknown[0]}, but {', '.join(COMPARISONS)}.")
    options = Options(rounds, images, folder, tuple(network or ()))
    for name in chosen:
        remark(name)
        importlib.import_module(f"benchmarks.predict.{name}").compare(options)


if __name__ == "__main__":
    application = app(main.__doc__ or "")
    application.command()(main)
    run(application, "python -m benchmarks.predict")
