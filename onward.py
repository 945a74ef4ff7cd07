"""The front door: the `onward` command, and the public names `train`, `export` and `load`.

    import onward

    checkpoint = onward.train("digits", model="cnn", epochs=20)
    bundle = onward.export(checkpoint, "artifacts/digits")
    predictions = onward.load("artifacts/digits")(images)

Importing it loads neither torch nor onnxruntime.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export import commands as export_commands
from runtime import __version__
from runtime import commands as runtime_commands
from runtime.console import app as make_app
from runtime.console import run
from training import commands as training_commands

if TYPE_CHECKING:
    from torch import nn

    from runtime.backends import Threads
    from runtime.bundle import Bundle
    from runtime.classifier import Classifier
    from runtime.feed import Feed
    from runtime.providers import AnyProvider
    from runtime.tensor_signature import AnySignature
    from training.checkpoint import Checkpoint

__all__ = ["__version__", "export", "load", "train"]

app = make_app("Take a PyTorch image classifier from training to any place it has to run.")


def train(
    data: str, *, data_dir: Path | None = None, out: str | Path | None = None, resume: bool = False, **options: Any
) -> Checkpoint:
    """Train a network.

    Args:
        data: `digits`, `fashion-mnist`, `mnist`, `folder:PATH` or `fake`.
        data_dir: Where IDX files are, if not in the usual places.
        out: Keep the run on disk while it goes on: the best epoch here, the last state beside it.
        resume: Go on with the run that stands at `out`, if there is one.
        options: As `training.options.Options` has them: `model`, `epochs`, `batch_size`, `learning_rate`, `seed` …

    Returns:
        The best epoch; `checkpoint.save(path)` writes it.

    Raises:
        DataError: The data set cannot be read.
        Diverged: The loss is no longer a number.
        UsageError: An option is out of range; the run to go on with had others.
    """
    from training.data import load as load_data
    from training.loop import train as run_training
    from training.options import Options
    from training.record import Record

    chosen = Options(**options)
    record = Record(Path(out)) if out is not None else None
    return run_training(
        load_data(data, data_dir=data_dir, seed=chosen.seed),
        chosen,
        data=data,
        record=record,
        resume_from=record.find() if record is not None and resume else None,
    )


def export(
    model: Checkpoint | nn.Module | str | Path,
    out: str | Path,
    *,
    signature: AnySignature | None = None,
    samples: Feed | None = None,
    end: str = "auto",
    output: str | None = None,
    licence: str | None = None,
    **options: Any,
) -> Bundle:
    """Export a model under the parity gate.

    Args:
        model: A checkpoint, its path, or any `nn.Module` from normalised images, or from tensors, to logits; it is
            left unchanged.
        out: The bundle's folder.
        signature: What goes in and comes out: a `Signature` of images, or a `TensorSignature`. Needed for an
            `nn.Module`; of a checkpoint, it stands in for the one that it has.
        samples: For an `nn.Module`: real images for the gate, uint8 `(count, height, width, channels)`, 32 or more,
            or real tensors. They do not travel in the bundle. Without them the gate has random ones only.
        end: For an `nn.Module`: what it ends in, as `--end` of the command.
        output: For an `nn.Module`: which of several values that it returns holds the logits.
        licence: Of the model: an SPDX expression, or any text; it travels in every file.
        options: As `export.options.ExportOptions` has them: `formats`, `opset`, `torchscript` …

    Raises:
        NotExportable: No reference can be made of the model, or it cannot be exported.
        ParityFailure: An artifact is further from the mathematics than PyTorch is; nothing is published.
        UsageError: An `nn.Module` without a signature.
    """
    from dataclasses import replace

    from export.options import ExportOptions
    from export.publish import Source, publish
    from runtime.errors import UsageError
    from training.checkpoint import Checkpoint
    from training.models import with_logits

    chosen = ExportOptions(**options)
    if isinstance(model, (str, Path)):
        model = Checkpoint.load(model)
    if isinstance(model, Checkpoint):
        source = export_commands.source_of(model)
        return publish(
            replace(source, signature=signature or source.signature, licence=licence), Path(out), options=chosen
        )
    if signature is None:
        raise UsageError("an nn.Module needs a signature: what goes in, and what its outputs are called.")
    provenance = {"architecture": type(model).__name__}
    network = with_logits(model, signature, end, output)
    return publish(
        Source(network, signature, samples, provenance=provenance, licence=licence), Path(out), options=chosen
    )


def load(
    path: str | Path, *, artifact: str = "onnx", provider: AnyProvider = "cpu", threads: Threads | None = None
) -> Classifier:
    """Open a bundle for classifying; no PyTorch is needed.

    Args:
        path: The bundle's folder.
        artifact: `onnx`, or `torchscript` or `pt2`, which need PyTorch.
        provider: An execution provider, asked for strictly; or several, `cuda,cpu`; or a request with options.
        threads: Of one inference; by default every core that this process may use.

    Returns:
        `classifier(images) -> Predictions`, for arrays, Pillow images, paths and bytes, one or many, from any number of
        threads; `classifier.signature`; `classifier.verify()` proves parity again, here.

    Raises:
        BackendError: The artifact cannot be run here.
        BundleError: There is no bundle, or it was changed.
        ProviderError: The provider is missing or did not take the model.
    """
    from runtime.classifier import load as load_bundle

    return load_bundle(path, artifact=artifact, provider=provider, threads=threads)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("artifacts/demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Train, export, verify, predict and bench on handwritten digits: no download, under a minute."""
    from export.demo import demo as run_demo
    from export.demo import print_results
    from runtime.console import print_json

    results = run_demo(out)
    if as_json:
        print_json(results.to_json())
    else:
        print_results(results, out)


app.command()(training_commands.train)
app.command()(training_commands.evaluate)
app.command()(export_commands.export)
app.command()(runtime_commands.verify)
app.command()(runtime_commands.predict)
app.command()(runtime_commands.bench)
app.command()(runtime_commands.embed)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE|FILE.onnx|CHECKPOINT", help="What to look into.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")] = False,
) -> None:
    """Say what a bundle, an ONNX file or a checkpoint takes, gives and comes from."""
    is_checkpoint = path.is_file() and zipfile.is_zipfile(path)
    (training_commands if is_checkpoint else runtime_commands).inspect(path, as_json)


app.command()(runtime_commands.doctor)


def version(value: bool) -> None:
    """Print the version and end."""
    if value:
        print(f"onward {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Take a PyTorch image classifier from training to any place it has to run."""


def main() -> None:
    """The `onward` command."""
    run(app, "onward")


if __name__ == "__main__":
    main()
