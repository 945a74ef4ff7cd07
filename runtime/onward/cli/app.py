"""The `onward` command: the commands of this package, and those that other installed packages add."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from onward import __version__
from onward.cli.bench import bench
from onward.cli.commands import doctor, embed, verify
from onward.cli.console import add_command, run
from onward.cli.console import app as make_app
from onward.cli.extensions import COMMANDS_GROUP, load_extensions
from onward.cli.inspect import inspect
from onward.cli.predict import predict
from onward.cli.signing import keygen, sign

__all__ = ["app", "build_app", "main"]

#: In the order of the work; the commands of other packages follow, sorted by name.
ORDER = (
    *("demo", "train", "evaluate", "export", "verify", "predict", "bench", "embed"),
    *("keygen", "sign", "inspect", "doctor"),
)
HELP = "Take a PyTorch classifier from training to any place it has to run."


def build_app() -> typer.Typer:
    """Every installed command, as one Typer application."""
    application = make_app(HELP)
    commands: dict[str, Callable[..., Any]] = {
        command.__name__: command for command in (verify, predict, bench, embed, keygen, sign, inspect, doctor)
    }
    commands |= dict(load_extensions(COMMANDS_GROUP))
    for name in sorted(commands, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)):
        add_command(application, commands[name], name)
    application.callback(help=HELP)(_global_options)
    return application


def main() -> None:
    """Run the `onward` command."""
    run(app, "onward")


def _print_version(value: bool) -> None:
    if value:
        print(f"onward {__version__}")
        raise typer.Exit


def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app = build_app()
