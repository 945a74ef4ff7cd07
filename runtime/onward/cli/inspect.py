"""`onward inspect`: what a bundle, an ONNX file or a checkpoint takes, gives and comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onward.bundle import FLOAT32, Artifact
from onward.cli.console import AsJson, print_json, print_table, say, say_next
from onward.cli.extensions import INSPECTORS_GROUP, load_extensions
from onward.document import Document, parse
from onward.errors import BundleError, OnwardError, UsageError, did_you_mean, some_of
from onward.model_file import kind_of
from onward.zip_files import is_zip

__all__ = ["inspect", "print_signature"]

MAX_LABELS_SHOWN = 12
MAX_OPERATORS_SHOWN = 8
MAX_METADATA_CHARS = 90


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="BUNDLE|FILE.onnx|CHECKPOINT", help="The folder or file to describe.")
    ],
    sbom: Annotated[
        bool, typer.Option("--sbom", help="Print a bundle's bill of materials: CycloneDX JSON with a model card.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a bundle, an ONNX file or a checkpoint takes, gives and comes from.

    Examples:
        onward inspect artifacts/digits
        onward inspect model.onnx --json
        onward inspect somebodys-weights.pth
    """
    from onward.bundle.inspection import inspect_bundle, inspect_onnx

    if not path.exists():
        near = did_you_mean(path.name, [item.name for item in path.parent.glob("*")])
        raise UsageError(
            f"{path} does not exist: expected a bundle, an ONNX file, a checkpoint or a weights file.{near}"
        )
    if sbom:
        _print_bill(path)
        return
    if path.is_file() and (is_zip(path) or kind_of(path) == "weights"):
        _inspect_zip(path, as_json)
        return
    document = inspect_onnx(path) if path.is_file() else inspect_bundle(path)
    if as_json:
        print_json(document)
        return
    print_signature(document["signature"], path)
    if "artifacts" in document:
        _print_artifacts(document)
        say_next(("verify", path), ("bench", path))
    else:
        _print_header(document)
        say_next(("bench", path))


def _print_bill(path: Path) -> None:
    from onward.bundle import Bundle
    from onward.bundle.bill_of_materials import bill_of_materials

    print_json(bill_of_materials(Bundle.open(path)))


def _inspect_zip(path: Path, as_json: bool) -> None:
    """Let the first inspector that can read the file print what it finds.

    Raises:
        OnwardError: None can; it says why.
    """
    refusals: list[OnwardError] = []
    for _, inspector in load_extensions(INSPECTORS_GROUP):
        try:
            inspector(path, as_json)
        except OnwardError as error:
            refusals.append(error)
        else:
            return
    if len(refusals) == 1:
        raise refusals[0]
    raise BundleError(
        f"{path} is a zip archive that no installed package can inspect, expected a bundle, an ONNX file or a "
        f"checkpoint. {' '.join(map(str, refusals))}".strip()
    )


def print_signature(signature: dict[str, Any] | None, path: Path) -> None:
    """Print what the model takes and gives, for people."""
    if signature is None:
        say(f"{path} has no signature: Onward did not write it.")
        return
    shown = some_of(signature["labels"], MAX_LABELS_SHOWN)
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
        ["EXIF orientation", "applied" if rule.get("exif") == "apply" else "ignored"],
        [f"normalised {where}", f"mean {normalize['mean']}, std {normalize['std']}"],
    ]


def _tensor_rows(signature: dict[str, Any]) -> list[list[str]]:
    return [
        [item["name"], f"{item['dtype']} {_shape(item)}" + (f", {item['range']}" if item["range"] else "")]
        for item in signature["inputs"]
    ]


def _print_artifacts(document: dict[str, Any]) -> None:
    rows = [
        [item["name"], item["file"]["path"], f"{item['file']['size_bytes'] / 1e3:,.0f} kB", item["precision"]]
        + [_noise_ratio(item), item["file"]["sha256"][:12]]
        for item in document["artifacts"]
    ]
    columns = ["artifact", "file", ">size", "precision", ">noise ratio", "SHA-256"]
    requires = [", ".join(item.get("requires", ())) for item in document["artifacts"]]
    if any(requires):
        columns.append("requires")
        rows = [[*row, names] for row, names in zip(rows, requires, strict=True)]
    print_table(columns, rows)
    for item in Document(document["artifacts"], "the manifest", BundleError).read(tuple[Artifact, ...]):
        if not item.is_float32:
            say(item.describe())
    print_table(["provenance", ""], [[key, str(value)] for key, value in document["provenance"].items()])


def _noise_ratio(artifact: dict[str, Any]) -> str:
    """The verdict on float32; a lower precision has a budget in its place."""
    return f"{artifact['noise_ratio']:.2f}" if artifact["precision"] == FLOAT32 else "–"


def _print_header(document: dict[str, Any]) -> None:
    """What an ONNX file holds."""
    values = [
        [side, item["name"], item["dtype"], "unknown" if item["shape"] is None else _shape(item)]
        for side, key in (("in", "inputs"), ("out", "outputs"))
        for item in document[key]
    ]
    print_table(["", "name", "dtype", "shape"], values)
    nodes = ", ".join(f"{count} {name}" for name, count in list(document["nodes"].items())[:MAX_OPERATORS_SHOWN])
    rows = [
        ["written by", f"{document['producer']} {document['producer_version']}".strip()],
        ["IR version", str(document["ir_version"])],
        ["opsets", ", ".join(f"{domain} {number}" for domain, number in document["opsets"].items())],
        ["nodes", f"{document['num_nodes']:,}: {nodes}{', …' if len(document['nodes']) > MAX_OPERATORS_SHOWN else ''}"],
        ["weights", f"{document['num_initializers']:,} tensors, {document['initializers_bytes'] / 1e6:,.2f} MB"],
    ]
    rows += [
        ["weights in other files", f"{item['location']}, {item['num_tensors']:,} tensors: {item['state']}"]
        for item in document["external"]
    ]
    print_table(["file", ""], rows)
    print_table(["metadata", ""], _metadata_rows(document["metadata"]))


def _metadata_rows(metadata: dict[str, str]) -> list[list[str]]:
    rows = []
    for key, value in metadata.items():
        if key == "onward.labels":  # the signature has them
            continue
        if key == "onward.provenance":
            provenance = parse(value, f"metadata {key!r}", BundleError).read(dict[str, Any])
            rows += [[name, str(item)] for name, item in provenance.items() if item not in (None, "", {})]
        else:
            shown = value if len(value) <= MAX_METADATA_CHARS else f"{value[: MAX_METADATA_CHARS - 1]}…"
            rows.append([key.removeprefix("onward."), shown])
    return rows


def _shape(item: dict[str, Any]) -> str:
    return f"({', '.join(map(str, item['shape']))})"
