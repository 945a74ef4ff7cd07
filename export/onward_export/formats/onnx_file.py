"""ONNX: the exported program as one file, with its signature inside and nothing about the machine that wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from torch.export import ExportedProgram

from onward.bundle.inspection import LICENCE_KEY, METADATA_KEY
from onward.errors import NotExportable, reason_of
from onward.signature import AnySignature, Signature
from onward_export.formats.program import BATCH, line_of_code, quietly
from onward_export.options import ExportOptions
from onward_export.passes import Measure, PassResult, run_passes, weights_bytes

__all__ = ["OnnxExport", "opset_of", "write_onnx"]

#: Suffix of the file for weights that do not fit into the ONNX file.
DATA_SUFFIX = ".data"


@dataclass(frozen=True)
class OnnxExport:
    """How a program was translated to an ONNX file.

    Args:
        passes: The result of each pass over the graph.
        program: The program after the exporter's decompositions; values of the file are named after its nodes.
    """

    passes: tuple[PassResult, ...]
    program: ExportedProgram


def write_onnx(
    program: ExportedProgram,
    path: Path,
    signature: AnySignature,
    provenance: Mapping[str, Any],
    options: ExportOptions | None = None,
    measure: Measure | None = None,
) -> OnnxExport:
    """Write the program as ONNX, with labels, signature and provenance in its metadata.

    Args:
        program: The exported program.
        path: The file; weights that do not fit into it go into a second file, `NAME.data`.
        signature: The inputs and outputs.
        provenance: Text and numbers.
        options: Opset, IR version, and the size from which on weights go into the second file.
        measure: Gives the worst noise ratio of a graph; each pass is judged by it.

    Raises:
        NotExportable: An operator has no ONNX form, or a pass gives a wrong graph.

    Source: torch.onnx, `export(dynamo=True)`.
    """
    options = options or ExportOptions()
    translated, decomposed = _translate(program, signature, options)
    model, passes = run_passes(translated, measure=measure)
    written = OnnxExport(passes, decomposed)
    _strip(model)
    _name_sizes(model, signature)
    model.ir_version = options.ir_version
    model.metadata_props.update(
        {
            METADATA_KEY: json.dumps(signature.to_json(), ensure_ascii=False),
            "onward.labels": json.dumps(list(signature.labels), ensure_ascii=False),
            "onward.provenance": json.dumps(dict(provenance), ensure_ascii=False, sort_keys=True),
        }
        | ({LICENCE_KEY: str(provenance["licence"])} if "licence" in provenance else {})
    )
    if weights_bytes(model) > options.external_data_above_bytes:
        onnx_ir.save(model, path, external_data=path.name + DATA_SUFFIX)
        onnx.checker.check_model(str(path), full_check=True)
        return written
    proto = onnx_ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return written


def opset_of(path: Path) -> int:
    """The version of the default operator set that a file uses."""
    model = onnx.load(path, load_external_data=False)
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _translate(
    program: ExportedProgram, signature: AnySignature, options: ExportOptions
) -> tuple[onnx_ir.Model, ExportedProgram]:
    try:
        with quietly():
            result = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                optimize=False,  # onward_export.passes does it, checked and measured, and its folds round once
                opset_version=options.opset,
                input_names=[item.name for item in signature.inputs],
                output_names=list(signature.output_names),
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise NotExportable(_why_not(error, program)) from error
    assert result is not None
    assert result.exported_program is not None
    return result.model, result.exported_program


def _strip(model: onnx_ir.Model) -> None:
    """Remove what the exporter notes about its machine: stack traces, class names, node descriptions."""
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


def _why_not(error: Exception, program: ExportedProgram) -> str:
    """Which operator has no ONNX form, where it is called, and what to try."""
    causes: list[BaseException] = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    found = re.search(r"OpOverload\(op='\w+\.(\w+)'", " ".join(str(cause) for cause in reversed(causes)))
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    # the exporter may have decomposed the operator: prims.bessel_j0 was aten.special_bessel_j0
    node = next((node for node in calls if found and found[1] in str(node.target)), None)
    if node is None:
        return f"torch.onnx cannot translate the model: {reason_of(causes[-1])}"
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    module = stack[-1][0].removeprefix("L['self'].") if stack else ""
    where = line_of_code(node.meta.get("stack_trace") or "")
    return (
        f"{node.target} in {module or 'the top module'} has no ONNX form{f', at {where}' if where else ''}. Use "
        f"other operators of PyTorch, try a later --opset, or leave ONNX out: `--formats torchscript,pt2`."
    )


def _name_sizes(model: onnx_ir.Model, signature: AnySignature) -> None:
    """Name the batch, and height and width where they are free, in every shape."""
    names = {str(model.graph.inputs[0].shape[0]): BATCH}  # type: ignore[index]
    if isinstance(signature, Signature) and signature.dynamic_size:
        first = 1 if signature.interface == "pixels" else 2
        names |= {
            str(model.graph.inputs[0].shape[axis]): name  # type: ignore[index]
            for axis, name in enumerate(("height", "width"), first)
        }
    pattern = re.compile("|".join(rf"\b{re.escape(symbol)}\b" for symbol in names))
    for value in _values(model):
        if value.shape is not None:
            value.shape = onnx_ir.Shape(
                [
                    size if isinstance(size, int) else pattern.sub(lambda found: names[found[0]], str(size))
                    for size in value.shape
                ]
            )


def _values(model: onnx_ir.Model) -> Iterator[onnx_ir.Value]:
    yield from model.graph.inputs
    yield from model.graph.initializers.values()
    for node in model.graph.all_nodes():
        yield from node.outputs
