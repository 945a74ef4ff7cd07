"""The commands of the training floor: train, evaluate, inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.console import (
    ArtifactName,
    AsJson,
    Overwrite,
    ProviderName,
    SignerKey,
    TrustWord,
    print_json,
    progress,
    remark,
    say,
    say_next,
)
from onward.cli.console import app as make_app
from onward_training.cli_options import (
    MODELS,
    AllowGlobal,
    DataDir,
    DataName,
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
from onward_training.inspection import describe, inspect
from onward_training.text import (
    print_epoch,
    print_evaluation,
    print_failures,
    print_missing,
    print_notes,
    print_unanswered,
)

if TYPE_CHECKING:
    from onward_training.data import Dataset
    from onward_training.foreign_signature import KnownPreprocessing
    from onward_training.preprocessing import StatedPreprocessing

__all__ = ["app", "evaluate", "inspect", "train"]

app = make_app("Train classifiers into checkpoints, and evaluate them.")

DEFAULT_FOLDER = Path("artifacts")
RUN, OPTIMIZATION, REGULARIZATION = "Run", "Optimization", "Regularization"


@app.command()
def train(
    data: DataName = "digits",
    model: Annotated[str, typer.Option(help=f"Network: {MODELS}")] = "classifier",
    model_args: ModelArguments = "{}",
    final_activation: FinalActivation = "auto",
    weights: Annotated[Path | None, typer.Option(help="Initialise from this weights file.")] = None,
    allow_global: AllowGlobal = None,
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
    save_minutes: Annotated[
        float, typer.Option(help="Minutes between two saves within an epoch.", rich_help_panel=RUN)
    ] = 10.0,
    seed: Annotated[
        int,
        typer.Option(help="Seed of weights, image order, dropout and the validation split.", rich_help_panel=RUN),
    ] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.", rich_help_panel=RUN)] = "cpu",
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
        float, typer.Option(help="Highest value of the schedule.", rich_help_panel=OPTIMIZATION)
    ] = 1e-3,
    momentum: Annotated[float, typer.Option(help="For sgd only.", rich_help_panel=OPTIMIZATION)] = 0.9,
    schedule: Annotated[
        str, typer.Option(help="Learning rate: cosine, constant or one-cycle.", rich_help_panel=OPTIMIZATION)
    ] = "cosine",
    patience: Annotated[
        int,
        typer.Option(help="Stop after this many epochs without improvement; 0: never.", rich_help_panel=OPTIMIZATION),
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
    """Train a network and save its best epoch as a checkpoint."""
    from onward.model_file import check_model_file
    from onward_training.data import check
    from onward_training.options import TrainOptions
    from onward_training.preprocessing import StatedPreprocessing
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
        precision=precision,
        seed=seed,
        device=device,
        num_workers=num_workers,
    )
    check(data, data_dir=data_dir, image_size=stated.image_size, preprocess=stated.resize, exif=exif)
    if weights is not None:
        check_model_file(weights)
    if out is not None:
        RunFolder(out).check_writable()

    from dataclasses import replace

    from onward.cli.console import interruptible
    from onward_training.evaluator import checkpoint_runner
    from onward_training.evaluator import evaluate as run_evaluation
    from onward_training.external import initialise_from, read_weights
    from onward_training.foreign_signature import known_preprocessing
    from onward_training.import_weights import stated_arguments
    from onward_training.loop import check_device
    from onward_training.loop import train as run

    check_device(device)
    known = known_preprocessing(model, weights, remark) if weights is not None and data.startswith("folder") else None
    if known is not None:
        options = replace(options, arguments={**known.arguments, **options.arguments})
    dataset = _load_training_data(data, data_dir, known, stated, seed)
    if classes is not None:
        dataset = dataset.select(classes.split(","))
    initialise = None
    if weights is not None:
        read = read_weights(weights, allow_globals=allow_global or (), entry=entry, model=model, notify=remark)
        given = options.arguments
        found_arguments = stated_arguments(read, model, dataset.signature, given, path=weights, notify=remark)
        options = replace(options, arguments={**found_arguments, **given})
        initialise = initialise_from(weights, read, notify=remark)
    run_folder = RunFolder(out or DEFAULT_FOLDER / f"{dataset.name}-{_file_name(model)}.pt", 60 * save_minutes)
    if out is None and not resume and not overwrite:
        run_folder = run_folder.next_free()
    with run_folder.reserved():
        found = run_folder.find() if resume else None
        if resume and found is None:
            remark(f"there is no run to resume at {run_folder.last_path}: starting a new one")
        if not resume and not overwrite:
            run_folder.check_free()
        with (
            interruptible() as interruption,
            progress("train", epochs * len(dataset.train), unit="images", quiet=as_json) as advance,
        ):
            if found is not None:
                last = found[0]
                done = len(last.history) * len(dataset.train) + last.progress["step"] * batch_size
                remark(f"resuming after {len(last.history)} epochs and {last.progress['step']} steps")
                advance(done)
            checkpoint = run(
                dataset,
                options,
                data=data,
                initialise=initialise,
                run_folder=run_folder,
                resume_from=found,
                on_step=lambda step: advance(step.num_images, step.describe),
                on_epoch=(lambda epoch: None) if as_json else print_epoch,
                should_stop=interruption,
            )
    if interruption():
        remark(f"stopped; the state is saved in {run_folder.last_path}. The same command with --resume continues.")
        raise typer.Exit(interruption.exit_code)
    evaluation = run_evaluation(checkpoint_runner(checkpoint), dataset.test)
    print_failures(dataset)
    if as_json:
        print_json(describe(checkpoint) | {"checkpoint": str(run_folder.path), "test": evaluation.to_json()})
    else:
        low, high = evaluation.interval_95
        print_unanswered(evaluation)
        print_missing(evaluation, dataset.signature.labels)
        say(
            f"test accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, "
            f"{len(evaluation.targets):,} images), epoch {checkpoint.provenance['best_epoch']} of "
            f"{len(checkpoint.history)} → {run_folder.path}"
        )
        say_next(
            ("evaluate", run_folder.path, "--html", run_folder.path.with_suffix(".html")), ("export", run_folder.path)
        )


@app.command()
def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|BUNDLE|WEIGHTS",
            help="A checkpoint, a bundle, or a weights file of any origin (with --model).",
        ),
    ],
    data: Annotated[
        str | None, typer.Option(help="Data set, as for train; by default the one that the model was trained on.")
    ] = None,
    data_dir: DataDir = None,
    model: Annotated[str | None, typer.Option(help=f"For weights: their network: {MODELS}")] = None,
    model_args: ModelArguments = "{}",
    final_activation: FinalActivation = "auto",
    image_size: ImageSize = None,
    resize: ResizeRule = None,
    mean: Mean = None,
    std: Std = None,
    exif: ExifRule = None,
    allow_global: AllowGlobal = None,
    entry: EntryName = None,
    artifact: ArtifactName = "onnx",
    provider: ProviderName = "cpu",
    trust: TrustWord = False,
    key: SignerKey = None,
    html: Annotated[
        Path | None, typer.Option(help="Write an HTML page with learning curves, confusions and mistakes.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Classify the test images of a data set and compare with their labels."""
    from onward.files import check_new
    from onward.model_file import check_model_file, kind_of
    from onward_training.data import check
    from onward_training.options import NetworkSpec
    from onward_training.preprocessing import StatedPreprocessing

    path = Path(what)
    is_bundle = kind_of(path) == "bundle"
    network = NetworkSpec(
        model, parse_arguments(model_args), final_activation, allow_globals=tuple(allow_global or ()), entry=entry
    )
    stated = StatedPreprocessing.parse(image_size, resize, mean, std, exif)
    if data is not None:
        check(data, data_dir=data_dir, image_size=stated.image_size, preprocess=stated.resize, exif=exif)
    if is_bundle:
        stated.check_none(f"{what} is a bundle")
    else:
        check_model_file(path)
    if html is not None:
        check_new(html, overwrite)

    from onward.bundle.trust import Trust
    from onward_training.evaluation_page import write_evaluation_page
    from onward_training.evaluator import ModelToEvaluate
    from onward_training.evaluator import evaluate as run
    from onward_training.import_weights import open_checkpoint
    from onward_training.label_order import check_label_order

    if is_bundle:
        opened = ModelToEvaluate.from_bundle(path, artifact=artifact, provider=provider, trust=Trust.of(trust, key))
    else:
        opened = ModelToEvaluate.from_checkpoint(
            open_checkpoint(path, network, data=data, data_dir=data_dir, stated=stated, notify=remark)
        )
    dataset = opened.load_data(data, data_dir)
    print_notes(dataset)
    with progress("evaluate", len(dataset.test), unit="images", quiet=as_json) as advance:
        evaluation = run(opened.run, dataset.test, on_progress=advance)
    print_failures(dataset)
    if html is not None:
        write_evaluation_page(
            html,
            evaluation,
            signature=opened.signature,
            images=lambda index: dataset.test.read(slice(index, index + 1))[0][0],
            title=f"{Path(what).name} on {dataset.name}",
            file_of=dataset.test.file_of,
            history=opened.history,
            notes=dataset.notes,
        )
    order = check_label_order(opened.signature.labels, evaluation.predicted, evaluation.targets)
    missing = [opened.signature.labels[index] for index in evaluation.missing_classes]
    if as_json:
        print_json(
            evaluation.to_json(dataset.test.file_of) | {"missing_classes": missing, "label_order": order.to_json()}
        )
    else:
        print_evaluation(evaluation, opened.signature.labels, dataset.test.file_of)
        if order.warning:
            remark(f"warning: {order.warning}")
        if html is not None:
            say(f"page: {html}")
        if is_bundle:
            say_next(("bench", path), ("embed", path, "--target", "python"))
        else:
            said = {"--model": model, "--model-args": model_args, "--data": data, "--data-dir": data_dir}
            said |= {"--image-size": image_size, "--resize": resize, "--mean": mean, "--std": std}
            said |= {"--exif": exif, "--entry": entry}
            given = {name: value for name, value in said.items() if value not in (None, "{}")} if model else {}
            say_next(("export", path, *(part for pair in given.items() for part in pair)))
    if evaluation.num_unanswered:
        raise typer.Exit(1)


app.command()(inspect)


def _load_training_data(
    data: str, data_dir: Path | None, known: KnownPreprocessing | None, stated: StatedPreprocessing, seed: int
) -> Dataset:
    """The data set; the images of a folder as is stated, or else as is known of the weights."""
    from dataclasses import replace

    from onward_training.data import load

    chosen = stated.or_of(known.preprocessing) if known is not None else stated
    dataset = load(
        data,
        data_dir=data_dir,
        image_size=chosen.image_size,
        channels=chosen.channels,
        seed=seed,
        preprocess=chosen.resize,
        exif=chosen.exif,
    )
    print_notes(dataset)
    return replace(dataset, signature=chosen.on(dataset.signature))


def _file_name(model: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in model.rpartition("/")[2])
