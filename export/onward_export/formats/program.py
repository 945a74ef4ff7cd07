"""Program: `torch.export` of a Deployable, and the .pt2 file that holds it."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from onward.errors import NotExportable, reason_of
from onward.feed import draw
from onward.signature import AnySignature
from onward_export.deployable import Deployable, TensorDeployable, tensors_of
from onward_export.formats.archive import clean_archive

__all__ = ["DEPENDS_ON_DATA", "example_inputs", "export_program", "line_of_code", "quietly", "write_pt2"]

BATCH = "batch"
#: How the reason begins where a trace would record one branch of several.
DEPENDS_ON_DATA = "the model's control flow depends on its data"


def export_program(deployable: Deployable, signature: AnySignature) -> ExportedProgram:
    """The program, for a batch of any size, and for any size wherever the signature has None.

    Raises:
        NotExportable: The model cannot be captured, its control flow depends on data, or it fixes a free size.

    Source: torch.export, `export`; `Dim` (an explicit one: a model that fixes it is an error, `Dim.AUTO` accepts it).
    """
    inputs = example_inputs(deployable, signature)
    batch = Dim(BATCH, min=1)
    # the model may bound a free size (a kernel of 7 takes at least 7 pixels), so it is not named here
    free = [
        {0: batch} | {axis: Dim.DYNAMIC for axis, size in enumerate(item.shape, 1) if size is None}
        for item in signature.inputs
    ]
    shapes: Any = (tuple(free),) if isinstance(deployable, TensorDeployable) else tuple(free)
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False), quietly():
            return torch.export.export(deployable, inputs, dynamic_shapes=shapes, strict=False)
    except (torch._dynamo.exc.UserError, RuntimeError, ValueError, TypeError) as error:
        raise NotExportable(_sentence(error)) from error


def example_inputs(deployable: Deployable, signature: AnySignature) -> tuple[torch.Tensor, ...]:
    """Two samples for capturing a module."""
    return tensors_of(draw(signature, 2, np.random.default_rng(0)), deployable)


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
    path.write_bytes(clean_archive(data.getvalue()))


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the warnings and logs of PyTorch's exporters, which are meant for their developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def line_of_code(text: str) -> str:
    """The last line of a traceback that is not in PyTorch: `net.py:12, in forward: if x.sum() > 0:`."""
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\S+)\n\s*(\S[^\n]*)', text)
    theirs = [frame for frame in frames if "/site-packages/torch/" not in frame[0] and "<" not in frame[0]]
    if not theirs:
        return ""
    path, line, function, code = theirs[-1]
    return f"{Path(path).name}:{line}, in {function}: {code.strip()}"


def _sentence(error: Exception) -> str:
    text = str(error)
    where = line_of_code(text)
    at = f", at {where}" if where else ""
    if "specialized" in text or "Constraints violated" in text:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        reason = next((line for line in lines if "specialized" in line), lines[0])
        return (
            f"the model fixes a size that must be free{at}: {reason} Compute it from `x.shape` in `forward`. If it is "
            "the height or the width, export without --dynamic-size."
        )
    if "data-dependent" in text.lower() or "DataDependent" in type(error).__name__ or "Eq(u0" in text:
        return (
            f"{DEPENDS_ON_DATA}{at}. Write the choice with `torch.where` or `torch.cond`, "
            f"or export it to TorchScript only: `--formats torchscript --torchscript script`."
        )
    return f"torch.export cannot capture the model{at}: {reason_of(error)}"
