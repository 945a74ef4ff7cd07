"""Run check: what can be wrong with a run is said before PyTorch is imported or an image is read."""

from __future__ import annotations

from pathlib import Path

from onward.errors import UsageError
from onward.model_file import check_model_file
from onward_training.data import check
from onward_training.default_weights import check_default, is_default
from onward_training.model_names import is_user_code
from onward_training.options import TrainOptions
from onward_training.preprocessing import StatedPreprocessing

__all__ = ["check_run"]


def check_run(
    options: TrainOptions, data: str, data_dir: Path | None, stated: StatedPreprocessing, weights: Path | None
) -> None:
    """Check names and paths.

    Args:
        options, data, data_dir, stated, weights: As for `open_run_inputs`.

    Raises:
        CheckpointError: There is no such file of weights.
        DataError: There is no such data set.
        UsageError: An option does not fit the others.
    """
    check(data, data_dir=data_dir, image_size=stated.image_size, preprocess=stated.resize, exif=stated.exif)
    if is_default(weights):
        check_default(options.model)
    elif weights is not None:
        check_model_file(weights, is_foreign=True)
    elif options.freeze_epochs and not is_user_code(options.model):
        raise UsageError("--freeze-epochs freezes all layers but the last, whose weights are random: add --weights.")
