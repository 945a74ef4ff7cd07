"""The commands of the training floor: train, evaluate, inspect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.console import app as make_app
from runtime.console import print_json, print_table, progress, remark
from runtime.errors import UsageError

if TYPE_CHECKING:
    from runtime.parity import Run
    from training.checkpoint import Checkpoint, Epoch
    from training.evaluation import Evaluation

__all__ = ["app", "evaluate", "inspect", "train"]

app = make_app("Train classifiers into checkpoints, and evaluate them.")

DataName = Annotated[str, typer.Option(help="digits, fashion-mnist, mnist, folder:PATH (one folder a class) or fake.")]
DataDir = Annotated[Path | None, typer.Option(help="Where mnist's and fashion-mnist's files are.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DEFAULT_OUT = Path("artifacts")


@app.command()
def train(
    data: DataName = "digits",
    model: Annotated[str, typer.Option(help="perceptron, classifier or cnn.")] = "classifier",
    model_args: Annotated[str, typer.Option(help="JSON, e.g. '{\"hidden\": [512, 256]}'.")] = "{}",
    out: Annotated[Path | None, typer.Option(help="The checkpoint; by default artifacts/DATA-MODEL.pt.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, at its highest.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of weights, order, dropout and validation split.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    image_size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH, for folder:PATH.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Train a network and keep its best epoch as a checkpoint."""
    from training.data import load
    from training.evaluation import evaluate as run_evaluation
    from training.evaluation import runner
    from training.loop import Options
    from training.loop import train as run

    options = Options(model, parse_arguments(model_args), epochs, batch_size, learning_rate, seed, device)
    dataset = load(data, data_dir=data_dir, image_size=_size(image_size), seed=seed)
    out = out or DEFAULT_OUT / f"{dataset.name}-{model}.pt"
    with progress("train", epochs * len(dataset.train), unit="images", quiet=as_json) as advance:
        checkpoint = run(
            dataset,
            options,
            data=data,
            on_step=advance,
            on_epoch=(lambda epoch: None) if as_json else remark_on_epoch,
        )
    checkpoint.save(out)
    evaluation = run_evaluation(runner(checkpoint), dataset.test)
    if as_json:
        print_json(describe(checkpoint) | {"checkpoint": str(out), "test": evaluation.to_json()})
    else:
        low, high = evaluation.interval_95
        print(
            f"test accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, "
            f"{len(dataset.test):,} images), epoch {checkpoint.provenance['best_epoch']} of {epochs} → {out}"
        )


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="CHECKPOINT|BUNDLE", help="What to evaluate.")],
    data: Annotated[str | None, typer.Option(help="As for train; by default what the model was trained on.")] = None,
    data_dir: DataDir = None,
    artifact: Annotated[str, typer.Option(help="Of a bundle: onnx, torchscript or pt2.")] = "onnx",
    provider: Annotated[str, typer.Option(help="Of a bundle: the execution provider.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Classify the test images and compare with the truth: accuracy, recall and precision."""
    from runtime.classifier import load as load_bundle
    from training.checkpoint import Checkpoint
    from training.data import load
    from training.evaluation import evaluate as run
    from training.evaluation import runner

    if model.is_dir():
        classifier = load_bundle(model, artifact=artifact, provider=provider)
        predict: Run
        signature, predict = classifier.signature, classifier.backend.run
        trained_on = str(classifier.bundle.provenance.get("data", ""))
    else:
        checkpoint = Checkpoint.load(model)
        signature, predict, trained_on = checkpoint.signature, runner(checkpoint), checkpoint.data
    name = data or trained_on
    size = (signature.height, signature.width) if name.startswith(("folder", "fake")) else None
    dataset = load(name, data_dir=data_dir, image_size=size)
    for what in ("labels", "image_shape"):
        theirs, ours = getattr(dataset.signature, what), getattr(signature, what)
        if theirs != ours:
            raise UsageError(f"{name} has the {what.replace('_', ' ')} {theirs}, the model {ours}.")
    with progress("evaluate", len(dataset.test), unit="images", quiet=as_json) as advance:
        evaluation = run(predict, dataset.test, on_progress=advance)
    if as_json:
        print_json(evaluation.to_json())
    else:
        print_evaluation(evaluation, signature.labels)


@app.command()
def inspect(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="What to look into.")],
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint holds."""
    from runtime.commands import print_signature
    from training.checkpoint import Checkpoint

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
        f"epoch {epoch.epoch:>3}  training loss {epoch.train_loss:.4f}  validation loss "
        f"{epoch.validation_loss:.4f}  accuracy {epoch.validation_accuracy:.2%}  {epoch.elapsed_s:.1f} s"
    )


def print_evaluation(evaluation: Evaluation, labels: tuple[str, ...]) -> None:
    """Accuracy, then a row a class."""
    document = evaluation.to_json()
    low, high = evaluation.interval_95
    rows = [
        [label, str(int(evaluation.confusion[index].sum()))]
        + [f"{document[key][index]:.1%}" for key in ("recall", "precision")]
        for index, label in enumerate(labels)
    ]
    print_table(["class", ">images", ">recall", ">precision"], rows)
    print(
        f"accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}), top 3 "
        f"{document['top_3_accuracy']:.2%}, {document['num_images']:,} images"
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


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise UsageError(f"--image-size is {text!r}, expected HEIGHTxWIDTH such as 28x28.")
    return int(height), int(width)
