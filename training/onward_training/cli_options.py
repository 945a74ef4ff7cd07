"""Command-line options that several commands of this floor and of export share, and the parsers of their values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from onward.errors import UsageError

__all__ = [
    "FOREIGN",
    "MODELS",
    "DataDir",
    "DataName",
    "Download",
    "EntryName",
    "ExifRule",
    "FinalActivation",
    "ImageSize",
    "Mean",
    "ModelArguments",
    "NetworkOfWeights",
    "ResizeRule",
    "Std",
    "WeightsOfModel",
    "parse_arguments",
]

MODELS = (
    "neuron, two-layers, perceptron, perceptron-module, sequential, network, classifier, cnn, torchvision:NAME, "
    "timm:NAME, FILE.py:NAME or package.module:NAME."
)
#: The panels of these options in `--help`.
PREPROCESSING, FOREIGN = "Preprocessing", "Models not trained with Onward"
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
        rich_help_panel=PREPROCESSING,
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        help="Size of the network's input: a side such as 224, HEIGHTxWIDTH, or HEIGHTxWIDTHxCHANNELS.",
        rich_help_panel=PREPROCESSING,
    ),
]
ResizeRule = Annotated[
    str | None,
    typer.Option(
        "--resize",
        help="How an image gets that size: stretch (both sides), or shorter-side:256 (the shorter side to 256, keeping "
        "the proportions, then the centre). Interpolation other than bilinear: stretch:bicubic.",
        rich_help_panel=PREPROCESSING,
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        "--mean",
        help="Mean of the pixels, scaled to 0..1: one number, or three separated by commas.",
        rich_help_panel=PREPROCESSING,
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        "--std",
        help="Standard deviation of the pixels, scaled to 0..1: one number, or three.",
        rich_help_panel=PREPROCESSING,
    ),
]
NetworkOfWeights = Annotated[
    str | None, typer.Option("--model", help=f"The network of the weights: {MODELS}", rich_help_panel=FOREIGN)
]
WeightsOfModel = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="The file with the weights, if the argument is a model; DEFAULT: the one that torchvision or timm "
        "publishes.",
        rich_help_panel=FOREIGN,
    ),
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch the file of --weights DEFAULT if it is not on this machine.")
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
