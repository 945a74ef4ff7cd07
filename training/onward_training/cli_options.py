"""Command-line options that several commands of this floor and of export share, and the parsers of their values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from onward.errors import UsageError

__all__ = [
    "MODELS",
    "AllowGlobal",
    "DataDir",
    "DataName",
    "EntryName",
    "ExifRule",
    "FinalActivation",
    "ModelArguments",
    "parse_arguments",
    "parse_numbers",
    "parse_size",
]

MODELS = (
    "neuron, two-layers, perceptron, perceptron-module, sequential, network, classifier, cnn, torchvision:NAME, "
    "timm:NAME, FILE.py:NAME or package.module:NAME."
)
DataName = Annotated[
    str,
    typer.Option(help="Data set: digits, fashion-mnist, mnist, folder:PATH (one folder per class) or fake (random)."),
]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the files of mnist or fashion-mnist.")]
ModelArguments = Annotated[
    str, typer.Option("--model-args", help="Further arguments of the network as JSON, e.g. '{\"hidden\": [512, 256]}'.")
]
FinalActivation = Annotated[
    str,
    typer.Option(
        help="The network's final activation: auto (found by a trial run), logits (none), log-softmax, softmax or "
        "sigmoid."
    ),
]
ExifRule = Annotated[
    str | None,
    typer.Option(
        "--exif",
        help="apply: turn photographs by their EXIF orientation, in training and wherever the model runs; ignore: read "
        "them as they are stored, as torchvision's ImageFolder does.",
    ),
]
AllowGlobal = Annotated[
    list[str] | None,
    typer.Option(
        help="Class or function that the weights file may load, e.g. argparse.Namespace; torch.nn: all classes of "
        "torch.nn and the networks of --model. Only for files that you trust. Repeatable."
    ),
]
EntryName = Annotated[
    str | None,
    typer.Option(
        "--entry",
        help="Where in the weights file the weights are, e.g. state_dict_ema or ema.model. Default: the averaged "
        "weights, if there are any; the command prints what it took.",
    ),
]


def parse_arguments(text: str) -> dict[str, Any]:
    """Parse the JSON object of `--model-args`.

    Raises:
        UsageError: It is not a JSON object.
    """
    try:
        arguments = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--model-args {text!r} is not JSON: {error}.") from error
    if not isinstance(arguments, dict):
        raise UsageError(f'--model-args is {text}, expected an object such as {{"hidden": [512, 256]}}.')
    return arguments


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parse HEIGHTxWIDTH of `--image-size`.

    Raises:
        UsageError: It is not two positive numbers.
    """
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise UsageError(f"--image-size is {text!r}, expected HEIGHTxWIDTH such as 28x28.")
    return int(height), int(width)


def parse_numbers(text: str | None) -> tuple[float, ...] | None:
    """Parse comma-separated numbers, of `--mean` and `--std`.

    Raises:
        UsageError: One is not a number.
    """
    try:
        return tuple(map(float, text.split(","))) if text is not None else None
    except ValueError as error:
        raise UsageError(f"{text!r} is not a list of numbers, expected e.g. 0.485,0.456,0.406.") from error
