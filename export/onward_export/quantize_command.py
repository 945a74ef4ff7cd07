"""The command quantize: an INT8 artifact joins a bundle, behind the fidelity gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.console import AsJson, SignerKey, print_json, print_table, remark, say, say_next
from onward.cli.progress import is_shown
from onward_training.cli_options import DataDir

if TYPE_CHECKING:
    from onward.bundle import Bundle

__all__ = ["quantize", "quantize_exported"]

BUDGET = "Budget"


def quantize(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that `onward export` wrote.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Data set for calibration and for the verdict: fashion-mnist, folder:PATH … Default: the one that the "
            "model was trained on, if it has a name."
        ),
    ] = None,
    data_dir: DataDir = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            help="Images without labels in place of --data, whatever `predict` reads; repeatable. The loss of accuracy "
            "is unknown then."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The new bundle's folder. Default: the same bundle.")] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Make an INT8 artifact that is there anew, or replace the bundle at --out."),
    ] = False,
    weight_bits: Annotated[
        int, typer.Option(help="7: the same results on every processor; 8: saturates on those without VNNI.")
    ] = 7,
    max_in_float: Annotated[
        int, typer.Option(metavar="<n>", help="The most nodes that stay in float32 to keep the budget.")
    ] = 16,
    calibration: Annotated[int, typer.Option(metavar="<n>", help="Number of training images for the ranges.")] = 128,
    held_out: Annotated[
        int, typer.Option(metavar="<n>", help="The most held-out images that judge the artifact.")
    ] = 10_000,
    max_loss: Annotated[
        float,
        typer.Option(help="Points of accuracy that may be lost, with 95 % confidence.", rich_help_panel=BUDGET),
    ] = 0.5,
    max_nll: Annotated[
        float, typer.Option(help="Rise of the negative log-likelihood, in nats, likewise.", rich_help_panel=BUDGET)
    ] = 0.01,
    max_kl: Annotated[
        float, typer.Option(help="Without labels: mean KL divergence, in nats.", rich_help_panel=BUDGET)
    ] = 0.005,
    min_agreement: Annotated[
        float, typer.Option(help="Without labels: percentage of images with the same answer.", rich_help_panel=BUDGET)
    ] = 98.0,
    key: SignerKey = None,
    as_json: AsJson = False,
) -> None:
    """Add an INT8 artifact to a bundle, if held-out images prove that the task loses no more than the budget.

    Examples:
        onward quantize artifacts/fashion
        onward quantize artifacts/photos --data folder:photos --max-loss 0.3
        onward quantize artifacts/photos --images unlabelled/ --out artifacts/photos-int8
    """
    from onward.bundle import Bundle
    from onward.bundle.trust import Trust
    from onward.fidelity import Budget
    from onward_export.quantization.options import QuantizeOptions
    from onward_export.quantization.target import check_quantize_target

    # names, options and paths are checked before anything is decoded
    budget = Budget(max_loss / 100, max_nll, max_kl, min_agreement / 100)
    options = QuantizeOptions(weight_bits, max_in_float, calibration, held_out, budget)
    opened = Bundle.open(bundle, Trust.of(False, key))
    check_quantize_target(opened, out or bundle, overwrite)
    if data is not None:
        from onward_training.data import check

        check(data, data_dir=data_dir)

    from onward_export.quantization.images import QuantizationImages
    from onward_export.quantization.quantize import quantize_bundle

    chosen = QuantizationImages.find(opened, data, images or (), options, data_dir)
    written = quantize_bundle(
        opened, chosen, out=out, overwrite=overwrite, options=options, on_stage=_stages(as_json), notify=remark
    )
    if as_json:
        print_json({"bundle": str(written.path), "artifact": written.artifacts[-1].to_json()})
    else:
        name = written.artifacts[-1].name
        print_quantized(written)
        parent = written.artifacts[-1].parent
        say_next(
            ("verify", written.path),
            ("bench", written.path, "--artifact", parent, "--artifact", name),
            ("predict", written.path, "images/", "--artifact", name),
        )


def quantize_exported(bundle: Bundle, data: str, *, data_dir: Path | None, as_json: bool) -> Bundle:
    """What `onward export --precision float32,int8` does after the export."""
    from onward_export.quantization import QuantizeOptions
    from onward_export.quantization.images import QuantizationImages
    from onward_export.quantization.quantize import quantize_bundle

    images = QuantizationImages.find(bundle, data or None, (), QuantizeOptions(), data_dir)
    written = quantize_bundle(bundle, images, on_stage=_stages(as_json), notify=remark)
    if not as_json:
        print_quantized(written)
    return written


def _stages(as_json: bool) -> Callable[[str], None]:
    show = is_shown(as_json)
    return lambda stage: remark(f"quantize: {stage} …") if show else None


def print_quantized(bundle: Bundle) -> None:
    """Print what a bundle's last artifact is, and what it loses."""
    artifact = bundle.artifacts[-1]
    parent, fidelity = bundle.artifact(artifact.parent), artifact.fidelity
    assert fidelity is not None
    rows = [
        [item.name, item.file.path, item.precision, f"{item.file.size_bytes / 1e3:,.0f} kB", item.file.sha256[:12]]
        for item in (parent, artifact)
    ]
    print_table(["artifact", "file", "precision", ">size", "SHA-256"], rows)
    in_float = artifact.recipe["float32_nodes"]
    kept = f"; {len(in_float)} stay in float32 to keep the budget: {', '.join(in_float)}" if in_float else ""
    say(f"{artifact.recipe['integer_nodes']} nodes compute with integers{kept}")
    for item in fidelity.worse_classes:
        say(
            f"{item.label} loses more than the rest: {item.lost} of its {item.num_images:,} images lost, {item.won} won"
        )
    say(f"published {bundle.path}: {artifact.name} keeps its budget. {fidelity.describe()}.")
