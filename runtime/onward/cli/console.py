"""Console: options, tables, errors and signals in the same way for every command.

Standard output holds the answer only. Remarks go to standard error, and so does progress (`progress.py`). Whatever is
printed passes here: control characters in it are escaped (`onward.printable`).
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from onward.errors import OnwardError, missing_extra
from onward.printable import escape_json, printable

__all__ = [
    "ArtifactName",
    "AsJson",
    "BundlePath",
    "Interruption",
    "LabelsAre",
    "Overwrite",
    "ProviderName",
    "SignerKey",
    "TrustWord",
    "add_command",
    "app",
    "interruptible",
    "print_json",
    "print_table",
    "remark",
    "run",
    "say",
    "say_next",
]

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that `onward export` wrote.")]
LabelsAre = Annotated[
    str | None,
    typer.Option(
        "--labels-are",
        metavar="names|indices",
        help="What a column or array of labels, or a .cls file, holds: names of classes, or indices from 0. Needed "
        "only if the model's labels are numbers themselves.",
    ),
]
ArtifactName = Annotated[
    str,
    typer.Option(
        "--artifact",
        help="Name of the bundle's artifact to run: onnx, or one of lower precision, such as onnx-int8; or torchscript "
        "or pt2, which need PyTorch.",
    ),
]
ProviderName = Annotated[
    str,
    typer.Option(
        help="Execution provider: cpu, cuda, tensorrt, openvino, coreml, directml or a full name. A single provider is "
        "strict; `cuda,cpu` lets the CPU run what CUDA cannot."
    ),
]
TrustWord = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Open .pt2 and TorchScript files, too, which can run code: you trust whoever made the bundle. Not needed "
        "for what you exported on this machine.",
    ),
]
SignerKey = Annotated[
    Path | None,
    typer.Option(
        "--key",
        envvar="ONWARD_KEY",
        metavar="PUBLIC_KEY",
        help="The bundle must be signed by this key; it is trusted then, as with --trust.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file of --html, if there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

#: The exit code of a program whose standard output nobody reads any more: that of the signal SIGPIPE in shells.
READER_HAS_GONE = 141


def app(help: str) -> typer.Typer:
    """A Typer application with the options that all commands of Onward share."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def add_command(application: typer.Typer, function: Callable[..., Any], name: str | None = None) -> None:
    """Make a command of a function. Its docstring is the help; a last section `Examples:` stands below the options."""
    text, _, examples = (inspect.getdoc(function) or "").partition("\n\nExamples:\n")
    lines = [line.strip() for line in examples.splitlines()]
    epilog = "\n".join(["\b", "Examples:", *lines]) if lines else None  # without \b, the lines would be joined
    application.command(name, help=text, epilog=epilog)(function)


def run(application: typer.Typer, name: str) -> None:
    """Run an application as a program: an expected error ends it with a sentence, not a traceback."""
    _open_closed_streams()
    stdout = sys.stdout
    code = _exit_code(application, name)
    if sys.stdout is not stdout:  # click replaces it when its reader has gone, as `head` does
        code = READER_HAS_GONE
    try:
        sys.stdout.flush()  # what Python would do at its end, where an error is a traceback
    except BrokenPipeError:
        _discard_stdout()
        code = READER_HAS_GONE
    except OSError as error:
        _discard_stdout()
        remark(f"onward: standard output: {error.strerror or error}.")
        code = 2
    sys.exit(code)


def _exit_code(application: typer.Typer, name: str) -> int | str | None:
    try:
        application(prog_name=name)
    except SystemExit as end:
        return end.code
    except OnwardError as error:
        _remark_on_error(str(error))
        return error.exit_code
    except ModuleNotFoundError as error:
        sentence = missing_extra(error)
        if sentence is None:
            raise
        remark(f"onward: {sentence}")
    except MemoryError:
        remark("onward: out of memory.")
    except OSError as error:
        remark(f"onward: {error.filename or 'the system'}: {error.strerror or error}.")
    return 2


def _open_closed_streams() -> None:
    """Open the null device in place of standard streams that are closed (`>&-`).

    The next file that is opened would take their numbers, and what a library prints would go into it.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _discard_stdout() -> None:
    """What is left in the buffer cannot be written at the end either."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _remark_on_error(message: str) -> None:
    for line in message.split("\n"):  # every line says whose it is, so that a name in it cannot look like another one
        remark(f"onward: {line}")


def print_json(document: Any) -> None:
    """Print one JSON document to standard output; NaN and infinity become null."""
    print(escape_json(json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table for people; a column whose name starts with `>` is aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = title and printable(title)
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(printable(column.removeprefix(">")), justify="right" if column.startswith(">") else "left")
    for row in rows:
        table.add_row(*map(printable, row))
    width = None if sys.stdout.isatty() else 120
    # without markup, because brackets are text here: 'onward[training]'
    console = Console(highlight=False, markup=False, width=width)
    console.on_broken_pipe = lambda: sys.exit(READER_HAS_GONE)  # type: ignore[method-assign]  # its own exits with 1
    console.print(table)


def say(text: str) -> None:
    """Print one line of the answer to standard output."""
    print(printable(text))


def say_next(*commands: Sequence[object]) -> None:
    """Print what to do next, for people: a command of Onward's on each line, as a shell takes it.

    Args:
        commands: Each in its parts, without the `onward`; a part that is None is left out.
    """
    for index, parts in enumerate(commands):
        say(
            ("      " if index else "next: ")
            + shlex.join(["onward", *(str(part) for part in parts if part is not None)])
        )


def remark(text: str) -> None:
    """Print one line to standard error; nothing if that is closed, such as a terminal that has gone."""
    with suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


class Interruption:
    """Whether a signal was received.

    Args:
        number: The signal; 0 if there was none.
    """

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> bool:
        """True once a signal was received."""
        return bool(self.number)

    @property
    def exit_code(self) -> int:
        """The exit code that shells use for a program ended by this signal."""
        return 128 + self.number


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Record the first SIGINT, SIGTERM or SIGHUP, so that a run can save its state and stop; a second one ends it.

    SIGHUP says that the terminal has gone. It stays ignored where it is, as below `nohup`.
    """
    interruption = Interruption()
    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    handlers = {number: signal.getsignal(number) for number in numbers}
    before = {
        number: handler for number, handler in handlers.items() if (number in numbers[:2] or handler != signal.SIG_IGN)
    }

    def note(number: int, frame: FrameType | None) -> None:
        interruption.number = number
        for item, handler in before.items():
            signal.signal(item, handler)

    try:
        for number in before:
            signal.signal(number, note)
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
