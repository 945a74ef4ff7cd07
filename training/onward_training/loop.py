"""Loop: epochs of a run with validation after each, until all are done, patience ends or somebody asks it to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from onward_training.checkpoint import Checkpoint, Epoch
from onward_training.data import Dataset
from onward_training.epoch_metrics import Step
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder
from onward_training.trainer import Run

__all__ = ["train"]


def train(
    dataset: Dataset,
    options: TrainOptions,
    *,
    data: str | None = None,
    start: Callable[[nn.Module], None] | None = None,
    run_folder: RunFolder | None = None,
    resume_from: tuple[Checkpoint, Checkpoint | None] | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Train a network and keep the epoch with the best validation accuracy (of equals, the lowest loss).

    Args:
        dataset: Labelled images.
        options: How to train.
        data: What names the data set in the checkpoint; by default its own name.
        start: Puts weights into the new network, e.g. somebody's; by default they are random.
        run_folder: Where the run is kept on disk; by default it is not.
        resume_from: The last state and the best epoch of a run to go on with, as `RunFolder.find` gives them.
        on_step: Called after each step.
        on_epoch: Called after each epoch.
        should_stop: Asked after each step; on True the state is saved and the run ends there.

    Returns:
        The best epoch's checkpoint, with the history of all. Where the run was stopped before the first epoch was
        done: the state as it is.

    Raises:
        CheckpointError: The run to go on with is damaged.
        Diverged: The loss is no longer a number.
        OutputError: The run_folder cannot be written.
        UsageError: No such architecture, or it does not fit the data; the run to go on with had other options.
    """
    devices = [torch.cuda.current_device()] if options.device == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        run = Run.begin(dataset, options, data or dataset.name, start)
        if resume_from is not None:
            run.go_on(*resume_from)
        while not run.is_finished:
            stopped = run.train_epoch(on_step, should_stop, run_folder)
            if stopped:
                break
            epoch = run.close_epoch(dataset.validation)
            if run_folder is not None:
                run_folder.save(run.state(), run.best if run.best_epoch == epoch.epoch else None)
            on_epoch(epoch)
    return replace(run.best or run.state(), history=tuple(run.history), is_trusted=True)
