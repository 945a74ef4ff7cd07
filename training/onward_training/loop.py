"""Training loop: epochs with a validation after each, until all are done, patience runs out or the caller stops it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import nn

from onward_training.batch_picture import draw_batch
from onward_training.checkpoint import Checkpoint, Epoch
from onward_training.data import Dataset
from onward_training.devices import forked_devices, resolve_device
from onward_training.epoch_metrics import Step
from onward_training.loggers import RunLog
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder
from onward_training.run_summary import RunSummary, summarise
from onward_training.trainer import Trainer

__all__ = ["train"]


def train(
    dataset: Dataset,
    options: TrainOptions,
    *,
    data: str | None = None,
    initialise: Callable[[nn.Module], None] | None = None,
    run_folder: RunFolder | None = None,
    resume_from: tuple[Checkpoint, Checkpoint | None] | None = None,
    log: RunLog | None = None,
    on_start: Callable[[RunSummary], None] | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    on_validation: Callable[[int], None] = lambda count: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Train a network and keep the epoch with the best validation accuracy (of equal ones, the lowest loss).

    Args:
        dataset: Labelled images.
        options: How to train.
        data: The data set's name in the checkpoint; by default `dataset.name`.
        initialise: Loads weights into the new network, see `initialise_from`; by default they are random.
        run_folder: Where the run is saved; by default nowhere.
        resume_from: Latest state and best epoch of the run to continue, as `RunFolder.find` returns them.
        log: Where each epoch is written once it is saved; by default nowhere.
        on_start: Called before the first step.
        on_step: Called after each step.
        on_validation: Called with the number of images after each batch of a validation.
        on_epoch: Called after each epoch.
        should_stop: Called after each step; if it returns True, the state is saved and training ends.

    Returns:
        The checkpoint of the best epoch, with the history of all epochs. If training was stopped within the first
        epoch: the current state.

    Raises:
        CheckpointError: The run to continue is damaged.
        Diverged: The loss is NaN or infinite.
        OutputError: The run folder cannot be written to.
        UsageError: No such architecture, or it does not fit the data; the device is missing; or the run to continue
            had other options.
    """
    options = replace(options, device=resolve_device(options.device))
    with torch.random.fork_rng(devices=forked_devices(options.device)):
        trainer = Trainer.create(dataset, options, data or dataset.name, initialise)
        if resume_from is not None:
            trainer.restore(*resume_from)
        elif run_folder is not None:
            run_folder.forget_logs()
            _draw_first_batch(trainer, run_folder)
        if on_start is not None:
            on_start(summarise(dataset, options, trainer.network, trainer.signature, len(trainer.batches)))
        with nullcontext() if log is None else log.of(trainer.history):
            while not trainer.is_finished:
                if not _train_epoch(trainer, run_folder, on_step, should_stop):
                    break
                epoch = trainer.finish_epoch(dataset.validation, on_validation)
                if run_folder is not None:
                    run_folder.save(trainer.state(), trainer.best if trainer.best_epoch == epoch.epoch else None)
                if log is not None:
                    log.write()
                on_epoch(epoch)
            if log is not None and trainer.is_finished:
                log.finish(trainer.best)
    return replace(trainer.best or trainer.state(), history=tuple(trainer.history), is_trusted=True)


def _draw_first_batch(trainer: Trainer, run_folder: RunFolder) -> None:
    images, targets = trainer.first_batch()
    labels = [trainer.signature.labels[target] for target in targets.tolist()]
    if labels:
        height, width = images.shape[1:3]
        title = f"the first training batch: {height}x{width}, augmentation {trainer.options.augment}"
        run_folder.save_batch(draw_batch(images.numpy(), labels, title))


def _train_epoch(
    trainer: Trainer, run_folder: RunFolder | None, on_step: Callable[[Step], None], should_stop: Callable[[], bool]
) -> bool:
    """Do the remaining steps of the current epoch; False if the caller stopped it."""
    started = saved = time.perf_counter()
    trainer.start_epoch()
    for images, targets in trainer.remaining_batches():
        trainer.train_step(images, targets)
        on_step(Step(len(targets), trainer.metrics))
        now = time.perf_counter()
        stops = should_stop()
        if stops or (run_folder is not None and now - saved > run_folder.save_every_s):
            trainer.elapsed_s, started, saved = trainer.elapsed_s + now - started, now, now
            if run_folder is not None:
                run_folder.save(trainer.state())
        if stops:
            return False
    trainer.read_metrics()
    trainer.elapsed_s += time.perf_counter() - started
    return True
