"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "BundlePath", "ProviderName"]

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that `onward export` wrote.")]
ProviderName = Annotated[
    str,
    typer.Option(
        help="Execution provider: cpu, cuda, tensorrt, openvino, coreml, directml or a full name. Never replaced "
        "silently: `cuda,cpu` says that the processor may take what is left."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
