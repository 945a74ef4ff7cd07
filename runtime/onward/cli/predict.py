"""`onward predict`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.console import (
    ArtifactName,
    AsJson,
    LabelsAre,
    ProviderName,
    SignerKey,
    TrustWord,
    print_json,
    print_table,
    remark,
    say_next,
)
from onward.cli.progress import progress
from onward.errors import BadInput, ImageError, UsageError

if TYPE_CHECKING:
    from onward.backends.providers import ProviderRequest
    from onward.bundle import Bundle
    from onward.prediction import PredictOptions, Summary

__all__ = ["predict"]

MAX_FAILURES_SHOWN = 10
#: Labels of one image, unless --top-k asks for another number.
MAX_ANSWERS = 5
#: A shorter run does not report where its time went.
MIN_TIMED_S = 0.5
AUTO = "auto"


def predict(
    bundle: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE|MODEL.onnx", help="The folder that `onward export` wrote, or the model.onnx of one, alone."
        ),
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Folders, image files, .npy, .npz and IDX files, tar shards, Parquet and CSV tables, or patterns such "
            "as 'shards/*.tar'; `-` reads paths from standard input.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output file: .csv, .jsonl, .parquet or .npy; `-` streams JSON Lines to standard output. Default: "
            "predictions.csv; one image file is answered on standard output."
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Labels per row, most probable first. Default: 1, and 5 where one image file is answered."),
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="Write all logits, too.")] = False,
    column: Annotated[str | None, typer.Option(help="Column of a table that holds the images or their paths.")] = None,
    labels_are: LabelsAre = None,
    batch_size: Annotated[str, typer.Option(help="Images per inference; `auto` tunes it during the run.")] = AUTO,
    streams: Annotated[str, typer.Option(help="Inferences at the same time; `auto` tunes it during the run.")] = AUTO,
    threads: Annotated[int, typer.Option(help="Threads in total; 0 uses every available core.")] = 0,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="INDEX/COUNT",
            help="Take one of COUNT shards of the inputs, from 0: an input belongs to a shard by its name.",
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            " /--overwrite",
            help="Resume an unfinished run at this output, or start over and replace what is there (--overwrite is "
            "another name of --no-resume). With neither, an output that exists is an error.",
        ),
    ] = None,
    resume_changed: Annotated[
        bool,
        typer.Option(
            "--resume-changed",
            help="Resume even if completed inputs were changed, added or removed since, and compute only those anew.",
        ),
    ] = False,
    commit_every: Annotated[
        float, typer.Option(help="Seconds between commits; a crash loses at most that much work.")
    ] = 1.0,
    csv_safe: Annotated[
        bool,
        typer.Option(
            "--csv-safe",
            help="In a .csv, put an apostrophe before names and labels that begin with =, +, -, @, a tab or a line "
            "break: spreadsheets would run them as formulas.",
        ),
    ] = False,
    on_error: Annotated[
        str,
        typer.Option(
            help="Inputs without an answer, because they cannot be read or the outputs are NaN: `list` writes them to "
            "OUT.errors.jsonl, `fail` stops at the first."
        ),
    ] = "list",
    ok_with_errors: Annotated[
        bool, typer.Option("--ok-with-errors", help="Exit with 0 although some inputs have no answer.")
    ] = False,
    artifact: ArtifactName = "onnx",
    provider: ProviderName = "cpu",
    provider_option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the first provider; repeatable.")
    ] = None,
    device_id: Annotated[int | None, typer.Option(help="Device of the provider, from 0.")] = None,
    min_placement: Annotated[
        float | None,
        typer.Option(help="Share of the model's nodes, 0 to 1, that the first provider must run."),
    ] = None,
    trust: TrustWord = False,
    key: SignerKey = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bar and no summary.")] = False,
    as_json: AsJson = False,
) -> None:
    """Predict images in batches: one row per image, in the order of the inputs.

    Examples:
        onward predict artifacts/digits photo.jpg
        onward predict artifacts/digits photos/ --out answers.csv --top-k 3
        onward predict artifacts/digits 'shards/*.tar' --out answers.parquet --resume
        find photos -name '*.png' | onward predict artifacts/digits - --out -
    """
    from onward.backends.providers import ProviderRequest
    from onward.bundle.onnx_alone import open_bundle_or_onnx
    from onward.bundle.trust import Trust
    from onward.cli.console import interruptible
    from onward.files import check_writable
    from onward.prediction import PredictOptions, open_engine
    from onward.prediction import predict as run
    from onward.sinks import STDOUT
    from onward.sources import open_sources

    is_question = out is None and not as_json and shard is None and _is_one_image(inputs)
    out = out or Path("predictions.csv")
    if as_json and out == STDOUT:
        raise UsageError("--json and `--out -` both write to standard output: choose one.")
    if resume is False and resume_changed:
        raise UsageError("--no-resume and --resume-changed contradict each other: choose one.")
    if (resume or resume_changed) and out == STDOUT:
        raise UsageError("--resume needs a file, but `--out -` streams to standard output: choose one.")
    if out != STDOUT and not is_question:
        check_writable(out)
    opened = open_bundle_or_onnx(bundle, Trust.of(trust, key))
    if top_k is None:
        top_k = min(MAX_ANSWERS, len(opened.signature.labels)) if is_question else 1
    options = PredictOptions(
        top_k=top_k,
        logits=logits,
        batch_size=_number(batch_size, "--batch-size"),
        streams=_number(streams, "--streams"),
        num_threads=threads or None,
        on_error=on_error,
        resume="changed" if resume_changed else resume,
        commit_every_s=commit_every,
        csv_safe=csv_safe,
        labels_are=labels_are,
        shard=shard,
        request={"inputs": [str(item) for item in inputs], "column": column},
    )
    wanted = ProviderRequest.parse(
        provider, options=provider_option or (), device_id=device_id, min_placement=min_placement
    )
    if is_question:
        _print_answer(opened, inputs[0], artifact, wanted, options)
        return
    engine = open_engine(opened, options, artifact=artifact, provider=wanted)
    source = open_sources(inputs, engine.signature, column=column)
    with (
        _quiet_pillow(),
        interruptible() as stop,
        progress("predict", source.count if shard is None else lambda: None, unit="images", quiet=quiet) as advance,
    ):
        summary = run(
            engine,
            source,
            out,
            options,
            on_progress=lambda count, summary: advance(count, lambda: _note(summary)),
            stop=stop,
        )
    if as_json:
        print_json(summary.to_json() | {"out": str(out)})
    elif not quiet:
        _remark_on(summary, out)
        if out != STDOUT and not summary.is_interrupted and bundle.is_dir():
            say_next(("bench", bundle), ("embed", bundle, "--target", "python"))
    if summary.is_interrupted:
        raise typer.Exit(stop.exit_code)
    if summary.counts.num_failures and not ok_with_errors:
        raise typer.Exit(1)


def _is_one_image(inputs: Sequence[Path]) -> bool:
    from onward.images.decode import IMAGE_SUFFIXES

    return len(inputs) == 1 and inputs[0].suffix.lower() in IMAGE_SUFFIXES and inputs[0].is_file()


def _print_answer(
    opened: Bundle, image: Path, artifact: str, provider: ProviderRequest, options: PredictOptions
) -> None:
    """Print the most probable labels of one image.

    Raises:
        BadInput: The image cannot be read.
        UsageError: Top-k is not 1 to the number of classes.
    """
    from onward.classifier import Classifier

    with Classifier(opened, opened.artifact(artifact), provider=provider) as classifier, _quiet_pillow():
        classifier.task.columns(options.columns)  # checks top-k
        try:
            probabilities = classifier(image).probabilities[0]
        except ImageError as error:
            raise BadInput(str(error)) from error
    labels = opened.signature.labels
    first = (-probabilities).argsort(kind="stable")[: options.top_k]
    print_table(["label", ">probability"], [[labels[index], f"{float(probabilities[index]):.2%}"] for index in first])


def _number(text: str, option: str) -> int | None:
    if text == AUTO:
        return None
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise UsageError(f"{option} is {text!r}, expected a whole number of at least 1, or {AUTO}.")
    return number


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings about odd images: a run lists those that cannot be read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _note(summary: Summary) -> str:
    counts = summary.counts
    parts = ((counts.num_unreadable, "unreadable"), (counts.num_unanswered, "without an answer"))
    return ", ".join(f"{count:,} {what}" for count, what in parts if count)


def _remark_on(summary: Summary, out: Path) -> None:
    from onward.prediction.output import errors_path
    from onward.tasks.task import NO_ANSWER

    counts = summary.counts
    if summary.was_finished:
        remark(
            f"{out} is finished: an earlier run completed its {counts.num_inputs:,} inputs. --no-resume starts over."
        )
        return
    resumed = f" ({summary.num_resumed:,} inputs were already done)" if summary.num_resumed else ""
    remark(
        f"{counts.num_predicted:,} images{resumed} in {summary.elapsed_s:.2f} s: {summary.images_per_s:,.0f} images/s "
        f"→ {out}"
    )
    shares = ", ".join(f"{stage} {share:.0%}" for stage, share in summary.seconds.shares.items() if share >= 0.005)
    if summary.elapsed_s >= MIN_TIMED_S:
        remark(f"  time: {shares}")
        remark(f"  {summary.describe_backend()}: {summary.describe_plan()}")
        if summary.placement is not None:
            remark(f"  nodes: {summary.placement.describe()}")
    if counts.accuracy is not None:
        remark(f"  accuracy: {counts.accuracy:.2%} of the {counts.num_labelled:,} images with a label")
    if counts.num_16_bit:
        remark(f"  16 bits: of {counts.num_16_bit:,} images the higher 8 bits of each value were kept")
    if summary.left_alone:
        from onward.sources.left_alone import describe_left_alone

        remark(f"  left alone: {describe_left_alone(summary.left_alone)}")
    if summary.is_interrupted:
        remark(f"stopped after {counts.num_inputs:,} inputs; continue with the same command and --resume.")
    where = "" if out == Path("-") else f", listed in {errors_path(out)}"
    if counts.num_unreadable:
        _remark_on_failures(
            f"{counts.num_unreadable:,} could not be read{where}:",
            counts.num_unreadable,
            [f"{failure.input}: {failure.reason}" for failure in summary.failures if failure.stage != "infer"],
        )
    if counts.num_unanswered:
        _remark_on_failures(
            f"{counts.num_unanswered:,} without an answer, because {NO_ANSWER}{where}:",
            counts.num_unanswered,
            [failure.input for failure in summary.failures if failure.stage == "infer"],
        )


def _remark_on_failures(what: str, count: int, lines: Sequence[str]) -> None:
    remark(what)
    shown = lines[:MAX_FAILURES_SHOWN]
    for line in shown:
        remark(f"  {line}")
    if count > len(shown):
        remark(f"  … and {count - len(shown):,} more")
