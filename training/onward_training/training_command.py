"""The command `onward train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onward.cli.console import AsJson, print_json, remark, say_next
from onward.cli.progress import is_shown, progress
from onward_training.cli_options import (
    MODELS,
    DataDir,
    DataName,
    Download,
    EntryName,
    ExifRule,
    FinalActivation,
    ImageSize,
    Mean,
    ModelArguments,
    ResizeRule,
    Std,
    parse_arguments,
)
from onward_training.inspection import describe
from onward_training.text import (
    EpochPrinter,
    print_failures,
    print_notes,
    print_result,
)

if TYPE_CHECKING:
    from onward_training.run_summary import RunSummary

__all__ = ["train"]

DEFAULT_FOLDER = Path("artifacts")
#: Parameters that say where the results go, and what becomes of earlier ones.
NOT_OF_A_RUN = ("config", "out", "resume", "overwrite", "as_json", "download")
RUN, OPTIMIZATION, REGULARIZATION = "Run", "Optimization", "Regularization"


def _use_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the options in the file as defaults."""
    if path is not None:
        from onward_training.config_file import read_options

        known = {key: name for key, name in _options(context).items() if name != "config"}
        repeatable = [key for key, name in known.items() if name in _repeatable(context)]
        context.default_map = read_options(path, known, repeatable)
    return path


def _options(context: typer.Context) -> dict[str, str]:
    """The name of each option on the command line, without dashes -> of its parameter here."""
    return {item.opts[0].lstrip("-"): item.name for item in context.command.params if item.name not in (None, "help")}


def _repeatable(context: typer.Context) -> set[str | None]:
    return {item.name for item in context.command.params if getattr(item, "multiple", False)}


def _stated_options(context: typer.Context) -> dict[str, Any]:
    """The options that decide the result of this run, for `--config`."""
    found = {key: context.params[name] for key, name in _options(context).items() if name not in NOT_OF_A_RUN}
    found["model-args"] = parse_arguments(found["model-args"]) or None
    return {key: value for key, value in found.items() if value not in ([], ())}


def train(
    context: typer.Context,
    data: DataName = "digits",
    model: Annotated[str, typer.Option(help=f"Network: {MODELS}")] = "classifier",
    model_args: ModelArguments = "{}",
    final_activation: FinalActivation = "auto",
    weights: Annotated[
        Path | None,
        typer.Option(help="Initialise from this weights file; DEFAULT: the one that torchvision or timm publishes."),
    ] = None,
    download: Download = False,
    entry: EntryName = None,
    classes: Annotated[
        str | None, typer.Option(help="Train on these classes only: labels of the data set, comma-separated.")
    ] = None,
    data_dir: DataDir = None,
    image_size: ImageSize = None,
    resize: ResizeRule = None,
    mean: Mean = None,
    std: Std = None,
    exif: ExifRule = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint of the best epoch. Default: artifacts/DATA-MODEL.pt, or with -2, -3 … if there is a run.",
            rich_help_panel=RUN,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            help="Continue the run at --out, if there is one; a finished one if --epochs is more.", rich_help_panel=RUN
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the run that is at --out.", rich_help_panel=RUN)] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with options, such as the one beside a checkpoint. The command line wins.",
            callback=_use_config,
            is_eager=True,
            rich_help_panel=RUN,
        ),
    ] = None,
    logger: Annotated[
        list[str] | None,
        typer.Option(
            help="Log the run, repeatable: tensorboard (in a folder beside the checkpoint), tensorboard:FOLDER, mlflow "
            "(at $MLFLOW_TRACKING_URI) or mlflow:URI.",
            rich_help_panel=RUN,
        ),
    ] = None,
    save_minutes: Annotated[
        float, typer.Option(help="Minutes between two saves within an epoch.", rich_help_panel=RUN)
    ] = 10.0,
    seed: Annotated[
        int,
        typer.Option(help="Seed of weights, image order, dropout and the validation split.", rich_help_panel=RUN),
    ] = 0,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, mps, or auto: the first of cuda, mps and cpu here.", rich_help_panel=RUN)
    ] = "cpu",
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16 or (cuda only) float16.", rich_help_panel=RUN)
    ] = "float32",
    num_workers: Annotated[
        int,
        typer.Option(help="Processes that decode images if a folder is too large for memory.", rich_help_panel=RUN),
    ] = 2,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.", rich_help_panel=OPTIMIZATION)] = 10,
    batch_size: Annotated[int, typer.Option(help="Images per step.", rich_help_panel=OPTIMIZATION)] = 64,
    optimizer: Annotated[str, typer.Option(help="adam, adamw or sgd.", rich_help_panel=OPTIMIZATION)] = "adam",
    learning_rate: Annotated[
        float,
        typer.Option("--learning-rate", "--lr", help="Highest value of the schedule.", rich_help_panel=OPTIMIZATION),
    ] = 1e-3,
    momentum: Annotated[float, typer.Option(help="For sgd only.", rich_help_panel=OPTIMIZATION)] = 0.9,
    schedule: Annotated[
        str, typer.Option(help="Learning rate: cosine, constant or one-cycle.", rich_help_panel=OPTIMIZATION)
    ] = "cosine",
    patience: Annotated[
        int,
        typer.Option(help="Stop after this many epochs without improvement; 0: never.", rich_help_panel=OPTIMIZATION),
    ] = 0,
    freeze_epochs: Annotated[
        int,
        typer.Option(
            help="So many epochs at first train the new head only; all epochs: nothing else is ever trained.",
            rich_help_panel=OPTIMIZATION,
        ),
    ] = 0,
    augment: Annotated[
        str,
        typer.Option(
            help="none, or comma-separated: flip, crop, resized-crop, rotate, color-jitter, erase, trivial, "
            "randaugment.",
            rich_help_panel=REGULARIZATION,
        ),
    ] = "none",
    weight_decay: Annotated[
        float, typer.Option(help="Weight decay of the optimizer.", rich_help_panel=REGULARIZATION)
    ] = 0.0,
    label_smoothing: Annotated[float, typer.Option(help="From 0 to below 1.", rich_help_panel=REGULARIZATION)] = 0.0,
    clip_norm: Annotated[
        float, typer.Option(help="Largest norm of the gradient; 0: no limit.", rich_help_panel=REGULARIZATION)
    ] = 0.0,
    class_weights: Annotated[
        str, typer.Option(help="none, or balanced: rare classes weigh more.", rich_help_panel=REGULARIZATION)
    ] = "none",
    as_json: AsJson = False,
) -> None:
    """Train a network and save its best epoch as a checkpoint.

    Examples:
        onward train --data folder:photos --model cnn --epochs 8 --out run.pt
        onward train --data folder:photos --model torchvision:resnet18 --weights resnet18-f37072fd.pth --freeze-epochs 1
        onward train --data digits --model net.py:Network --epochs 20 --resume
        onward train --config run.toml --logger tensorboard
    """
    from onward_training.config_file import format_options
    from onward_training.loggers import LoggedRun, RunLog, open_loggers
    from onward_training.model_names import naming
    from onward_training.options import TrainOptions
    from onward_training.preprocessing import StatedPreprocessing
    from onward_training.run_check import check_run
    from onward_training.run_folder import RunFolder

    # names, options and paths are checked before PyTorch is imported
    stated = StatedPreprocessing.parse(image_size, resize, mean, std, exif)
    options = TrainOptions(
        model=model,
        arguments=parse_arguments(model_args),
        final_activation=final_activation,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        label_smoothing=label_smoothing,
        clip_norm=clip_norm,
        class_weights=class_weights,
        augment=augment,
        patience=patience,
        freeze_epochs=freeze_epochs,
        precision=precision,
        seed=seed,
        device=device,
        num_workers=num_workers,
    )
    check_run(options, data, data_dir, stated, weights)
    if out is not None:
        RunFolder(out).check_writable()
    loggers = open_loggers(logger or ())

    from dataclasses import replace

    from onward.cli.console import interruptible
    from onward_training.devices import resolve_device
    from onward_training.evaluator import checkpoint_runner
    from onward_training.evaluator import evaluate as run_evaluation
    from onward_training.loop import train as run
    from onward_training.run_inputs import open_run_inputs

    options = replace(options, device=resolve_device(device))
    inputs = open_run_inputs(
        options,
        data,
        data_dir,
        stated,
        weights=weights,
        download=download,
        entry=entry,
        classes=classes.split(",") if classes is not None else None,
        notify=remark,
    )
    dataset, options = inputs.dataset, inputs.options
    in_file = _stated_options(context) | {"device": options.device}
    run_folder = RunFolder(
        out or DEFAULT_FOLDER / f"{dataset.name}-{_file_name(options.model)}.pt",
        60 * save_minutes,
        format_options(in_file),
    )
    if out is None and not resume and not overwrite:
        run_folder = run_folder.next_free()
    with run_folder.reserved():
        found = run_folder.find() if resume else None
        if resume and found is None:
            remark(f"there is no run to resume at {run_folder.last_path}: starting a new one")
        if not resume and not overwrite:
            run_folder.check_free()
        logged = LoggedRun(run_folder, in_file, is_resumed=found is not None, overwrites=overwrite)
        printer = EpochPrinter(found[0].history if found else (), epochs, run_folder.batch_path)
        summaries: list[RunSummary] = []

        def start(summary: RunSummary) -> None:
            summaries.append(summary)
            if is_shown(as_json):
                printer.start(summary)
            print_notes(dataset)

        num_images = len(dataset.train) + len(dataset.validation)
        with (
            interruptible() as interruption,
            progress("train", epochs * num_images, unit="images") as advance,
        ):
            if found is not None:
                last = found[0]
                if last.progress["finished"] and epochs <= last.provenance["options"]["epochs"]:
                    remark(f"the run is finished after {len(last.history)} epochs; with more --epochs it goes on")
                else:
                    remark(f"resuming after {len(last.history)} epochs and {last.progress['step']} steps")
                advance(len(last.history) * num_images + last.progress["step"] * batch_size)
            checkpoint = run(
                dataset,
                options,
                data=data,
                initialise=inputs.initialise,
                run_folder=run_folder,
                resume_from=found,
                log=RunLog(logged, loggers, remark) if loggers else None,
                on_start=start,
                on_step=lambda step: advance(step.num_images, step.describe),
                on_validation=advance,
                on_epoch=printer if is_shown(as_json) else (lambda epoch: None),
                should_stop=interruption,
            )
    if interruption():
        remark(f"stopped; the state is saved in {run_folder.last_path}. The same command with --resume continues.")
        raise typer.Exit(interruption.exit_code)
    with progress("test", len(dataset.test), unit="images") as advance:
        evaluation = run_evaluation(checkpoint_runner(checkpoint), dataset.test, on_progress=advance)
    print_failures(dataset)
    if as_json:
        document = describe(checkpoint) | {"checkpoint": str(run_folder.path), "run": summaries[0].to_json()}
        document["logs"] = run_folder.logs() if loggers else {}
        print_json(document | {"test": evaluation.to_json(dataset.test.file_of)})
    else:
        print_result(checkpoint, evaluation, run_folder.path, epochs)
        page, named = run_folder.path.with_suffix(".html"), naming(options.model)
        say_next(("evaluate", run_folder.path, *named, "--html", page), ("export", run_folder.path, *named))


def _file_name(model: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in model.rpartition("/")[2])
