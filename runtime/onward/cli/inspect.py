"""`onward inspect`."""

from __future__ import annotations

import json
import zipfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from onward.cli.console import print_json, print_table
from onward.cli.options import AsJson

__all__ = ["INSPECTORS_GROUP", "inspect", "print_signature"]

#: Entry points for what a zip file may be: functions of its path and of `--json`.
INSPECTORS_GROUP = "onward.inspectors"


def inspect(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE|FILE.onnx|CHECKPOINT", help="What to look into.")],
    as_json: AsJson = False,
) -> None:
    """Say what a bundle, an ONNX file or a checkpoint takes, gives and comes from."""
    from onward.bundle.inspection import inspect_bundle, inspect_onnx

    if path.is_file() and zipfile.is_zipfile(path):
        for entry in entry_points(group=INSPECTORS_GROUP):
            entry.load()(path, as_json)
        return
    document = inspect_onnx(path) if path.is_file() else inspect_bundle(path)
    if as_json:
        print_json(document)
        return
    print_signature(document["signature"], path)
    if "artifacts" in document:
        rows = [
            [item["name"], item["file"]["path"], f"{item['file']['size_bytes'] / 1e3:,.0f} kB", item["precision"]]
            + [f"{item['noise_ratio']:.2f}", item["file"]["sha256"][:12]]
            for item in document["artifacts"]
        ]
        print_table(["artifact", "file", ">size", "precision", ">noise ratio", "SHA-256"], rows)
        print_table(["provenance", ""], [[key, str(value)] for key, value in document["provenance"].items()])
    else:
        print_outline(document)


def print_signature(signature: dict[str, Any] | None, path: Path) -> None:
    """What goes in and what comes out, for people."""
    if signature is None:
        print(f"{path} carries no signature of Onward's.")
        return
    labels = signature["labels"]
    shown = ", ".join(labels[:12]) + (f", … ({len(labels)} in all)" if len(labels) > 12 else "")
    outputs = "; ".join(f"{item['name']} float32 {_shape(item)}" for item in signature["outputs"])
    taken = _image_rows(signature) if "input" in signature else _tensor_rows(signature)
    print_table(["signature", ""], [*taken, ["outputs", outputs], ["labels", shown]])


def _image_rows(signature: dict[str, Any]) -> list[list[str]]:
    image, rule, normalize = signature["input"], signature["preprocess"], signature["normalize"]
    where = "inside" if normalize["in_model"] else "by the app"
    content = "raw pixels 0 to 255" if normalize["in_model"] else "normalised by the app"
    return [
        ["image", f"{image['dtype']} {_shape(image)}, {image['layout']}, {rule['color']}, {content}"],
        ["resize", f"{rule['resize']}, {rule['interpolation']}"],
        [f"normalised {where}", f"mean {normalize['mean']}, std {normalize['std']}"],
    ]


def _tensor_rows(signature: dict[str, Any]) -> list[list[str]]:
    return [
        [item["name"], f"{item['dtype']} {_shape(item)}" + (f", {item['range']}" if item["range"] else "")]
        for item in signature["inputs"]
    ]


def print_outline(document: dict[str, Any]) -> None:
    """What an ONNX file is made of, for people."""
    values = [
        [side, item["name"], item["dtype"], "unknown" if item["shape"] is None else _shape(item)]
        for side, key in (("in", "inputs"), ("out", "outputs"))
        for item in document[key]
    ]
    print_table(["", "name", "dtype", "shape"], values)
    nodes = ", ".join(f"{count} {name}" for name, count in list(document["nodes"].items())[:8])
    rows = [
        ["written by", f"{document['producer']} {document['producer_version']}".strip()],
        ["IR version", str(document["ir_version"])],
        ["opsets", ", ".join(f"{domain} {number}" for domain, number in document["opsets"].items())],
        ["nodes", f"{document['num_nodes']:,}: {nodes}{', …' if len(document['nodes']) > 8 else ''}"],
        ["weights", f"{document['num_initializers']:,} tensors, {document['initializers_bytes'] / 1e6:,.2f} MB"],
    ]
    rows += [
        ["weights beside it", f"{item['location']}, {item['num_tensors']:,} tensors: {item['state']}"]
        for item in document["external"]
    ]
    print_table(["file", ""], rows)
    print_table(["metadata", ""], _metadata_rows(document["metadata"]))


def _metadata_rows(metadata: dict[str, str]) -> list[list[str]]:
    rows = []
    for key, value in metadata.items():
        if key == "onward.labels":  # they stand in the signature
            continue
        if key == "onward.provenance":
            rows += [[name, str(item)] for name, item in json.loads(value).items() if item not in (None, "", {})]
        else:
            rows.append([key.removeprefix("onward."), value if len(value) <= 90 else f"{value[:89]}…"])
    return rows


def _shape(item: dict[str, Any]) -> str:
    return f"({', '.join(map(str, item['shape']))})"
