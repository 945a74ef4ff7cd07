"""Stream: batches of images on disk, decoded and augmented by worker processes while the network trains.

A worker is sent the paths of one batch at a time, not the whole list: a million paths would be copied into
each worker anew every epoch.
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
from onward_training.data.files import FileSplit

__all__ = ["stream"]

#: Images uint8 `(batch, height, width, channels)`, their indices int64 `(batch,)`, and index -> why it is not there.
Decoded = tuple[Tensor, list[int], dict[int, str]]


def stream(
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

    What augmentation does to an image depends on seed, epoch and its index alone: not on the number of workers,
    nor on where in the epoch the stream begins. The caller's global generators stay as they are.

    Args:
        split: The images; those that turn out unreadable are added to its `failures`.
        batches: The indices of each batch, int64 `(batch,)`.
        augment: Applied to each image on its own, or None.
        seed: Of the run.
        epoch: Which epoch, so that each augments differently.
        num_workers: Processes; with 0 the caller decodes. They end with the iterator, however it ends.
        start_method: `fork`, `forkserver` or `spawn`; by default Python's own for this system.

    Yields:
        uint8 `(batch, height, width, channels)` and int64 targets `(batch,)`, one pair for each batch of indices,
        in pinned memory where CUDA is there. A batch of which nothing can be read has no rows.
    """
    loader: DataLoader[Decoded] = DataLoader(
        _Decoder(split.signature, augment, seed, epoch),
        batch_size=None,  # an item is a batch already
        sampler=_Requests(split, batches),
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=_ignore_interrupts,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=start_method if num_workers else None,
        generator=torch.Generator(),  # else it draws its workers' seed from the caller's
    )
    decoded = iter(loader)
    try:
        for images, kept, failures in decoded:
            for index, reason in failures.items():
                split.failures.setdefault(split.paths[index], reason)
            yield images, torch.from_numpy(split.targets[kept])
    finally:
        del decoded  # ends the workers now, not when the caller's traceback is forgotten


@dataclass(frozen=True)
class _Request:
    """One batch, as it travels to a worker: the places in the split, and the files there."""

    indices: list[int]
    paths: list[str]


class _Requests:
    """What the workers are asked for, made as they get to it."""

    def __init__(self, split: FileSplit, batches: Sequence[Tensor]) -> None:
        self.split, self.batches = split, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[_Request]:
        for batch in self.batches:
            indices = batch.tolist()
            yield _Request(indices, [str(self.split.paths[index]) for index in indices])


class _Decoder(Dataset[Decoded]):
    """What runs in a worker; it holds no list of images."""

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
        """In place, each image under a seed of its own; the global generator, maybe the caller's, is put back."""
        state = torch.get_rng_state()
        try:
            for place, index in enumerate(indices):
                torch.default_generator.manual_seed(_seed_of(self.seed, self.epoch, index))
                images[place] = augment(images[place : place + 1])[0]
        finally:
            torch.set_rng_state(state)


def _seed_of(seed: int, epoch: int, index: int) -> int:
    """Well mixed, as PyTorch's generator of the CPU looks at 32 bits of a seed alone."""
    entropy = (seed % 2**64, epoch, index)
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0])


def _as_it_is(item: Any) -> Any:
    return item


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C goes to every process of the terminal's group; the caller ends the workers, quietly."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _say_unless_the_caller_is_gone


def _say_unless_the_caller_is_gone(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """The thread that hands batches over, of multiprocessing's own, may be in the middle of one."""
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)
