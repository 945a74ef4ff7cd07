"""The public functions of the training floor: train and evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from onward.bundle.trust import Trust
from onward.cli.console import remark
from onward.errors import UsageError
from onward_training.checkpoint import Checkpoint
from onward_training.config_file import format_options
from onward_training.devices import resolve_device
from onward_training.evaluation import Evaluation
from onward_training.evaluator import ModelToEvaluate
from onward_training.evaluator import evaluate as run_evaluation
from onward_training.loggers import LoggedRun, RunLog, open_loggers
from onward_training.loop import train as run_training
from onward_training.options import TrainOptions
from onward_training.preprocessing import StatedPreprocessing, joined
from onward_training.run_check import check_run
from onward_training.run_folder import RunFolder
from onward_training.run_inputs import open_run_inputs

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from onward_training.options import TrainKeywords

__all__ = ["evaluate", "train"]


def train(
    data: str,
    *,
    data_dir: Path | None = None,
    classes: Sequence[str] | None = None,
    image_size: int | Sequence[int] | str | None = None,
    resize: str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    exif: str | None = None,
    weights: str | Path | None = None,
    entry: str | None = None,
    download: bool = False,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    save_minutes: float = 10.0,
    loggers: Sequence[str] = (),
    **options: Unpack[TrainKeywords],
) -> Checkpoint:
    """Train a network.

    Args:
        data: `digits`, `fashion-mnist`, `mnist`, `folder:PATH` or `fake`.
        data_dir: Folder with the files of `mnist` or `fashion-mnist`, if not in the usual places.
        classes: Train on these classes of the data set only; by default on all.
        image_size: Size of the network's input: a side, `(height, width)` or `(height, width, channels)`.
        resize: How an image of a folder gets that size: `stretch` or `shorter-side:256`, and `stretch:bicubic` for
            another interpolation than bilinear.
        mean: Mean of the pixels, scaled to 0..1: one number, or one for each of 3 channels.
        std: Their standard deviation, as `mean`. Without weights, what is not given of these four is chosen by the
            training images; with weights, it must be known of them.
        exif: `apply` or `ignore` the EXIF orientation of a folder's images; by default `ignore`, as torchvision's
            `ImageFolder`.
        weights: Initialise the network from this file; `DEFAULT` for the one that torchvision or timm publishes.
        entry: Where in that file the weights are, e.g. `state_dict_ema`.
        download: Whether the published file may be downloaded.
        out: Save the run while it trains: the best epoch here, the latest state beside it. By default nothing is saved.
        resume: Continue the run at `out`, if there is one; a finished one if there are more epochs now.
        overwrite: Replace the run or the file at `out`; without it, one that is there is an error.
        save_minutes: Minutes between two saves within an epoch.
        loggers: Log the run to `tensorboard` (in a folder beside `out`), `tensorboard:FOLDER`, `mlflow` (at
            `$MLFLOW_TRACKING_URI`) or `mlflow:URI`. A logger that fails during the run never ends it.
        options: The fields of `onward_training.options.TrainOptions`: `model`, `epochs`, `batch_size`, `seed` …

    Returns:
        The checkpoint of the best epoch; `checkpoint.save(path)` writes it.

    Raises:
        CheckpointError: The weights cannot be read.
        DataError: The data set cannot be read.
        Diverged: The loss is NaN or infinite.
        OutputError: `out` cannot be written, or another run is writing there.
        UsageError: An option is out of range, the run to resume had other options, `out` exists, or it is neither
            given nor known how images become the input of the weights.
    """
    chosen = TrainOptions(**options)
    texts = {"image_size": joined(image_size, "x"), "resize": resize}
    texts |= {"mean": joined(mean, ","), "std": joined(std, ","), "exif": exif}
    stated = StatedPreprocessing.parse(**texts)
    file = Path(weights) if weights is not None else None
    check_run(chosen, data, data_dir, stated, file)
    if loggers and out is None:
        raise UsageError("loggers need out=, the checkpoint: a log names it, and a resumed run goes on in its log.")
    opened = open_loggers(loggers)
    chosen = replace(chosen, device=resolve_device(chosen.device))
    named = {"data": data, "data_dir": data_dir, "classes": joined(classes, ","), "weights": file, "entry": entry}
    in_file = {**named, **texts, "save_minutes": save_minutes, "logger": list(loggers) or None, **asdict(chosen)}
    in_file["model_args"] = in_file.pop("arguments") or None
    run_folder = RunFolder(Path(out), 60 * save_minutes, format_options(in_file)) if out is not None else None
    with nullcontext() if run_folder is None else run_folder.reserved():
        if run_folder is not None and not resume and not overwrite:
            run_folder.check_free()
        inputs = open_run_inputs(
            chosen, data, data_dir, stated,
            weights=file, download=download, entry=entry, classes=classes, notify=remark,
        )  # fmt: skip
        found = run_folder.find() if run_folder is not None and resume else None
        log = None
        if run_folder is not None and opened:
            logged = LoggedRun(run_folder, in_file, is_resumed=found is not None, overwrites=overwrite)
            log = RunLog(logged, opened, remark)
        return run_training(
            inputs.dataset,
            inputs.options,
            data=data,
            initialise=inputs.initialise,
            run_folder=run_folder,
            resume_from=found,
            log=log,
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
        artifact: For a bundle: `onnx`, `torchscript`, `pt2`, or one of lower precision, `onnx-int8`.
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
