"""What a program calls of this floor: train and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onward.classifier import load as load_bundle
from onward.errors import UsageError
from onward.feed import from_pixels
from onward.parity import Run
from onward.signature import of_images
from onward_training.checkpoint import Checkpoint
from onward_training.data import load, load_for
from onward_training.evaluation import Evaluation
from onward_training.evaluator import checkpoint_runner
from onward_training.evaluator import evaluate as evaluate_outputs
from onward_training.loop import train as run_training
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder

__all__ = ["evaluate", "train"]


def train(
    data: str, *, data_dir: Path | None = None, out: str | Path | None = None, resume: bool = False, **options: Any
) -> Checkpoint:
    """Train a network.

    Args:
        data: `digits`, `fashion-mnist`, `mnist`, `folder:PATH` or `fake`.
        data_dir: Where IDX files are, if not in the usual places.
        out: Write the run to disk while it goes on: the best epoch here, the last state beside it.
        resume: Continue the unfinished run at `out`, if there is one.
        options: As `onward_training.options.TrainOptions` has them: `model`, `epochs`, `batch_size`, `seed` …

    Returns:
        The best epoch; `checkpoint.save(path)` writes it.

    Raises:
        DataError: The data set cannot be read.
        Diverged: The loss is no longer a number.
        UsageError: An option is out of range; the run to go on with had others.
    """
    chosen = TrainOptions(**options)
    run_folder = RunFolder(Path(out)) if out is not None else None
    return run_training(
        load(data, data_dir=data_dir, seed=chosen.seed),
        chosen,
        data=data,
        run_folder=run_folder,
        resume_from=run_folder.find() if run_folder is not None and resume else None,
    )


def evaluate(
    model: Checkpoint | str | Path,
    data: str | None = None,
    *,
    data_dir: Path | None = None,
    artifact: str = "onnx",
    provider: str = "cpu",
) -> Evaluation:
    """Classify a data set's test images and compare with their labels.

    Args:
        model: A checkpoint, its path, or the folder of a bundle.
        data: As for `train`; by default what the model was trained on.
        data_dir: Where IDX files are, if not in the usual places.
        artifact: Of a bundle: `onnx`, `torchscript` or `pt2`.
        provider: Of a bundle: the execution provider.

    Returns:
        Accuracy with an interval, per-class figures, calibration and confusions.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        DataError: The data set cannot be read, or does not fit the model.
        UsageError: It is not known what the model was trained on, and `data` is missing.
    """
    predict: Run
    if isinstance(model, (str, Path)) and Path(model).is_dir():
        classifier = load_bundle(model, artifact=artifact, provider=provider)
        signature = of_images(classifier.signature)
        predict = lambda images: classifier.backend.run(from_pixels(images, signature))  # noqa: E731
        trained_on = str(classifier.bundle.provenance.get("data", ""))
    else:
        checkpoint = model if isinstance(model, Checkpoint) else Checkpoint.load(Path(model))
        signature, predict, trained_on = of_images(checkpoint.signature), checkpoint_runner(checkpoint), checkpoint.data
    if not (data or trained_on):
        raise UsageError("it is not known what the model was trained on: name the data set to evaluate it on.")
    return evaluate_outputs(predict, load_for(signature, data or trained_on, data_dir).test)
