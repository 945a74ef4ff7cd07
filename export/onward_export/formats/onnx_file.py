"""ONNX: the exported program as one file, with its signature inside and nothing about the machine that wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from torch.export import ExportedProgram

from onward.bundle.inspection import LICENCE_KEY, METADATA_KEY
from onward.errors import NotExportable, reason_of
from onward.signature import AnySignature, Signature
from onward_export.formats.onnx_operators import mended_exporter, translations
from onward_export.formats.program import BATCH, quietly
from onward_export.options import ExportOptions
from onward_export.passes import Measure, PassResult, run_passes, weights_bytes
from onward_export.passes.graph_pass import fits_into_one_file
from onward_export.place import Place, line_of_code, node_of_error, place_of_node

__all__ = ["OnnxExport", "opset_of", "write_onnx", "write_onnx_again"]

#: Suffix of the file for weights that do not fit into the ONNX file.
DATA_SUFFIX = ".data"
WITHOUT_ONNX = "Leave ONNX out (`--formats torchscript,pt2`), or use other operators of PyTorch."


@dataclass(frozen=True)
class OnnxExport:
    """How a program was translated to an ONNX file.

    Args:
        passes: The result of each pass over the graph.
        program: The program after the exporter's decompositions; values of the file are named after its nodes.
        translated: The graph before the passes.
    """

    passes: tuple[PassResult, ...]
    program: ExportedProgram
    translated: onnx_ir.Model


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
    passes = _write(translated, path, signature, provenance, options, measure)
    return OnnxExport(passes, decomposed, translated)


def write_onnx_again(
    written: OnnxExport,
    path: Path,
    signature: AnySignature,
    provenance: Mapping[str, Any],
    options: ExportOptions,
    measure: Measure,
) -> OnnxExport:
    """Write what was translated once more, with the passes that another measure lets through.

    Args:
        written: How it was written before. The rest is as for `write_onnx`.
    """
    return replace(written, passes=_write(written.translated, path, signature, provenance, options, measure))


def _write(
    translated: onnx_ir.Model,
    path: Path,
    signature: AnySignature,
    provenance: Mapping[str, Any],
    options: ExportOptions,
    measure: Measure | None,
) -> tuple[PassResult, ...]:
    try:
        model, passes = run_passes(translated, measure=measure)
    except NotExportable:
        _check_translation(translated, options.opset)  # a pass is not to blame for what it was given
        raise
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
        return passes
    proto = onnx_ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return passes


def opset_of(path: Path) -> int:
    """The version of the default operator set that a file uses."""
    model = onnx.load(path, load_external_data=False)
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def _translate(
    program: ExportedProgram, signature: AnySignature, options: ExportOptions
) -> tuple[onnx_ir.Model, ExportedProgram]:
    try:
        with quietly(), mended_exporter():
            result = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                optimize=False,  # onward_export.passes does it, checked and measured, and its folds round once
                opset_version=options.opset,
                input_names=[item.name for item in signature.inputs],
                output_names=list(signature.output_names),
                custom_translation_table=dict(translations()),
            )
    except Exception as error:  # torch.onnx raises errors of every kind
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
    node = node_of_error(error)
    if node is None:
        return f"torch.onnx cannot translate the model: {reason_of(error).rstrip('.')}. {WITHOUT_ONNX}"
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)  # type: ignore[arg-type]
    is_unknown = any("No ONNX function found" in str(cause) or "No decompositions" in str(cause) for cause in causes)
    found = "has no ONNX form" if is_unknown else f"cannot be translated to ONNX: {reason_of(error).rstrip('.')}"
    place = place_of_node(node)
    return f"{place.operator} in {place.module} {found}{f', at {place.line}' if place.line else ''}. {WITHOUT_ONNX}"


def _check_translation(model: onnx_ir.Model, opset: int) -> None:
    """The translated graph is valid before any pass has changed it.

    Raises:
        NotExportable: torch.onnx has written an operator that the opset does not have, or an invalid graph.
    """
    for node in model.graph.all_nodes():
        if node.domain == "" and (needed := _first_opset(node.op_type)) > opset:
            raise NotExportable(
                f"{_origin(node)} needs ONNX's {node.op_type}, which begins with opset {needed}: "
                f"export with `--opset {needed}`, or leave ONNX out: `--formats torchscript,pt2`."
            )
    if not fits_into_one_file(model):
        return
    try:
        onnx.checker.check_model(onnx_ir.to_proto(model), full_check=True)
    except Exception as error:  # onnx raises errors of every kind
        found = re.search(r"node name: ([^)]+)\)", str(error))
        wrong = next((node for node in model.graph.all_nodes() if found and node.name == found[1]), None)
        reason = reason_of(error).rstrip(".")
        raise NotExportable(
            f"torch.onnx writes an invalid graph{f' for {_origin(wrong)}' if wrong else ''}: {reason}. {WITHOUT_ONNX}"
        ) from error


def _first_opset(op_type: str) -> int:
    versions = [
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name == op_type and not schema.domain
    ]
    return min(versions, default=0)


def _origin(node: onnx_ir.Node) -> Place:
    """Where the operator of a node was called; the exporter notes it."""
    notes = node.metadata_props
    target = re.search(r"target=(?:torch\.ops\.)?([\w.]+)", notes.get("pkg.torch.onnx.fx_node", ""))
    scopes = re.findall(r"'([^']*)'", notes.get("pkg.torch.onnx.name_scopes", ""))
    module = next((scope for scope in reversed(scopes[:-1]) if scope), "")
    return Place(
        target[1] if target else node.op_type, module, line_of_code(notes.get("pkg.torch.onnx.stack_trace", ""))
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
