"""Run inputs: what a training run begins with: its images, its options, and the weights of its network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from onward_training.data import Dataset
from onward_training.default_weights import find_default, is_default
from onward_training.external import initialise_from, read_weights
from onward_training.foreign_signature import check_complete, known_weights
from onward_training.import_weights import stated_arguments
from onward_training.options import TrainOptions
from onward_training.prepared_data import load_prepared
from onward_training.preprocessing import StatedPreprocessing

__all__ = ["RunInputs", "open_run_inputs"]


@dataclass(frozen=True)
class RunInputs:
    """What a run begins with.

    Args:
        dataset: The images, as the network takes them.
        options: With the network's full name, and its arguments in the file of weights.
        initialise: Loads the weights into the new network; None for random ones.
    """

    dataset: Dataset
    options: TrainOptions
    initialise: Callable[[nn.Module], None] | None = None


def open_run_inputs(
    options: TrainOptions,
    data: str,
    data_dir: Path | None,
    stated: StatedPreprocessing,
    *,
    weights: Path | None = None,
    download: bool = False,
    entry: str | None = None,
    classes: Sequence[str] | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> RunInputs:
    """Read the weights and load the data set.

    Images become the input as is stated, or else as is known of the weights. Without weights, what is not stated is
    chosen by the images.

    Args:
        options: How the network is trained.
        data: Name of the data set.
        data_dir: Folder with its files.
        stated: What the options say about how images become the input.
        weights: The file that the network is initialised from; `DEFAULT` for the published one.
        download: Whether that one may be downloaded.
        entry: Where in the file the weights are.
        classes: Labels of the classes that are kept; None for all.
        notify: Called with what was taken from where.

    Raises:
        CheckpointError: The weights cannot be read.
        DataError: The data set cannot be read, or lacks a class.
        UsageError: An option does not fit the others, the default weights are not here, or it is neither stated nor
            known how images become the input of the weights.
    """
    if is_default(weights):
        weights, model = find_default(options.model, download=download, notify=notify)
        options = replace(options, model=model)
    read = None if weights is None else read_weights(weights, entry=entry, notify=notify)
    if weights is not None:
        known = known_weights(options.model, weights, notify)
        if known is not None:
            stated = stated.or_of(known.preprocessing())
            options = replace(options, arguments={**known.arguments, **options.arguments})
        check_complete(stated, weights, options.model, data)
    dataset = load_prepared(data, data_dir, stated, seed=options.seed)
    if classes is not None:
        dataset = dataset.select(classes)
    if weights is None or read is None:
        return RunInputs(dataset, options)
    given = options.arguments
    found = stated_arguments(read, options.model, dataset.signature, given, path=weights, notify=notify)
    options = replace(options, arguments={**found, **given})
    return RunInputs(dataset, options, initialise_from(weights, read, notify=notify))
