"""`onward bench`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.bench_tables import print_gate, print_report
from onward.cli.console import print_json, progress, remark
from onward.cli.options import AsJson
from onward.errors import UsageError

if TYPE_CHECKING:
    from onward.benchmarking.bench import Question
    from onward.benchmarking.lineup import Lineup
    from onward.benchmarking.options import Options
    from onward.benchmarking.regression import Gate
    from onward.benchmarking.report import Report

__all__ = ["bench"]


def bench(
    targets: Annotated[
        list[str], typer.Argument(metavar="BUNDLE|MODEL.onnx ...", help="What to time; two or more beside one another.")
    ],
    backends: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: torch, torch-channels-last, torch-compile, torchscript, pt2, onnxruntime, openvino, "
            "or FILE.py:NAME for one of yours; by default all that can run here."
        ),
    ] = None,
    batch_sizes: Annotated[str, typer.Option(help="Comma-separated.")] = "1,8,32",
    threads: Annotated[str, typer.Option(help="Of an inference, comma-separated; 0 is every core we have.")] = "0",
    provider: Annotated[
        list[str] | None,
        typer.Option(help="Of onnxruntime and PyTorch, repeatable: cpu, cuda …; by default all that onnxruntime has."),
    ] = None,
    launches: Annotated[int, typer.Option(help="How often each competitor is started anew.")] = 5,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds of a launch and a batch size, at most.")] = 30,
    reference: Annotated[
        str | None, typer.Option(help="What ratios are to: a backend, a target, or TARGET:BACKEND; by default PyTorch.")
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(help="Samples to time with: images such as predict takes, or an .npz with an array an input."),
    ] = None,
    dim: Annotated[
        list[str] | None, typer.Option(help="NAME=SIZE of a dynamic axis of an ONNX file that is not ours, repeatable.")
    ] = None,
    files: Annotated[bool, typer.Option(help="Time predict on image files, too.")] = True,
    as_json: AsJson = False,
    baseline: Annotated[Path | None, typer.Option(help="A report of --json to compare with.")] = None,
    fail_above: Annotated[str, typer.Option(help="The slowdown that is too much: 5% or 0.05.")] = "5%",
    html: Annotated[Path | None, typer.Option(help="Write a page with plots.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 where a row is unstable, or not there.")
    ] = False,
) -> None:
    """Time models by everything that can run them, each in a process of its own, in interleaved rounds."""
    from onward.benchmarking.bench import Question
    from onward.benchmarking.lineup import Wish
    from onward.benchmarking.options import Options
    from onward.benchmarking.regression import compare_reports, parse_percentage
    from onward.benchmarking.report import Report

    counts = _whole_numbers(threads, "--threads")
    wish = Wish(backends.split(",") if backends else None, provider or (), () if counts == (0,) else counts)
    question = Question(targets, wish, reference, input, _sizes(dim or ()), files)
    options = Options(_whole_numbers(batch_sizes, "--batch-sizes"), launches, rounds)
    limit = parse_percentage(fail_above)  # what cannot be meant is said before anything is timed
    before = Report.load(baseline) if baseline else None
    report, signal_code = _run(question, options, quiet=as_json)
    gate = compare_reports(before, report, fail_above=limit) if before else None
    _show(report, gate, baseline, as_json=as_json)
    if html:
        from onward.benchmarking.page import write_page

        write_page(html, report)
    is_bad = report.failed or (strict and not report.is_strictly_good) or (gate and gate.exit_code(strict))
    if code := signal_code or int(bool(is_bad)):
        raise typer.Exit(code)


def _run(question: Question, options: Options, *, quiet: bool) -> tuple[Report, int]:
    """The report, and what a signal that has ended the run early makes the exit code; 0 for none."""
    from onward.benchmarking.bench import bench as run
    from onward.interruption import interruptible

    num_steps: SimpleQueue[int] = SimpleQueue()

    def note(lineup: Lineup, count: int) -> None:
        num_steps.put(count)
        for name, remedy in lineup.missing.items() if not quiet else ():
            remark(f"not here: {name}. {remedy}")

    with interruptible() as stop, progress("bench", num_steps.get, unit="steps", quiet=quiet) as advance:
        report = run(question, options, on_lineup=note, on_step=lambda what: advance(1), stop=stop)
    return report, stop.exit_code if stop() else 0


def _show(report: Report, gate: Gate | None, baseline: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_json() | ({"gate": gate.to_json()} if gate else {}))
        return
    print_report(report)
    if gate:
        print_gate(gate, str(baseline))


def _sizes(texts: Sequence[str]) -> dict[str, int]:
    sizes = {}
    for text in texts:
        name, _, size = text.partition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise UsageError(f"--dim is {text!r}, expected NAME=SIZE such as height=224.")
        sizes[name] = int(size)
    return sizes


def _whole_numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}, expected whole numbers such as 1,8,32.") from error
