"""The commands of the export floor: export and demo."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.console import AsJson, add_command, print_json, print_table, remark, say, say_next
from onward.cli.console import app as make_app
from onward.cli.progress import is_shown
from onward_training.cli_options import (
    FOREIGN,
    DataDir,
    Download,
    EntryName,
    ExifRule,
    FinalActivation,
    ImageSize,
    Mean,
    ModelArguments,
    NetworkOfWeights,
    ResizeRule,
    Std,
    WeightsOfModel,
    parse_arguments,
)

if TYPE_CHECKING:
    from onward.bundle import Bundle
    from onward_export.stages import StageClock

__all__ = ["app", "demo", "export"]

app = make_app("Export models to bundles, behind the parity gate.")


FORM = "Artifacts"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all results.")] = Path("artifacts/demo"),
    as_json: AsJson = False,
) -> None:
    """Train, export, verify, predict and bench on handwritten digits. Takes about a minute and downloads nothing.

    Examples:
        onward demo
        onward demo --out somewhere/
    """
    from onward_export.demo import demo as run
    from onward_export.demo import print_results

    results = run(out)
    if as_json:
        print_json(results.to_json())
    else:
        print_results(results, out)


def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|WEIGHTS|MODEL",
            help="A checkpoint of `onward train`; a weights file, with --model; or a model, with --weights.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The bundle's folder. Default: the file's path without its suffix.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set of the real samples in the gate. Default: the checkpoint's own.")
    ] = None,
    data_dir: DataDir = None,
    golden_samples: Annotated[
        int | None,
        typer.Option(help="Number of real images stored in the bundle. Default: 32 of a public data set, else 0."),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            help="The model's licence, stored in every file: an SPDX expression such as Apache-2.0, or any text."
        ),
    ] = None,
    sbom: Annotated[
        bool,
        typer.Option(
            "--sbom", help="Put a bill of materials into the bundle: bom.cdx.json, CycloneDX with a model card."
        ),
    ] = False,
    formats: Annotated[
        str | None,
        typer.Option(
            help="Formats to write, separated by commas: onnx, torchscript, pt2. One that fails is an error. "
            "Default: every format that passes."
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="float32, or float32,int8: also what `onward quantize` adds, with images of the same data set.",
            rich_help_panel=FORM,
        ),
    ] = "float32",
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="pixels: uint8 NHWC, normalised in the model; tensor: float32 NCHW, normalised by the app; or a named "
            "tensor of a model without images, NAME:DTYPE:SHAPE[:LOW..HIGH]; repeatable. Default: pixels.",
            rich_help_panel=FORM,
        ),
    ] = None,
    dynamic_size: Annotated[
        bool, typer.Option("--dynamic-size", help="Accept images of any height and width.", rich_help_panel=FORM)
    ] = False,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operator set, 18 to 23.", rich_help_panel=FORM)] = 18,
    ir_version: Annotated[int, typer.Option(help="Version of ONNX's file format, 8 to 11.", rich_help_panel=FORM)] = 10,
    torchscript: Annotated[
        str,
        typer.Option(help="trace, or script if control flow depends on data.", rich_help_panel=FORM),
    ] = "trace",
    model: NetworkOfWeights = None,
    model_args: ModelArguments = "{}",
    weights: WeightsOfModel = None,
    download: Download = False,
    final_activation: FinalActivation = "auto",
    output: Annotated[
        str | None,
        typer.Option(
            help="Key, attribute or index of the logits, if the model returns several values.",
            rich_help_panel=FOREIGN,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="The classes: a file with one label a line, or labels separated by commas.", rich_help_panel=FOREIGN
        ),
    ] = None,
    image_size: ImageSize = None,
    resize: ResizeRule = None,
    mean: Mean = None,
    std: Std = None,
    exif: ExifRule = None,
    entry: EntryName = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Show the error along the graph of the ONNX file in parity.html, even if it passes."
        ),
    ] = False,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="Use 64 samples of each kind in batches of every size, instead of as many as the verdict needs.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the bundle at --out, if there is one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Export to ONNX, TorchScript and .pt2. Only files that pass the parity gate are published.

    Examples:
        onward export run.pt --out artifacts/digits
        onward export torchvision:resnet18 --weights resnet18-f37072fd.pth
        onward export torchvision:resnet18 --weights DEFAULT --download
        onward export net.py:Network --weights net.pth --image-size 224 --resize stretch --mean 0.5 --std 0.25
    """
    from onward_export.options import ExportOptions
    from onward_export.quantization.options import lower_precision
    from onward_export.signature_options import apply_interface, read_labels, tensor_signature
    from onward_export.target import check_target
    from onward_training.data import check
    from onward_training.model_argument import ModelArgument
    from onward_training.options import NetworkSpec
    from onward_training.preprocessing import StatedPreprocessing

    # names, options and paths are checked before PyTorch is imported
    options = ExportOptions(
        tuple(formats.split(",")) if formats is not None else None,
        opset=opset,
        ir_version=ir_version,
        torchscript=torchscript,
        explain=explain,
        bill_of_materials=sbom,
        thorough=thorough,
    )
    stated = StatedPreprocessing.parse(image_size, resize, mean, std, exif)
    network = NetworkSpec(model, parse_arguments(model_args), final_activation, output, entry)
    signature = tensor_signature(inputs or (), labels)
    lower = lower_precision(precision, options.wanted)
    argument = ModelArgument.parse(what, model, weights)
    if data is not None:
        check(data, data_dir=data_dir, image_size=stated.image_size, preprocess=stated.resize, exif=exif)
    out = out or argument.stem
    check_target(out, overwrite=overwrite)

    from onward_export.processes import start_server

    if options.wanted != ("onnx",):
        start_server()  # it imports PyTorch while this process does

    from dataclasses import replace

    from onward_export.model_to_export import ModelToExport
    from onward_export.publish import publish
    from onward_training.import_weights import open_checkpoint

    argument = argument.find(download=download, notify=remark)
    checkpoint = open_checkpoint(
        argument.path,
        replace(network, model=argument.model),
        data=data,
        data_dir=data_dir,
        stated=stated,
        labels=read_labels(labels) if labels is not None else (),
        signature=signature,
        notify=remark,
    )
    to_export = ModelToExport.from_checkpoint(checkpoint, data=data, data_dir=data_dir, num_golden=golden_samples)
    stages = _stages(quiet=not is_shown(as_json))
    bundle = publish(
        replace(to_export, signature=apply_interface(to_export.signature, inputs or (), dynamic_size), licence=licence),
        out,
        options=options,
        on_stage=stages.begin,
        notify=remark,
    )
    if not as_json:
        remark("export: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages.seconds().items()))
        print_bundle(bundle)
    if lower:
        from onward_export.quantize_command import quantize_exported

        bundle = quantize_exported(bundle, data or checkpoint.data, data_dir=data_dir, as_json=as_json)
    if as_json:
        document = {"bundle": str(bundle.path), "parity": bundle.parity(), "manifest": bundle.to_json()}
        print_json(document | {"stages_s": stages.seconds()})
    else:
        say_next(("verify", bundle.path), ("bench", bundle.path), ("embed", bundle.path, "--target", "python"))


def _stages(quiet: bool) -> StageClock:
    """Prints each stage when it begins, and on a terminal about how much time is left."""
    from onward_export.stages import StageClock, time_left_s

    began = time.perf_counter()

    def print_stage(stage: str) -> None:
        left = time_left_s(stage, time.perf_counter() - began) if sys.stderr.isatty() else None
        remark(f"export: {stage} …{'' if left is None else f' about {math.ceil(left)} s left'}")

    return StageClock((lambda stage: None) if quiet else print_stage)


def print_bundle(bundle: Bundle) -> None:
    """Print the artifacts with their noise ratios, and the formats that are missing with their reasons."""
    rows = [
        [artifact.name, artifact.file.path, f"{artifact.file.size_bytes / 1e3:,.0f} kB"]
        + [f"{artifact.noise_ratio:.2f}", artifact.file.sha256[:12]]
        for artifact in bundle.artifacts
    ]
    print_table(["artifact", "file", ">size", ">noise ratio", "SHA-256"], rows)
    for artifact in bundle.artifacts:
        if artifact.requires:
            say(f"{artifact.file.path} needs {', '.join(artifact.requires)} where it runs, beside PyTorch.")
    order = bundle.parity().get("label_order")  # bundles of earlier versions have none
    if order is not None and order["num_images"]:
        say(f"accuracy {order['accuracy']:.2%} on {order['num_images']:,} labelled images")
    missing = bundle.parity()["not_published"]
    for item in missing:
        say(f"not published: {item['format']} {item['outcome']}. {item['reason']}")
    without = f" Without {', '.join(item['format'] for item in missing)}." if missing else ""
    say(f"published {bundle.path}: every artifact is as close to the mathematical model as PyTorch itself.{without}")


for _command in (demo, export):
    add_command(app, _command)
