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
from torch.export import Dim, ExportedProgram, _unlift

from onward.errors import NotExportable, reason_of
from onward.feed import draw
from onward.signature import AnySignature
from onward_export.deployable import Deployable, TensorDeployable, tensors_of
from onward_export.formats.archive import clean_archive
from onward_export.formats.capture import Capture
from onward_export.place import place_of_error
from onward_export.scripted import UnscriptedModule

__all__ = ["DEPENDS_ON_DATA", "example_inputs", "export_program", "quietly", "write_pt2"]

BATCH = "batch"
#: PyTorch 2.6 and 2.7 compare sizes with the largest number of 64 bits, and refuse a batch that could be as large.
LARGEST_BATCH = None if torch.__version__ >= "2.8" else 2**31 - 1
#: Whether this PyTorch writes .pt2 files that hold tensors as bytes, and no pickles.
WRITES_PT2 = torch.__version__ >= "2.9"
#: How the reason begins where a trace would record one branch of several.
DEPENDS_ON_DATA = "the model's control flow depends on its data"


def export_program(deployable: Deployable, signature: AnySignature) -> ExportedProgram:
    """The program, for a batch of any size, and for any size wherever the signature has None.

    Raises:
        NotExportable: The model cannot be captured, its control flow depends on data, or it fixes a free size.

    Source: torch.export, `export`; `Dim` (an explicit one: a model that fixes it is an error, `Dim.AUTO` accepts it).
    """
    _check_not_scripted(deployable)
    inputs = example_inputs(deployable, signature)
    batch = Dim(BATCH, min=1, max=LARGEST_BATCH)
    # the model may bound a free size (a kernel of 7 takes at least 7 pixels), so it is not named here
    free = [
        {0: batch} | {axis: Dim.DYNAMIC for axis, size in enumerate(item.shape, 1) if size is None}
        for item in signature.inputs
    ]
    shapes: Any = (tuple(free),) if isinstance(deployable, TensorDeployable) else tuple(free)
    capture = Capture(deployable)
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False), quietly(), capture:
            program = torch.export.export(deployable, inputs, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch.export raises errors of every kind, and the network's own
        raise NotExportable(_sentence(error, capture)) from error
    _name_inputs_of_guards(program)
    return program


def example_inputs(deployable: Deployable, signature: AnySignature) -> tuple[torch.Tensor, ...]:
    """Two samples for capturing a module."""
    return tensors_of(draw(signature, 2, np.random.default_rng(0)), deployable)


def write_pt2(program: ExportedProgram, path: Path) -> None:
    """Write the program as .pt2, without stack traces and sample inputs.

    Raises:
        NotExportable: This PyTorch writes an older kind of file.

    Source: torch.export, `save`.
    """
    if not WRITES_PT2:
        raise NotExportable(
            f"PyTorch {torch.__version__} writes .pt2 files of an older kind, which hold pickles and are not opened. "
            f"Install PyTorch 2.9 or newer, or leave .pt2 out: `--formats onnx,torchscript`."
        )
    example, data = program._example_inputs, io.BytesIO()
    program._example_inputs = None
    try:
        with _without_stack_traces(program):
            torch.export.save(program, data)
    finally:
        program._example_inputs = example
    path.write_bytes(clean_archive(data.getvalue()))


def _name_inputs_of_guards(program: ExportedProgram) -> None:
    """PyTorch 2.9: write `L['inputs'][1]`, one of several inputs of a guard, by the name its module has for it.

    The module that torch.onnx takes the program for would end with "name 'L' is not defined".

    Source: PyTorch 2.10, `torch.export._unlift._force_gm_signature_match`, which does it.
    """
    if hasattr(program, "_guards_code") and not hasattr(_unlift, "_force_gm_signature_match"):
        program._guards_code = [
            re.sub(r"L\['(\w+)'\]\[(\d+)\]", r"L['\1_\2']", guard) for guard in program._guards_code
        ]


@contextmanager
def _without_stack_traces(program: ExportedProgram) -> Iterator[None]:
    """The program without what it notes of its source; afterwards it has that again."""
    noted = [
        (node.meta, key, node.meta.pop(key))
        for module in program.graph_module.modules()
        for node in getattr(getattr(module, "graph", None), "nodes", ())
        for key in ("stack_trace", "source_fn_stack")
        if key in node.meta
    ]
    try:
        yield
    finally:
        for meta, key, value in noted:
            meta[key] = value


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


def _check_not_scripted(deployable: Deployable) -> None:
    for name, module in deployable.named_modules():
        if isinstance(module, UnscriptedModule):
            raise NotExportable(
                f"{name} is a module of TorchScript, which torch.export cannot capture. Export the module from which "
                f"it was made, or export to TorchScript only: `--formats torchscript`."
            )


def _sentence(error: Exception, capture: Capture) -> str:
    place = place_of_error(error, capture.module)
    if place.line == capture.last.line:
        place = capture.last
    if _depends_on_data(error):
        place = place if place.line else capture.last
        return (
            f"{DEPENDS_ON_DATA}{place.in_brackets()}. Write the choice with `torch.where` "
            f"or `torch.cond`, or export to TorchScript only: `--formats torchscript --torchscript script`."
        )
    if "specialized" in str(error) or "Constraints violated" in str(error):
        return (
            f"the model fixes a size that must be free{capture.first_condition.in_brackets()}. Compute it from "
            f"`x.shape` with operators that take a batch of any size. If it is the height or the width, export without "
            f"--dynamic-size."
        )
    return (
        f"torch.export cannot capture the model{place.in_brackets()}: {reason_of(error).rstrip('.')}. If it can be "
        f"traced, export to TorchScript only: `--formats torchscript`."
    )


def _depends_on_data(error: Exception) -> bool:
    text = str(error)
    return "data-dependent" in text.lower() or "DataDependent" in type(error).__name__ or "Eq(u0" in text
