"""The public functions of the training floor: train and evaluate."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from onward.bundle.trust import Trust
from onward_training.checkpoint import Checkpoint
from onward_training.config_file import format_options
from onward_training.data import load
from onward_training.evaluation import Evaluation
from onward_training.evaluator import ModelToEvaluate
from onward_training.evaluator import evaluate as run_evaluation
from onward_training.loop import train as run_training
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from onward_training.options import TrainKeywords

__all__ = ["evaluate", "train"]


def train(
    data: str,
    *,
    data_dir: Path | None = None,
    exif: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Unpack[TrainKeywords],
) -> Checkpoint:
    """Train a network.

    Args:
        data: `digits`, `fashion-mnist`, `mnist`, `folder:PATH` or `fake`.
        data_dir: Folder with the files of `mnist` or `fashion-mnist`, if not in the usual places.
        exif: `apply` or `ignore` the EXIF orientation of a folder's images; by default `ignore`, as torchvision's
            `ImageFolder`.
        out: Save the run while it trains: the best epoch here, the latest state beside it. By default nothing is saved.
        resume: Continue the run at `out`, if there is one; a finished one if there are more epochs now.
        overwrite: Replace the run or the file at `out`; without it, one that is there is an error.
        options: The fields of `onward_training.options.TrainOptions`: `model`, `epochs`, `batch_size`, `seed` …

    Returns:
        The checkpoint of the best epoch; `checkpoint.save(path)` writes it.

    Raises:
        DataError: The data set cannot be read.
        Diverged: The loss is NaN or infinite.
        OutputError: `out` cannot be written, or another run is writing there.
        UsageError: An option is out of range, the run to resume had other options, or `out` exists.
    """
    chosen = TrainOptions(**options)
    stated = {"data": data, "data_dir": data_dir, "exif": exif, **asdict(chosen)}
    stated["model_args"] = stated.pop("arguments") or None
    run_folder = RunFolder(Path(out), options=format_options(stated)) if out is not None else None
    with nullcontext() if run_folder is None else run_folder.reserved():
        if run_folder is not None and not resume and not overwrite:
            run_folder.check_free()
        return run_training(
            load(data, data_dir=data_dir, seed=chosen.seed, exif=exif),
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
    trust: bool = False,
    key: str | Path | None = None,
) -> Evaluation:
    """Classify the test images of a data set and compare with their labels.

    Args:
        model: A checkpoint, its path, or the folder of a bundle.
        data: As for `train`; by default the data set that the model was trained on.
        data_dir: Folder with the files of `mnist` or `fashion-mnist`, if not in the usual places.
        artifact: For a bundle: `onnx`, `torchscript` or `pt2`.
        provider: For a bundle: the execution provider.
        trust, key: For a bundle: as for `onward.load`.

    Returns:
        Accuracy with an interval, metrics by class, calibration and confusions.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        DataError: The data set cannot be read, or does not fit the model.
        TrustError: The artifact can run code, and the bundle is not trusted.
        UsageError: The model does not say what it was trained on, and `data` is missing.
    """
    if isinstance(model, (str, Path)) and Path(model).is_dir():
        opened = ModelToEvaluate.from_bundle(
            Path(model), artifact=artifact, provider=provider, trust=Trust.of(trust, key)
        )
    else:
        opened = ModelToEvaluate.from_checkpoint(
            model if isinstance(model, Checkpoint) else Checkpoint.load(Path(model))
        )
    return run_evaluation(opened.run, opened.load_data(data, data_dir).test)
