"""`onward verify`.

`onward embed`.

`onward inspect`.

`onward doctor`.
"""

from __future__ import annotations

import json
import zipfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onward.cli.console import print_json, print_table
from onward.cli.options import AsJson, BundlePath, ProviderName

if TYPE_CHECKING:
    from onward.bundle.verification import Verification

__all__ = ["INSPECTORS_GROUP", "doctor", "embed", "inspect", "print_signature", "print_verifications", "verify"]


def verify(
    bundle: BundlePath,
    artifact: Annotated[
        list[str] | None, typer.Option(help="Only this one (repeatable): onnx, torchscript, pt2.")
    ] = None,
    provider: ProviderName = "cpu",
    as_json: AsJson = False,
) -> None:
    """Prove again, here, that each artifact is as close to the mathematical model as PyTorch is."""
    from onward.bundle import Bundle
    from onward.bundle.verification import verify as run

    results = run(Bundle.open(bundle), artifacts=artifact, provider=provider)
    passed = all(result.passed for result in results)
    if as_json:
        print_json({"passed": passed, "artifacts": [result.to_json() for result in results]})
    else:
        print_verifications(results)
        print("passed: every digest holds, and each artifact is as close as PyTorch." if passed else "FAILED")
    if not passed:
        raise typer.Exit(1)


def print_verifications(results: list[Verification]) -> None:
    """The table of `verify`."""
    rows = []
    for result in results:
        if result.verdict is None:
            rows.append([result.artifact, f"skipped: {result.skipped}", "", "", "", "", ""])
            continue
        worst = result.verdict.worst
        close = all(row.assert_close for row in result.verdict.comparisons)
        rows.append(
            [result.artifact, result.backend, f"{worst.noise_ratio:.2f}", f"{worst.rms_ratio:.2f}"]
            + [f"{max(row.max_delta for row in result.verdict.comparisons):.1e}", "yes" if close else "no"]
            + ["yes" if result.same_bits else "no"]
        )
    print_table(
        ["artifact", "backend", ">noise ratio", ">rms ratio", ">max |Δ| PyTorch", ">assert_close", ">builder's bits"],
        rows,
    )


def embed(
    bundle: BundlePath,
    target: Annotated[str, typer.Option(help="python, node, web, or triton.")],
    out: Annotated[Path | None, typer.Option(help="The app's folder, new or empty; by default BUNDLE-TARGET.")] = None,
    title: Annotated[str | None, typer.Option(help="What stands above it; by default the bundle's name.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the app that stands there.")] = False,
    onnxruntime_web: Annotated[
        Path | None, typer.Option(metavar="PATH", help="web: the npm package onnxruntime-web, unpacked or as .tgz.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="web: npm may fetch onnxruntime-web, once.")] = False,
    webgpu: Annotated[bool, typer.Option(help="web: with what a browser needs to use its GPU, 27 MB.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write a small app around the model, to read, keep and change, that verifies itself where it runs."""
    from onward.bundle import Bundle
    from onward.embedding import BrowserRuntime, Options
    from onward.embedding import embed as run

    opened = Bundle.open(bundle)
    options = Options(title, overwrite, BrowserRuntime(onnxruntime_web, download, webgpu))
    path = opened.path.resolve()
    written = run(opened, target, out or path.with_name(f"{path.name}-{target}"), options)
    if as_json:
        print_json(written.to_json())
        return
    print_table(
        [str(written.path), ">kB"], [[part, f"{size / 1e3:,.1f}"] for part, size in written.sizes_bytes.items() if size]
    )
    print("\n".join([f"cd {written.path}", *written.target.next_steps]))


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


def doctor(as_json: AsJson = False) -> None:
    """Say what this machine can run, and why not the rest."""
    from onward.host.doctor import examine

    machine = examine()
    if as_json:
        print_json(machine.to_json())
        return
    print(f"{machine.system}, Python {machine.python}, {machine.num_cores} cores for this process")
    print_table(
        ["", "what", ""],
        [["yes" if item.works else "no", item.what, item.detail] for item in machine.findings],
    )
