"""The command of the export floor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.console import app as make_app
from runtime.console import print_json, print_table, remark

if TYPE_CHECKING:
    from export.publish import Source
    from runtime.bundle import Bundle
    from training.checkpoint import Checkpoint

__all__ = ["app", "export"]

app = make_app("Turn checkpoints into bundles, under the parity gate.")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="What `onward train` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="The bundle's folder; by default the checkpoint's name without its ending.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where real samples come from; by default the checkpoint's own data set.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where mnist's and fashion-mnist's files are.")] = None,
    golden_samples: Annotated[
        int | None,
        typer.Option(help="Real images that travel in the bundle; by default 32 of a public data set, else none."),
    ] = None,
    formats: Annotated[str, typer.Option(help="Comma-separated: onnx, torchscript, pt2.")] = "onnx,torchscript,pt2",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Export to ONNX, TorchScript and .pt2; nothing is published unless each is as close as PyTorch."""
    from export.publish import publish
    from training.checkpoint import Checkpoint

    opened = Checkpoint.load(checkpoint)
    source = source_of(opened, data=data, data_dir=data_dir, num_golden=golden_samples)
    bundle = publish(
        source,
        out or checkpoint.with_suffix(""),
        formats=tuple(formats.split(",")),
        on_stage=(lambda stage: None) if as_json else (lambda stage: remark(f"export: {stage} …")),
    )
    if as_json:
        print_json({"bundle": str(bundle.path), "parity": bundle.parity(), "manifest": bundle.to_json()})
    else:
        print_bundle(bundle)


def source_of(
    checkpoint: Checkpoint,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    num_golden: int | None = None,
) -> Source:
    """What a checkpoint brings to its export: network, signature, real samples, provenance.

    Args:
        checkpoint: An opened one.
        data: Names the data set for real samples; by default the one that it was trained on.
        data_dir: Where IDX files are.
        num_golden: Real samples that travel; by default 32 where the data set is public.

    Raises:
        DataError: The data set that was named cannot be read; the checkpoint's own is only missed aloud.
    """
    from export.publish import Source
    from export.samples import NUM_GOLDEN
    from runtime.errors import DataError
    from training.data import Dataset, load

    signature = checkpoint.signature
    dataset: Dataset | None = None
    try:
        kind = (data or checkpoint.data).partition(":")[0]
        size = (signature.height, signature.width) if kind in ("folder", "fake") else None
        dataset = load(data or checkpoint.data, data_dir=data_dir, image_size=size)
        if dataset.signature.image_shape != signature.image_shape:
            raise DataError(
                f"{data or checkpoint.data} has images of {dataset.signature.image_shape}, the model takes "
                f"{signature.image_shape}."
            )
    except DataError as error:
        if data is not None:
            raise
        dataset = None
        remark(f"no real samples for the gate, random pixels only: {error} (--data names another data set)")
    if num_golden is None:
        num_golden = NUM_GOLDEN if dataset is not None and dataset.is_public else 0
    return Source(
        network=checkpoint.network(),
        signature=signature,
        real_samples=dataset.test.images if dataset is not None else None,
        num_golden_real=num_golden,
        provenance=_provenance(checkpoint),
    )


def print_bundle(bundle: Bundle) -> None:
    """What was published, and how close it is."""
    rows = [
        [artifact.name, artifact.file.path, f"{artifact.file.size_bytes / 1e3:,.0f} kB"]
        + [f"{artifact.noise_ratio:.2f}", artifact.file.sha256[:12]]
        for artifact in bundle.artifacts
    ]
    print_table(["artifact", "file", ">size", ">noise ratio", "SHA-256"], rows)
    print(f"published {bundle.path}: every artifact is as close to the mathematical model as PyTorch is.")


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    best = checkpoint.provenance.get("best_epoch")
    epoch = next((epoch for epoch in checkpoint.history if epoch.epoch == best), None)
    return {
        "architecture": checkpoint.architecture,
        "arguments": dict(checkpoint.arguments),
        "data": checkpoint.data.partition(":")[0],
        "weights_sha256": checkpoint.weights_digest(),
        "epochs": len(checkpoint.history),
        "validation_accuracy": round(epoch.validation_accuracy, 6) if epoch else None,
    }
