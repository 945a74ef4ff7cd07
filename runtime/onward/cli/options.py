"""Arguments and options that several commands of any package take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ArtifactName", "AsJson", "BundlePath", "ProviderName"]

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that `onward export` wrote.")]
ArtifactName = Annotated[
    str,
    typer.Option(
        "--artifact", help="Name of the bundle's artifact to run: onnx, or torchscript or pt2, which need PyTorch."
    ),
]
ProviderName = Annotated[
    str,
    typer.Option(
        help="Execution provider: cpu, cuda, tensorrt, openvino, coreml, directml or a full name. A single provider is "
        "strict; `cuda,cpu` lets the CPU run what CUDA cannot."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
