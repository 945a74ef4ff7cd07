"""The `onward` command: the commands of this floor, and those that installed packages add.

A package adds a command with an entry point in the group `onward.commands`: its name is the command's, its object a
function such as Typer takes. The floors above add theirs in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer

from onward import __version__
from onward.cli.bench import bench
from onward.cli.commands import doctor, embed, inspect, verify
from onward.cli.console import app as make_app
from onward.cli.console import remark, run
from onward.cli.predict import predict

__all__ = ["COMMANDS_GROUP", "app", "build_app", "main"]

COMMANDS_GROUP = "onward.commands"
#: In the order of the work; commands of other packages follow by name.
ORDER = ("demo", "train", "evaluate", "export", "verify", "predict", "bench", "embed", "inspect", "doctor")


def build_app() -> typer.Typer:
    """Every command that is installed, as one Typer application."""
    application = make_app("Take a PyTorch image classifier from training to any place it has to run.")
    commands: dict[str, Callable[..., Any]] = {
        command.__name__: command for command in (verify, predict, bench, embed, inspect, doctor)
    }
    commands |= dict(_added_commands())
    for name in sorted(commands, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)):
        application.command(name)(commands[name])
    application.callback()(_options)
    return application


def main() -> None:
    """The `onward` command."""
    run(app, "onward")


def _added_commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Commands of other packages; one that cannot be imported is reported and left out."""
    for entry in entry_points(group=COMMANDS_GROUP):
        try:
            yield entry.name, entry.load()
        except (ImportError, AttributeError) as error:
            remark(f"onward: the command {entry.name!r} of {entry.value} cannot be imported: {error}")


def _print_version(value: bool) -> None:
    if value:
        print(f"onward {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take a PyTorch image classifier from training to any place it has to run."""


app = build_app()
