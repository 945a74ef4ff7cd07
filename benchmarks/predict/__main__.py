"""`python -m benchmarks.predict [arrays] [jpegs] [cold] [memory]`: each prints one table. Part of `make bench`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.predict.options import ComparisonOptions
from onward.cli.console import app, remark, run
from onward.errors import UsageError

COMPARISONS = ("arrays", "jpegs", "cold", "memory")


def main(
    comparisons: Annotated[
        list[str] | None, typer.Argument(metavar="arrays|jpegs|cold|memory", help="Default: all four.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds; default 9, 7, 15 and 3.")] = None,
    images: Annotated[
        int | None,
        typer.Option(min=1, help="Images; default 60,000 for arrays, 1,000 for jpegs, 1,000,000 for memory."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder that keeps photographs and bundles for the next run.")
    ] = None,
    network: Annotated[list[str] | None, typer.Option(help="A torchvision network for jpegs; repeatable.")] = None,
) -> None:
    """Compare `onward predict` with its peers."""
    chosen = comparisons or list(COMPARISONS)
    unknown = [name for name in chosen if name not in COMPARISONS]
    if unknown:
        raise UsageError(f"unknown comparison {unknown[0]!r}, expected one of {', '.join(COMPARISONS)}.")
    options = ComparisonOptions(rounds, images, folder, tuple(network or ()))
    for name in chosen:
        remark(name)
        importlib.import_module(f"benchmarks.predict.{name}").compare(options)


if __name__ == "__main__":
    application = app(main.__doc__ or "")
    application.command()(main)
    run(application, "python -m benchmarks.predict")
