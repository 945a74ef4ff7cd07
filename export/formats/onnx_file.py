"""ONNX: the exported program as one file, clean of the machine that made it, with its signature inside."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from torch.export import ExportedProgram

from export.passes import Measure, PassResult, run_passes
from runtime.errors import NotExportable, reason_of
from runtime.inspection import METADATA_KEY
from runtime.signature import IMAGE, OUTPUTS, Signature

__all__ = ["opset_of", "write_onnx"]

BATCH = "batch"


def write_onnx(
    program: ExportedProgram,
    path: Path,
    signature: Signature,
    provenance: Mapping[str, Any],
    measure: Measure | None = None,
) -> tuple[PassResult, ...]:
    """Write the program as ONNX; labels, signature and provenance go into its metadata.

    Args:
        program: What is written.
        path: The file.
        signature: What it takes and gives.
        provenance: Where it comes from.
        measure: The worst noise ratio of a graph: what each pass over it is judged by.

    Returns:
        What each pass over the graph did.

    Raises:
        NotExportable: An operator has no ONNX form, or a pass does not keep what it promises.

    Source: torch.onnx, `export(dynamo=True)`.
    """
    model, passes = run_passes(_translate(program), measure=measure)
    _strip(model)
    _name_batch(model)
    model.metadata_props.update(
        {
            METADATA_KEY: json.dumps(signature.to_json(), ensure_ascii=False),
            "onward.labels": json.dumps(list(signature.labels), ensure_ascii=False),
            "onward.provenance": json.dumps(dict(provenance), ensure_ascii=False, sort_keys=True),
        }
    )
    proto = onnx_ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return passes


def opset_of(path: Path) -> int:
    """The version of the default operator set that a file asks for."""
    model = onnx.load(path, load_external_data=False)
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _translate(program: ExportedProgram) -> onnx_ir.Model:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                optimize=False,  # export/passes does it: checked, measured, and with folds that round once
                input_names=[IMAGE],
                output_names=list(OUTPUTS),
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise NotExportable(f"torch.onnx cannot translate the model: {reason_of(error)}") from error
    finally:
        logger.setLevel(level)
    assert result is not None
    return result.model


def _strip(model: onnx_ir.Model) -> None:
    """Remove what the exporter notes of its machine: stack traces, class names, node descriptions."""
    model.metadata_props.clear()
    model.doc_string = None
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
    for value in _values(model):
        value.metadata_props.clear()
        value.doc_string = None


def _name_batch(model: onnx_ir.Model) -> None:
    symbol = str(model.graph.inputs[0].shape[0])  # type: ignore[index]
    pattern = re.compile(rf"\b{re.escape(symbol)}\b")
    for value in _values(model):
        if value.shape is not None:
            value.shape = onnx_ir.Shape(
                [size if isinstance(size, int) else pattern.sub(BATCH, str(size)) for size in value.shape]
            )


def _values(model: onnx_ir.Model) -> Iterator[onnx_ir.Value]:
    yield from model.graph.inputs
    yield from model.graph.initializers.values()
    for node in model.graph.all_nodes():
        yield from node.outputs
