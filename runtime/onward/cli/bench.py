"""`onward bench`.

The tables of `onward bench`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer

from onward.benchmarking.formatting import interval, milliseconds, ratio, seconds, thousands
from onward.cli.console import print_json, print_table, progress, remark
from onward.cli.options import AsJson
from onward.errors import UsageError

if TYPE_CHECKING:
    from onward.benchmarking.bench import Question
    from onward.benchmarking.matrix import Lineup
    from onward.benchmarking.page.evidence import Evidence
    from onward.benchmarking.regression import Gate
    from onward.benchmarking.report import Report
    from onward.benchmarking.spec import Options
    from onward.benchmarking.summary import Row

__all__ = ["bench", "print_gate", "print_report"]


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
    from onward.benchmarking.matrix import Wish
    from onward.benchmarking.regression import compare_reports, parse_percentage
    from onward.benchmarking.report import Report
    from onward.benchmarking.spec import Options

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


#: Rows that are named of those that are unstable for one reason; the rest are counted.
NUM_NAMED = 3
Table = tuple[list[str], list[list[str]]]


def print_report(report: Report) -> None:
    """The tables of `bench`, and a line for whatever is not as it should be."""
    from onward.benchmarking.page.evidence import Evidence

    evidence = Evidence(report)
    if evidence.timed:
        print_table(*_speeds(evidence))
        print_table(*_stages(evidence))
    if report.end_to_end:
        print_table(*_files(evidence))
    for line in _remarks(evidence):
        print(line)


def print_gate(gate: Gate, baseline: str) -> None:
    """What became of each row since a report of before."""
    print(f"beside {baseline}:")
    print_table(*gate.table())
    for line in gate.lines():
        print(line)


def _speeds(evidence: Evidence) -> Table:
    has_accuracy = any(row.accuracy is not None for row in evidence.timed)
    # beside accuracies there is no room for every percentile; the other reports have them
    columns = [">batch", "backend", ">median ms", *([] if has_accuracy else [">p90"]), ">p99", ">images/s"]
    columns += [f">× {evidence.plain_name(evidence.report.reference)}", ">95 %", ">noise ratio"]
    columns += [">accuracy", ""] if has_accuracy else [""]
    return columns, [_speed(row, evidence, has_accuracy) for row in evidence.timed]


def _speed(row: Row, evidence: Evidence, has_accuracy: bool) -> list[str]:
    latency = row.latency
    assert latency is not None
    return [
        str(row.batch_size),
        evidence.plain_name(row.competitor),
        milliseconds(latency.median),
        *([] if has_accuracy else [milliseconds(latency.p90)]),
        milliseconds(latency.p99),
        thousands(row.images_per_s),
        ratio(row.ratio.value if row.ratio else None),
        interval(row.ratio),
        ratio(row.noise_ratio),
        *([] if not has_accuracy else ["–" if row.accuracy is None else f"{row.accuracy:.2%}"]),
        _verdict(row),
    ]


def _stages(evidence: Evidence) -> Table:
    columns = ["to the first answer", ">start s", ">import s", ">open s", ">first ms", ">sum s", ">idle gap ms"]
    columns += [">new size ms", ">peak MiB", ">file MB"]
    return columns, [_stage(evidence.of(competitor), evidence) for competitor in evidence.competitors]


def _stage(rows: list[Row], evidence: Evidence) -> list[str]:
    """Of one competitor, from the smallest batch size up."""
    first, stages = rows[0], rows[0].stages
    assert stages is not None
    opened = stages.process_s, stages.import_s, stages.open_s
    return [
        evidence.plain_name(first.competitor),
        *map(seconds, opened),
        milliseconds(stages.first_ms),
        seconds(sum(opened) + (stages.first_ms or 0) / 1e3),
        milliseconds(stages.idle_ms),
        ", ".join(milliseconds(row.stages.first_ms) for row in rows[1:] if row.stages),
        thousands(max(row.peak_bytes or 0 for row in rows) / 2**20),
        "–" if first.file_bytes is None else f"{first.file_bytes / 1e6:,.1f}",
    ]


def _files(evidence: Evidence) -> Table:
    found = evidence.report.end_to_end
    columns = [
        f"{found[0].num_images:,} image files to a CSV",
        ">images/s",
        *(f">{stage} %" for stage in found[0].shares),
    ]
    return columns, [
        [evidence.plain_name(item.competitor), thousands(item.images_per_s)]
        + [f"{100 * share:.0f}" for share in item.shares.values()]
        for item in found
    ]


def _remarks(evidence: Evidence) -> Iterator[str]:
    report = evidence.report
    for row in report.rows:
        if row.reason:
            yield f"{_where(row, evidence)}: {row.reason}"
    yield from _instabilities(evidence)
    if report.changed:
        yield f"CHANGED: {report.changed}"
    if not report.is_complete:
        yield "incomplete: the run was ended early; this is what there was."


def _instabilities(evidence: Evidence) -> Iterator[str]:
    """A line for each kind, with the rows that have it; the first few of them, where many do."""
    found = [(row, item) for row in evidence.timed for item in row.instabilities]
    for kind in dict.fromkeys(item.kind for _, item in found):
        alike = [(row, item) for row, item in found if item.kind == kind]
        yield f"unstable ({kind}), {len(alike)} of {len(evidence.timed)} rows:"
        yield from (f"  {_where(row, evidence)}: {item.detail}" for row, item in alike[:NUM_NAMED])
        if len(alike) > NUM_NAMED:
            yield f"  … and {len(alike) - NUM_NAMED} more"


def _verdict(row: Row) -> str:
    if row.status == "wrong":
        return "WRONG"
    words = {"imprecise": row.status == "imprecise", "unstable": not row.is_stable}
    return ", ".join(word for word, holds in words.items() if holds)


def _where(row: Row, evidence: Evidence) -> str:
    name = evidence.plain_name(row.competitor)
    return f"{name}, batch {row.batch_size}" if row.batch_size else name
