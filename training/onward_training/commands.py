"""The commands of the training floor: train, evaluate, inspect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onward.cli.console import app as make_app
from onward.cli.console import print_json, print_table, progress, remark
from onward.cli.options import ArtifactName, AsJson, ProviderName
from onward.errors import UsageError

if TYPE_CHECKING:
    from onward.parity import Run
    from onward.signature import Signature
    from onward_training.checkpoint import Checkpoint, Epoch
    from onward_training.data import Dataset
    from onward_training.evaluation import Evaluation

__all__ = ["app", "evaluate", "inspect", "train"]

app = make_app("Train classifiers into checkpoints, and evaluate them.")

DataName = Annotated[str, typer.Option(help="digits, fashion-mnist, mnist, folder:PATH (one folder a class) or fake.")]
DataDir = Annotated[Path | None, typer.Option(help="Where mnist's and fashion-mnist's files are.")]
MODELS = (
    "neuron, two-layers, perceptron, perceptron-module, sequential, network, classifier, cnn, torchvision:NAME, "
    "timm:NAME, FILE.py:NAME or package.module:NAME."
)
Arguments = Annotated[str, typer.Option("--model-args", help="JSON, e.g. '{\"hidden\": [512, 256]}'.")]
FinalActivation = Annotated[
    str, typer.Option(help="What the network ends in: auto, logits, log-softmax, softmax or sigmoid.")
]
AllowGlobal = Annotated[
    list[str] | None, typer.Option(help="A class that the weights' file may ask for (repeatable), if you trust it.")
]
DEFAULT_OUT = Path("artifacts")
MAX_CLASSES_SHOWN = 30
RUN, LEARN, REGULATE = "The run", "Learning", "Regularisation"


@app.command()
def train(
    data: DataName = "digits",
    model: Annotated[str, typer.Option(help=MODELS)] = "classifier",
    model_args: Arguments = "{}",
    final_activation: FinalActivation = "auto",
    weights: Annotated[Path | None, typer.Option(help="Begin with these, anybody's, instead of random ones.")] = None,
    allow_global: AllowGlobal = None,
    classes: Annotated[str | None, typer.Option(help="Only these labels of the data set, comma-separated.")] = None,
    image_size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH, for folder:PATH.")] = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="The best epoch; by default artifacts/DATA-MODEL.pt.", rich_help_panel=RUN)
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on with the run that stands at --out, if there is one.", rich_help_panel=RUN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Begin anew where an unfinished run stands.", rich_help_panel=RUN)
    ] = False,
    save_minutes: Annotated[
        float, typer.Option(help="Save the state this often within an epoch, too.", rich_help_panel=RUN)
    ] = 10.0,
    seed: Annotated[
        int, typer.Option(help="Of weights, order, dropout and validation split.", rich_help_panel=RUN)
    ] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.", rich_help_panel=RUN)] = "cpu",
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16 or (cuda) float16.", rich_help_panel=RUN)
    ] = "float32",
    num_workers: Annotated[
        int, typer.Option(help="Processes that decode a folder too large for memory.", rich_help_panel=RUN)
    ] = 2,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.", rich_help_panel=LEARN)] = 10,
    batch_size: Annotated[int, typer.Option(help="Images a step.", rich_help_panel=LEARN)] = 64,
    optimizer: Annotated[str, typer.Option(help="adam, adamw or sgd.", rich_help_panel=LEARN)] = "adam",
    learning_rate: Annotated[float, typer.Option(help="At its highest.", rich_help_panel=LEARN)] = 1e-3,
    momentum: Annotated[float, typer.Option(help="Of sgd.", rich_help_panel=LEARN)] = 0.9,
    schedule: Annotated[str, typer.Option(help="cosine, constant or one-cycle.", rich_help_panel=LEARN)] = "cosine",
    patience: Annotated[
        int, typer.Option(help="Stop after so many epochs without a better one; 0 never.", rich_help_panel=LEARN)
    ] = 0,
    augment: Annotated[
        str,
        typer.Option(
            help="Comma-separated: flip, crop, resized-crop, rotate, color-jitter, erase, trivial, randaugment.",
            rich_help_panel=REGULATE,
        ),
    ] = "none",
    weight_decay: Annotated[float, typer.Option(help="As the optimizer takes it.", rich_help_panel=REGULATE)] = 0.0,
    label_smoothing: Annotated[float, typer.Option(help="0 to 1.", rich_help_panel=REGULATE)] = 0.0,
    clip_norm: Annotated[
        float, typer.Option(help="The gradient's largest norm; 0 for any.", rich_help_panel=REGULATE)
    ] = 0.0,
    class_weights: Annotated[
        str, typer.Option(help="none or balanced, for classes of unequal size.", rich_help_panel=REGULATE)
    ] = "none",
    as_json: AsJson = False,
) -> None:
    """Train a network and keep its best epoch as a checkpoint."""
    from onward.interruption import interruptible
    from onward_training.evaluator import checkpoint_runner
    from onward_training.evaluator import evaluate as run_evaluation
    from onward_training.external import start_from
    from onward_training.loop import train as run
    from onward_training.options import TrainOptions
    from onward_training.run_folder import RunFolder

    size = parse_size(image_size)
    known, known_arguments = _known(data, model, weights, size)
    options = TrainOptions(
        model=model,
        arguments=known_arguments | parse_arguments(model_args),
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
    dataset = _training_data(data, known, data_dir, size, seed)
    if classes is not None:
        dataset = dataset.select(classes.split(","))
    run_folder = RunFolder(out or DEFAULT_OUT / f"{dataset.name}-{_plain_name(model)}.pt", 60 * save_minutes)
    found = run_folder.find() if resume else None
    if resume and found is None:
        remark(f"there is no run at {run_folder.last_path} to go on with: beginning one")
    if not resume and not overwrite:
        run_folder.check_free()
    with (
        interruptible() as interruption,
        progress("train", epochs * len(dataset.train), unit="images", quiet=as_json) as advance,
    ):
        if found is not None:
            last = found[0]
            done = len(last.history) * len(dataset.train) + last.progress["step"] * batch_size
            remark(f"going on after {len(last.history)} epochs and {last.progress['step']} steps")
            advance(done)
        checkpoint = run(
            dataset,
            options,
            data=data,
            start=None if weights is None else start_from(weights, allow_globals=allow_global or (), tell=remark),
            run_folder=run_folder,
            resume_from=found,
            on_step=lambda step: advance(step.count, step.describe),
            on_epoch=(lambda epoch: None) if as_json else remark_on_epoch,
            should_stop=interruption,
        )
    if interruption():
        remark(f"stopped; the state is in {run_folder.last_path}: the same command with --resume goes on from there")
        raise typer.Exit(interruption.exit_code)
    evaluation = run_evaluation(checkpoint_runner(checkpoint), dataset.test)
    _tell_failures(dataset)
    if as_json:
        print_json(describe(checkpoint) | {"checkpoint": str(run_folder.path), "test": evaluation.to_json()})
    else:
        low, high = evaluation.interval_95
        print(
            f"test accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, "
            f"{len(evaluation.targets):,} images), epoch {checkpoint.provenance['best_epoch']} of "
            f"{len(checkpoint.history)} → {run_folder.path}"
        )


@app.command()
def evaluate(
    what: Annotated[
        str, typer.Argument(metavar="CHECKPOINT|BUNDLE|WEIGHTS", help="What to evaluate: ours, or anybody's weights.")
    ],
    data: Annotated[str | None, typer.Option(help="As for train; by default what the model was trained on.")] = None,
    data_dir: DataDir = None,
    model: Annotated[str | None, typer.Option(help=f"What the weights are of: {MODELS}")] = None,
    model_args: Arguments = "{}",
    final_activation: FinalActivation = "auto",
    mean: Annotated[str | None, typer.Option(help="Of weights: one or three numbers, of pixels in 0..1.")] = None,
    std: Annotated[str | None, typer.Option(help="Of weights: one or three numbers.")] = None,
    allow_global: AllowGlobal = None,
    artifact: ArtifactName = "onnx",
    provider: ProviderName = "cpu",
    html: Annotated[Path | None, typer.Option(help="Write a page with curves, confusions and mistakes.")] = None,
    as_json: AsJson = False,
) -> None:
    """Classify the test images and compare with the truth."""
    from onward.classifier import load as load_bundle
    from onward.feed import from_pixels
    from onward.signature import of_images
    from onward_training.data import load_for
    from onward_training.evaluation_page import write_evaluation_page
    from onward_training.evaluator import checkpoint_runner
    from onward_training.evaluator import evaluate as run
    from onward_training.import_weights import open_checkpoint

    history: tuple[Epoch, ...] = ()
    if Path(what).is_dir():
        classifier = load_bundle(what, artifact=artifact, provider=provider)
        signature = of_images(classifier.signature)
        predict: Run = lambda images: classifier.backend.run(from_pixels(images, signature))  # noqa: E731
        trained_on = str(classifier.bundle.provenance.get("data", ""))
    else:
        checkpoint = open_checkpoint(
            Path(what),
            model=model,
            arguments=parse_arguments(model_args),
            final_activation=final_activation,
            data=data,
            data_dir=data_dir,
            mean=parse_numbers(mean),
            std=parse_numbers(std),
            allow_globals=allow_global or (),
            tell=remark,
        )
        signature, predict = of_images(checkpoint.signature), checkpoint_runner(checkpoint)
        trained_on, history = checkpoint.data, checkpoint.history
    if not (data or trained_on):
        raise UsageError(f"it is not known what {what} was trained on: --data names the images to evaluate it on.")
    dataset = load_for(signature, data or trained_on, data_dir)
    _tell(dataset)
    with progress("evaluate", len(dataset.test), unit="images", quiet=as_json) as advance:
        evaluation = run(predict, dataset.test, on_progress=advance)
    _tell_failures(dataset)
    if html is not None:
        write_evaluation_page(
            html,
            evaluation,
            signature=signature,
            images=lambda index: dataset.test.read(slice(index, index + 1))[0][0],
            title=f"{Path(what).name} on {dataset.name}",
            history=history,
            notes=dataset.notes,
        )
    if as_json:
        print_json(evaluation.to_json())
    else:
        print_evaluation(evaluation, signature.labels)
        if html is not None:
            print(f"page: {html}")


@app.command()
def inspect(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="What to look into.")],
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint holds."""
    from onward.cli.inspect import print_signature
    from onward_training.checkpoint import Checkpoint

    document = describe(Checkpoint.load(checkpoint))
    if as_json:
        print_json(document)
        return
    print_signature(document["signature"], checkpoint)
    rows = [[key, str(document[key])] for key in ("architecture", "arguments", "data", "num_parameters")]
    print_table(["checkpoint", ""], rows + [[key, str(value)] for key, value in document["provenance"].items()])


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint holds, as plain data."""
    from dataclasses import asdict

    return {
        "architecture": checkpoint.architecture,
        "arguments": dict(checkpoint.arguments),
        "final_activation": checkpoint.final_activation,
        "data": checkpoint.data,
        "num_parameters": sum(tensor.numel() for tensor in checkpoint.state_dict.values()),
        "weights_sha256": checkpoint.weights_digest(),
        "signature": checkpoint.signature.to_json(),
        "history": [asdict(epoch) for epoch in checkpoint.history],
        "provenance": dict(checkpoint.provenance),
    }


def remark_on_epoch(epoch: Epoch) -> None:
    """One line an epoch, on standard error."""
    remark(
        f"epoch {epoch.epoch:>3}  training: loss {epoch.train_loss:.4f}, {epoch.train_accuracy:.2%}  "
        f"validation: loss {epoch.validation_loss:.4f}, {epoch.validation_accuracy:.2%}  {epoch.elapsed_s:.1f} s"
    )


def print_evaluation(evaluation: Evaluation, labels: tuple[str, ...]) -> None:
    """Accuracy, then a row a class."""
    from onward_training.evaluation import CLASS_COLUMNS, class_rows

    low, high = evaluation.interval_95
    rows = class_rows(evaluation, labels, count=MAX_CLASSES_SHOWN)
    print_table(CLASS_COLUMNS, rows)
    if len(rows) < len(labels):
        print(f"the {len(rows)} of {len(labels)} classes with the lowest F1; --json has all")
    top = "".join(f", top {k} {evaluation.top_k_accuracy(k):.2%}" for k in (3, 5) if k < len(labels))
    print(
        f"accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}){top}, loss {evaluation.loss:.4f}, "
        f"calibration error {evaluation.calibration_error:.2%}, {len(evaluation.targets):,} images"
    )


def parse_arguments(text: str) -> dict[str, Any]:
    """Read the JSON object that `--model-args` is."""
    try:
        arguments = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--model-args is no JSON: {error}.") from error
    if not isinstance(arguments, dict):
        raise UsageError(f'--model-args is {text}, expected an object such as {{"hidden": [512, 256]}}.')
    return arguments


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Read HEIGHTxWIDTH."""
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise UsageError(f"--image-size is {text!r}, expected HEIGHTxWIDTH such as 28x28.")
    return int(height), int(width)


def parse_numbers(text: str | None) -> tuple[float, ...] | None:
    """Read comma-separated numbers."""
    try:
        return tuple(map(float, text.split(","))) if text is not None else None
    except ValueError as error:
        raise UsageError(f"{text!r} is expected to be numbers such as 0.485,0.456,0.406.") from error


def _training_data(
    data: str, known: Signature | None, data_dir: Path | None, size: tuple[int, int] | None, seed: int
) -> Dataset:
    """The data set, in the form that weights were trained on where that is known."""
    from dataclasses import replace

    from onward_training.data import load

    dataset = load(data, data_dir=data_dir, image_size=size, seed=seed, like=known)
    if known is not None:
        dataset = replace(
            dataset, signature=replace(dataset.signature, mean=known.mean, std=known.std, repeat=known.repeat)
        )
    _tell(dataset)
    return dataset


def _known(data: str, model: str, weights: Path | None, size: object) -> tuple[Signature | None, dict[str, Any]]:
    """What is known of the weights to begin with, where the images of a folder can be made like it."""
    from onward.signature import of_images
    from onward_training.checkpoint import is_checkpoint
    from onward_training.import_weights import known_signature

    if weights is None or size is not None or not data.startswith("folder"):
        return None, {}
    if not (is_checkpoint(weights) or model.startswith("torchvision:")):
        return None, {}
    signature, arguments = known_signature(model, weights, remark)
    return of_images(signature), arguments


def _tell(dataset: Dataset) -> None:
    for note in dataset.notes:
        remark(note)


def _tell_failures(dataset: Dataset) -> None:
    """Images of a streamed folder that turned out to be unreadable on the way."""
    from onward_training.data.files import FileSplit

    splits = (dataset.train, dataset.validation, dataset.test)
    failures = {file: why for split in splits if isinstance(split, FileSplit) for file, why in split.failures.items()}
    if failures:
        file, why = next(iter(failures.items()))
        remark(f"{len(failures):,} images could not be read and were left out, e.g. {file}: {why}")


def _plain_name(model: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in model.rpartition("/")[2])
