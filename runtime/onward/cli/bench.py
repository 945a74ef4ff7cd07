"""`onward bench`: the command, and the tables that it prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onward.benchmarking.report_view import interval, milliseconds, ratio, seconds, thousands
from onward.cli.console import (
    AsJson,
    LabelsAre,
    Overwrite,
    SignerKey,
    TrustWord,
    countdown,
    print_json,
    print_table,
    remark,
    say,
    say_next,
)
from onward.errors import UsageError

if TYPE_CHECKING:
    from onward.benchmarking.matrix import Matrix
    from onward.benchmarking.regression import RegressionGate
    from onward.benchmarking.report import Report
    from onward.benchmarking.report_view import ReportView
    from onward.benchmarking.row import Row
    from onward.benchmarking.schedule import Schedule
    from onward.benchmarking.spec import BenchKeywords, BenchOptions, BenchSpec

__all__ = ["bench", "print_gate", "print_report"]

#: Rows that are listed for each kind of instability; the others are counted.
NUM_LISTED = 3
Table = tuple[list[str], list[list[str]]]


def bench(
    context: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(metavar="BUNDLE|MODEL.onnx ...", help="What to benchmark; two or more are compared."),
    ],
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A first answer, in about 20 s for a small model: PyTorch and onnxruntime, batch sizes 1 and 32, 3 "
            "process runs of 9 rounds, no image files. Options that you name beside it hold.",
        ),
    ] = False,
    backends: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: torch, torch-channels-last, torch-compile, torchscript, pt2, onnxruntime, openvino, "
            "or FILE.py:NAME for your own; by default every backend that can run here."
        ),
    ] = None,
    batch_sizes: Annotated[str, typer.Option(help="Inputs per inference, comma-separated.")] = "1,8,32",
    threads: Annotated[
        str, typer.Option(help="Threads per inference, comma-separated; 0 is every core that this process may use.")
    ] = "0",
    provider: Annotated[
        list[str] | None,
        typer.Option(
            help="Execution provider for onnxruntime and PyTorch, repeatable: cpu, cuda …; by default all that the "
            "installed onnxruntime has."
        ),
    ] = None,
    process_runs: Annotated[
        int, typer.Option(help="How many processes are started for each candidate, one after the other.")
    ] = 5,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds per process run and batch size, at most.")] = 30,
    reference: Annotated[
        str | None,
        typer.Option(help="What ratios are relative to: a backend, a target, or TARGET:BACKEND; by default PyTorch."),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            help="Inputs to measure with: images as for predict, or an .npz with an array for each input; by default "
            "random ones."
        ),
    ] = None,
    labels_are: LabelsAre = None,
    dim: Annotated[
        list[str] | None,
        typer.Option(help="NAME=SIZE of a dynamic axis of an ONNX file that Onward did not write, repeatable."),
    ] = None,
    files: Annotated[bool, typer.Option(help="Measure predict on image files, too.")] = True,
    trust: TrustWord = False,
    key: SignerKey = None,
    as_json: AsJson = False,
    baseline: Annotated[
        Path | None, typer.Option(help="An earlier report of --json to compare with; exit code 1 if a row is slower.")
    ] = None,
    fail_above: Annotated[
        str, typer.Option(help="With --baseline, the smallest slowdown that is a regression: 5% or 0.05.")
    ] = "5%",
    html: Annotated[Path | None, typer.Option(help="Write a page with charts to this file.")] = None,
    overwrite: Overwrite = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit code 1 also if a row is unstable, imprecise, missing or too noisy to tell."
        ),
    ] = False,
) -> None:
    """Benchmark models on every available backend, each in its own process, in interleaved rounds."""
    from onward.benchmarking.regression import compare_reports, parse_percentage
    from onward.benchmarking.report import Report
    from onward.benchmarking.spec import QUICK_BACKENDS, BenchSpec, Selection
    from onward.bundle.trust import Trust
    from onward.files import check_new
    from onward.model_file import kind_of

    counts = _whole_numbers(threads, "--threads")
    among = QUICK_BACKENDS if quick else ()
    selection = Selection(backends.split(",") if backends else None, provider or (), counts, among)
    files = files and (not quick or _is_named(context, "files"))
    spec = BenchSpec(targets, selection, reference, input, _sizes(dim or ()), files, Trust.of(trust, key), labels_are)
    options = _options(context, quick, _whole_numbers(batch_sizes, "--batch-sizes"), process_runs, rounds)
    limit = parse_percentage(fail_above)  # an invalid option is an error before anything is measured
    if html:
        check_new(html, overwrite)
    before = Report.load(baseline) if baseline else None
    report, signal_code = _run(spec, options, quiet=as_json and not sys.stderr.isatty())
    gate = compare_reports(before, report, fail_above=limit) if before else None
    _print(report, gate, baseline, as_json=as_json)
    if html:
        from onward.benchmarking.page import write_page

        write_page(html, report)
    if not as_json and kind_of(Path(targets[0])) == "bundle":
        say_next(*([("bench", *targets)] if quick else []), ("embed", targets[0], "--target", "python"))
    is_bad = report.failed or (strict and not report.passes_strict) or (gate and gate.exit_code(strict))
    if code := signal_code or int(bool(is_bad)):
        raise typer.Exit(code)


def _run(spec: BenchSpec, options: BenchOptions, *, quiet: bool) -> tuple[Report, int]:
    """The report, and the exit code of a signal that interrupted the benchmark; 0 for none."""
    from onward.benchmarking.bench import bench as run
    from onward.cli.console import interruptible

    schedules: list[Schedule] = []

    def announce(matrix: Matrix, schedule: Schedule) -> None:
        schedules.append(schedule)
        for line in _announcement(matrix, schedule) if not quiet else ():
            remark(line)

    def left_s() -> float | None:
        return schedules[0].left_s if schedules else None

    with interruptible() as stop, countdown("bench", left_s) as show:
        report = run(spec, options, on_matrix=announce, on_step=show, stop=stop)
    return report, stop.exit_code if stop() else 0


def _announcement(matrix: Matrix, schedule: Schedule) -> Iterator[str]:
    """What is not measured, what is, and from where to where."""
    from onward.benchmarking.schedule import BenchStep
    from onward.bundle.trust import SKIPPED

    for name, hint in matrix.missing.items():
        yield f"not installed: {name}. {hint}"
    for name in matrix.untrusted:
        yield f"skipped: {name}. {SKIPPED}"
    candidates, options = matrix.candidates, schedule.options
    titles = ", ".join(dict.fromkeys(candidate.title for candidate in candidates))
    factors = (
        f"{_plural(len(candidates), 'candidate')} ({titles})",
        f"batch {'sizes' if len(schedule.batch_sizes) > 1 else 'size'} {', '.join(map(str, schedule.batch_sizes))}",
        _plural(options.num_process_runs, "process run"),
        f"up to {_plural(options.num_rounds, 'round')}",
    )
    threads = " or ".join(str(count) for count in sorted({candidate.threads for candidate in candidates}))
    yield f"benchmark: {' × '.join(factors)}, {threads} thread{'s' * (threads != '1')} an inference"
    files = "; then predict, from image files to rows" if schedule.counts[BenchStep("files")] else ""
    yield f"timed: one inference, from arrays in memory to arrays in memory, without decoding and resizing{files}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _is_named(context: typer.Context, name: str) -> bool:
    """Whether an option was given, and does not have its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _options(
    context: typer.Context, quick: bool, batch_sizes: Sequence[int], process_runs: int, rounds: int
) -> BenchOptions:
    from onward.benchmarking.spec import BenchOptions

    if not quick:
        return BenchOptions(batch_sizes, process_runs, rounds)
    named: BenchKeywords = {}
    if _is_named(context, "batch_sizes"):
        named["batch_sizes"] = batch_sizes
    if _is_named(context, "process_runs"):
        named["num_process_runs"] = process_runs
    if _is_named(context, "rounds"):
        named["num_rounds"] = rounds
    return BenchOptions.quick(**named)


def _sizes(texts: Sequence[str]) -> dict[str, int]:
    sizes = {}
    for text in texts:
        name, _, size = text.partition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise UsageError(f"invalid --dim {text!r}: expected NAME=SIZE, e.g. height=224.")
        sizes[name] = int(size)
    return sizes


def _whole_numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in text.split(","))
    except ValueError as error:
        raise UsageError(f"invalid {option} {text!r}: expected whole numbers, e.g. 1,8,32.") from error


def _print(report: Report, gate: RegressionGate | None, baseline: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_json() | ({"gate": gate.to_json()} if gate else {}))
        return
    print_report(report)
    if gate:
        print_gate(gate, str(baseline))


def print_report(report: Report) -> None:
    """Print the tables of `bench`, and a line for everything that is unstable, wrong or missing."""
    from onward.benchmarking.report_view import ReportView

    view = ReportView(report)
    if view.timed:
        print_table(*_speed_table(view))
        print_table(*_cold_start_table(view))
    if report.end_to_end:
        print_table(*_files_table(view))
    for line in _remarks(view):
        say(line)


def print_gate(gate: RegressionGate, baseline: str) -> None:
    """Print how each row changed since the baseline."""
    say(f"compared with {baseline}:")
    print_table(*gate.table())
    for line in gate.lines():
        say(line)


def _speed_table(view: ReportView) -> Table:
    has_accuracy = any(row.accuracy is not None for row in view.timed)
    # with accuracies there is no room for p90; the page and --json have it
    columns = [">batch", "backend", ">median ms", *([] if has_accuracy else [">p90"]), ">p99", ">images/s"]
    columns += [f">× {view.name(view.report.reference)}", ">95 %", ">noise ratio"]
    columns += [">accuracy", ""] if has_accuracy else [""]
    return columns, [_speed_cells(row, view, has_accuracy) for row in view.timed]


def _speed_cells(row: Row, view: ReportView, has_accuracy: bool) -> list[str]:
    latency = row.latency
    assert latency is not None
    return [
        str(row.batch_size),
        view.name(row.candidate),
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


def _verdict(row: Row) -> str:
    if row.status == "wrong":
        return "WRONG"
    words = {"imprecise": row.status == "imprecise", "unstable": not row.is_stable}
    return ", ".join(word for word, holds in words.items() if holds)


def _cold_start_table(view: ReportView) -> Table:
    columns = ["cold start", ">start s", ">import s", ">open s", ">first ms", ">sum s", ">after pause ms"]
    columns += [">new batch size ms", ">peak MiB", ">file MB"]
    return columns, [_cold_start_cells(view.rows_of(candidate), view) for candidate in view.candidates]


def _cold_start_cells(rows: list[Row], view: ReportView) -> list[str]:
    """Of one candidate, from the smallest batch size up."""
    first, stages = rows[0], rows[0].stages
    assert stages is not None
    opened = stages.process_s, stages.import_s, stages.open_s
    return [
        view.name(first.candidate),
        *map(seconds, opened),
        milliseconds(stages.first_ms),
        seconds(sum(opened) + (stages.first_ms or 0) / 1e3),
        milliseconds(stages.after_pause_ms),
        ", ".join(milliseconds(row.stages.first_ms) for row in rows[1:] if row.stages),
        thousands(max(row.peak_bytes or 0 for row in rows) / 2**20),
        "–" if first.file_bytes is None else f"{first.file_bytes / 1e6:,.1f}",
    ]


def _files_table(view: ReportView) -> Table:
    found = view.report.end_to_end
    columns = [
        f"{found[0].num_images:,} image files to a CSV",
        ">images/s",
        *(f">{stage} %" for stage in found[0].shares),
    ]
    return columns, [
        [view.name(item.candidate), thousands(item.images_per_s)]
        + [f"{100 * share:.0f}" for share in item.shares.values()]
        for item in found
    ]


def _remarks(view: ReportView) -> Iterator[str]:
    from onward.tasks.task import NO_ANSWER

    report = view.report
    for row in report.rows:
        if row.reason:
            yield f"{_row_name(row, view)}: {row.reason}"
    for row in {row.candidate: row for row in report.rows if row.num_unanswered}.values():
        yield f"{view.name(row.candidate)}: {row.num_unanswered:,} inputs without an answer, because {NO_ANSWER}"
    yield from _instabilities(view)
    if report.changed:
        yield f"CHANGED: {report.changed}"
    if not report.is_complete:
        yield "incomplete: the benchmark was interrupted; the tables have what was measured until then."


def _instabilities(view: ReportView) -> Iterator[str]:
    """For each kind, the number of its rows and the first few of them."""
    found = [(row, item) for row in view.timed for item in row.instabilities]
    for kind in dict.fromkeys(item.kind for _, item in found):
        alike = [(row, item) for row, item in found if item.kind == kind]
        yield f"unstable ({kind}), {len(alike)} of {len(view.timed)} rows:"
        yield from (f"  {_row_name(row, view)}: {item.detail}" for row, item in alike[:NUM_LISTED])
        if len(alike) > NUM_LISTED:
            yield f"  … and {len(alike) - NUM_LISTED} more"


def _row_name(row: Row, view: ReportView) -> str:
    name = view.name(row.candidate)
    return f"{name}, batch {row.batch_size}" if row.batch_size else name
