"""Program: `torch.export` of a Deployable, and the .pt2 file that holds it."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from export.archive import rewrite
from export.deployable import Deployable
from runtime.errors import NotExportable, reason_of
from runtime.signature import IMAGE, Signature

__all__ = ["export_program", "write_pt2"]


def export_program(deployable: Deployable, signature: Signature) -> ExportedProgram:
    """The program, with a batch of any size.

    Raises:
        NotExportable: The model cannot be captured, or fixes the batch size.

    Source: torch.export, `export`; `Dim` (an explicit one: what fixes it is an error, `Dim.AUTO` would accept it).
    """
    example = torch.zeros((2, *signature.image_shape), dtype=torch.uint8)
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return torch.export.export(
                deployable, (example,), dynamic_shapes={IMAGE: {0: Dim("batch", min=1)}}, strict=False
            )
    except torch._dynamo.exc.UserError as error:
        raise NotExportable(f"the model fixes the batch size or depends on its data: {_reason(error)}") from error
    except (RuntimeError, ValueError, TypeError) as error:
        raise NotExportable(f"torch.export cannot capture the model: {reason_of(error)}") from error


def write_pt2(program: ExportedProgram, path: Path) -> None:
    """Write the program as .pt2, without stack traces and sample inputs.

    Source: torch.export, `save`.
    """
    for graph_module in program.graph_module.modules():
        for node in getattr(getattr(graph_module, "graph", None), "nodes", ()):
            for key in ("stack_trace", "source_fn_stack"):
                node.meta.pop(key, None)
    program._example_inputs = None
    data = io.BytesIO()
    torch.export.save(program, data)
    path.write_bytes(rewrite(data.getvalue()))


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "specialized" in line or "batch" in line), lines[0] if lines else "")
