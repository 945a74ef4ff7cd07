"""`onward bench`: the command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.console import AsJson, LabelsAre, Overwrite, SignerKey, TrustWord, print_json, remark, say_next
from onward.cli.progress import countdown, is_shown
from onward.errors import UsageError

if TYPE_CHECKING:
    from onward.benchmarking.matrix import Matrix
    from onward.benchmarking.report import Report
    from onward.benchmarking.schedule import Schedule
    from onward.benchmarking.spec import BenchKeywords, BenchOptions, BenchSpec

__all__ = ["bench"]


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
            help="A first answer, for a small model in under half a minute: PyTorch and onnxruntime, batch sizes 1 and "
            "32, 3 process runs of 9 rounds, no image files. Options that you name beside it hold.",
        ),
    ] = False,
    backends: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: torch, torch-channels-last, torch-compile, torchscript, pt2, onnxruntime, openvino, "
            "or FILE.py:NAME for your own; by default every backend that can run here."
        ),
    ] = None,
    artifact: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of an artifact of lower precision to benchmark, too, repeatable: onnx-int8. Without it, bundles "
            "run in float32."
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
    summary: Annotated[
        Path | None,
        typer.Option(help="Add the tables to the end of this Markdown file, such as $GITHUB_STEP_SUMMARY."),
    ] = None,
    overwrite: Overwrite = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit code 1 also if a row is unstable, imprecise, missing or too noisy to tell."
        ),
    ] = False,
) -> None:
    """Benchmark models on every available backend, each in its own process, in interleaved rounds.

    Examples:
        onward bench artifacts/digits --quick
        onward bench artifacts/digits --html bench.html
        onward bench model.onnx other.onnx --batch-sizes 1,32 --threads 2
        onward bench artifacts/digits --artifact onnx-int8 --backends onnxruntime,openvino
        onward bench artifacts/digits --baseline before.json --fail-above 5%
    """
    from onward.benchmarking.regression import compare_reports, parse_percentage
    from onward.benchmarking.report import Report
    from onward.benchmarking.spec import QUICK_BACKENDS, BenchSpec, Selection
    from onward.bundle.trust import Trust
    from onward.cli.bench_tables import gate_parts, print_parts, report_parts
    from onward.cli.markdown import append_markdown, markdown_of
    from onward.files import check_new, check_writable
    from onward.model_file import kind_of

    counts = _whole_numbers(threads, "--threads")
    among = QUICK_BACKENDS if quick else ()
    chosen = backends.split(",") if backends else None
    selection = Selection(chosen, provider or (), counts, among, tuple(artifact or ()))
    files = files and (not quick or _is_named(context, "files"))
    spec = BenchSpec(targets, selection, reference, input, _sizes(dim or ()), files, Trust.of(trust, key), labels_are)
    options = _options(context, quick, _whole_numbers(batch_sizes, "--batch-sizes"), process_runs, rounds)
    limit = parse_percentage(fail_above)  # an invalid option is an error before anything is measured
    if html:
        check_new(html, overwrite)
    if summary:
        check_writable(summary)
    before = Report.load(baseline) if baseline else None
    report, signal_code = _run(spec, options, quiet=not is_shown(as_json))
    gate = compare_reports(before, report, fail_above=limit) if before else None
    parts = [*report_parts(report), *(gate_parts(gate, str(baseline)) if gate else ())]
    if as_json:
        print_json(report.to_json() | ({"gate": gate.to_json()} if gate else {}))
    else:
        print_parts(parts)
    if summary:
        append_markdown(summary, markdown_of(f"onward bench {' '.join(targets)}", parts))
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
    if (num_models := len({candidate.target for candidate in candidates})) > 1:
        titles += f"; {num_models} models"
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
