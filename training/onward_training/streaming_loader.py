"""Streaming loader: worker processes decode and augment batches of images on disk while the network trains.

A worker receives the paths of one batch at a time, not the whole list: otherwise a million paths would be copied to
each worker in every epoch.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from onward.errors import ImageError
from onward.images.decode import read_image
from onward.signature import Signature
from onward_training.augmentation import Augment
from onward_training.data.split import FileSplit

__all__ = ["stream_batches"]

#: Images uint8 `(batch, height, width, channels)`, their indices, and index -> why an image could not be read.
Decoded = tuple[Tensor, list[int], dict[int, str]]


def stream_batches(
    split: FileSplit,
    batches: Sequence[Tensor],
    *,
    augment: Augment | None,
    seed: int,
    epoch: int,
    num_workers: int,
    start_method: str | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Decode batches ahead of their use, in order, without the images that cannot be decoded.

    The augmentation of an image depends only on seed, epoch and its index: not on the number of workers, and not on
    the first batch. The caller's global random generators are left unchanged.

    Args:
        split: The images; unreadable ones are added to its `failures`.
        batches: The indices of each batch, int64 `(batch,)`.
        augment: Applied to each image on its own, or None.
        seed: Of the run.
        epoch: Number of the epoch; each augments differently.
        num_workers: Processes, which end with the iterator in every case; with 0, this process decodes.
        start_method: `fork`, `forkserver` or `spawn`; by default Python's default for this system.

    Yields:
        uint8 `(batch, height, width, channels)` and int64 targets `(batch,)`, one pair for each batch of indices, in
        pinned memory if there is CUDA. A batch without a readable image has no rows.
    """
    loader: DataLoader[Decoded] = DataLoader(
        _Decoder(split.signature, augment, seed, epoch),
        batch_size=None,  # an item is a batch already
        sampler=_Requests(split, batches),
        num_workers=num_workers,
        collate_fn=_identity,
        worker_init_fn=_ignore_interrupts,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=start_method if num_workers else None,
        generator=torch.Generator(),  # otherwise the workers' seed is drawn from the caller's generator
    )
    decoded = iter(loader)
    try:
        for images, kept, failures in decoded:
            for index, reason in failures.items():
                split.failures.setdefault(split.paths[index], reason)
            yield images, torch.from_numpy(split.targets[kept])
    finally:
        del decoded  # ends the workers now, not when the caller's traceback is released


@dataclass(frozen=True)
class _Request:
    """One batch, as it is sent to a worker: indices in the split, and their files."""

    indices: list[int]
    paths: list[str]


class _Requests:
    """The requests to the workers, made one by one as they are needed."""

    def __init__(self, split: FileSplit, batches: Sequence[Tensor]) -> None:
        self.split, self.batches = split, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[_Request]:
        for batch in self.batches:
            indices = batch.tolist()
            yield _Request(indices, [str(self.split.paths[index]) for index in indices])


class _Decoder(Dataset[Decoded]):
    """Decodes a request in a worker; it does not hold the list of images."""

    def __init__(self, signature: Signature, augment: Augment | None, seed: int, epoch: int) -> None:
        self.signature, self.augment, self.seed, self.epoch = signature, augment, seed, epoch

    def __getitem__(self, request: _Request) -> Decoded:
        images = np.empty((len(request.paths), *self.signature.image_shape), np.uint8)
        kept: list[int] = []
        failures: dict[int, str] = {}
        for index, path in zip(request.indices, request.paths, strict=True):
            try:
                images[len(kept)] = read_image(Path(path), self.signature)
                kept.append(index)
            except ImageError as error:
                failures[index] = str(error)
        found = torch.from_numpy(images[: len(kept)])
        if self.augment is not None:
            self._augment(self.augment, found, kept)
        return found, kept, failures

    def _augment(self, augment: Augment, images: Tensor, indices: list[int]) -> None:
        """In place, each image with its own seed; the global generator, which may be the caller's, is restored."""
        state = torch.get_rng_state()
        try:
            for place, index in enumerate(indices):
                torch.default_generator.manual_seed(_seed_of(self.seed, self.epoch, index))
                images[place] = augment(images[place : place + 1])[0]
        finally:
            torch.set_rng_state(state)


def _seed_of(seed: int, epoch: int, index: int) -> int:
    """Well mixed, because PyTorch's CPU generator uses only 32 bits of a seed."""
    entropy = (seed % 2**64, epoch, index)
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0])


def _identity(item: Any) -> Any:
    return item


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; workers ignore it, and the parent process ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _hide_broken_pipes


def _hide_broken_pipes(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """When the parent has gone, multiprocessing's thread that sends batches fails: no reason to print a traceback."""
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)
