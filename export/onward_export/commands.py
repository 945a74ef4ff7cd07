"""The command of the export floor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.console import app as make_app
from onward.cli.console import print_json, print_table, remark
from onward.cli.options import AsJson
from onward.errors import UsageError
from onward_training.cli_options import (
    MODELS,
    AllowGlobal,
    DataDir,
    FinalActivation,
    ModelArguments,
    parse_arguments,
    parse_numbers,
)

if TYPE_CHECKING:
    from onward.bundle import Bundle

__all__ = ["app", "export"]

app = make_app("Turn checkpoints into bundles, under the parity gate.")


THEIRS, FORM = "Weights that are not ours", "The form of the artifacts"


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("artifacts/demo"),
    as_json: AsJson = False,
) -> None:
    """Train, export, verify, predict and bench on handwritten digits: no download, about a minute."""
    from onward_export.demo import demo as run
    from onward_export.demo import print_results

    results = run(out)
    if as_json:
        print_json(results.to_json())
    else:
        print_results(results, out)


@app.command()
def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|WEIGHTS|MODEL",
            help="What `onward train` wrote; or weights; or a model, with --weights.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The bundle's folder; by default the file's name without its ending.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where real samples come from; by default the checkpoint's own data set.")
    ] = None,
    data_dir: DataDir = None,
    golden_samples: Annotated[
        int | None,
        typer.Option(help="Real images that travel in the bundle; by default 32 of a public data set, else none."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Of the model, for whoever gets it: Apache-2.0, or any text.")
    ] = None,
    formats: Annotated[str, typer.Option(help="Comma-separated: onnx, torchscript, pt2.")] = "onnx,torchscript,pt2",
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="pixels (uint8 NHWC, normalised inside), tensor (float32 NCHW, normalised by the app), or, "
            "repeatable, a tensor of a model that takes no image: NAME:DTYPE:SHAPE[:LOW..HIGH].",
            rich_help_panel=FORM,
        ),
    ] = None,
    dynamic_size: Annotated[
        bool, typer.Option("--dynamic-size", help="Take images of any height and width.", rich_help_panel=FORM)
    ] = False,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operators, 18 to 23.", rich_help_panel=FORM)] = 18,
    ir_version: Annotated[int, typer.Option(help="Version of ONNX's file, 8 to 11.", rich_help_panel=FORM)] = 10,
    torchscript: Annotated[
        str,
        typer.Option(help="trace, or script where control flow depends on data.", rich_help_panel=FORM),
    ] = "trace",
    model: Annotated[
        str | None, typer.Option(help=f"What the weights are of: {MODELS}", rich_help_panel=THEIRS)
    ] = None,
    model_args: ModelArguments = "{}",
    weights: Annotated[
        Path | None, typer.Option(help="Where MODEL was given: the file that holds them.", rich_help_panel=THEIRS)
    ] = None,
    final_activation: FinalActivation = "auto",
    output: Annotated[
        str | None,
        typer.Option(
            help="Which of several values that it returns holds the logits: key, attribute or index.",
            rich_help_panel=THEIRS,
        ),
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTHxCHANNELS, without --data.", rich_help_panel=THEIRS)
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="A file with one a line, or comma-separated.", rich_help_panel=THEIRS)
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="One or three numbers, of pixels in 0..1.", rich_help_panel=THEIRS)
    ] = None,
    std: Annotated[str | None, typer.Option(help="One or three numbers.", rich_help_panel=THEIRS)] = None,
    allow_global: AllowGlobal = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Follow the error along the graph of the ONNX file, into parity.html.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Export to ONNX, TorchScript and .pt2; nothing is published unless each is as close as PyTorch."""
    from dataclasses import replace

    from onward_export.model_to_export import ModelToExport
    from onward_export.options import ExportOptions
    from onward_export.publish import publish
    from onward_export.signature_options import apply_interface, image_signature, tensor_signature
    from onward_training.import_weights import NetworkSpec, open_checkpoint

    options = ExportOptions(
        tuple(formats.split(",")), opset=opset, ir_version=ir_version, torchscript=torchscript, explain=explain
    )
    means, stds = parse_numbers(mean), parse_numbers(std)
    path = Path(what)
    if not path.exists() and ":" in what:
        if weights is None:
            raise UsageError(f"{what} names a network: --weights says which file holds its weights.")
        model, path = what, weights
    checkpoint = open_checkpoint(
        path,
        NetworkSpec(model, parse_arguments(model_args), final_activation, output, tuple(allow_global or ())),
        data=data,
        data_dir=data_dir,
        signature=tensor_signature(inputs or (), labels) or image_signature(input_size, labels, means, stds),
        mean=means,
        std=stds,
        notify=remark,
    )
    to_export = ModelToExport.from_checkpoint(checkpoint, data=data, data_dir=data_dir, num_golden=golden_samples)
    bundle = publish(
        replace(to_export, signature=apply_interface(to_export.signature, inputs or (), dynamic_size), licence=licence),
        out or path.with_suffix(""),
        options=options,
        on_stage=(lambda stage: None) if as_json else (lambda stage: remark(f"export: {stage} …")),
    )
    if as_json:
        print_json({"bundle": str(bundle.path), "parity": bundle.parity(), "manifest": bundle.to_json()})
    else:
        print_bundle(bundle)


def print_bundle(bundle: Bundle) -> None:
    """What was published, and how close it is."""
    rows = [
        [artifact.name, artifact.file.path, f"{artifact.file.size_bytes / 1e3:,.0f} kB"]
        + [f"{artifact.noise_ratio:.2f}", artifact.file.sha256[:12]]
        for artifact in bundle.artifacts
    ]
    print_table(["artifact", "file", ">size", ">noise ratio", "SHA-256"], rows)
    print(f"published {bundle.path}: every artifact is as close to the mathematical model as PyTorch is.")
