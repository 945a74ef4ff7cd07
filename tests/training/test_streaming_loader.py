"""Stream: the same batches from any number of workers and from any place in an epoch, and nothing left running."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from onward.signature import Signature
from onward_training.augmentation import Augment
from onward_training.data import FileSplit
from onward_training.streaming_loader import _Decoder, stream_batches

SIGNATURE = Signature(12, 16, 3, (0.0,) * 3, (1.0,) * 3, ("cat", "dog"))
NUM_IMAGES = 40
#: Index -> what is done to the bytes of its file: no image at all, a PNG and a JPEG cut short.
BROKEN: dict[int, Callable[[bytes], bytes]] = {
    7: lambda data: b"no picture",
    21: lambda data: data[: len(data) // 2],
    22: lambda data: data[: len(data) // 2],
}
AUGMENT = Augment(["flip", "crop", "erase", "rotate"])


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> FileSplit:
    """Real PNG and JPEG files of several sizes, three of them damaged."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    paths = []
    for index in range(NUM_IMAGES):
        shape = (12, 16, 3) if index % 3 else (20 + index, 30, 3)
        path = root / f"{index}.{'png' if index % 2 else 'jpg'}"
        Image.fromarray(generator.integers(0, 256, shape, np.uint8)).save(path)
        path.write_bytes(BROKEN.get(index, bytes)(path.read_bytes()))
        paths.append(path)
    return FileSplit(paths, np.arange(NUM_IMAGES) % 2, SIGNATURE)


def fresh(split: FileSplit) -> FileSplit:
    return FileSplit(split.paths, split.targets, split.signature)


def read(split: FileSplit, batches: list[Tensor], **options: object) -> list[tuple[Tensor, Tensor]]:
    arguments: dict = {"augment": None, "seed": 0, "epoch": 1, "num_workers": 0} | options
    return list(stream_batches(split, batches, **arguments))


def assert_equal(found: list[tuple[Tensor, Tensor]], expected: list[tuple[Tensor, Tensor]]) -> None:
    assert len(found) == len(expected)
    for (images, targets), (other_images, other_targets) in zip(found, expected, strict=True):
        assert images.dtype == torch.uint8
        assert targets.dtype == torch.int64
        assert torch.equal(images, other_images)
        assert torch.equal(targets, other_targets)


def batches_of(size: int, seed: int = 0) -> list[Tensor]:
    order = torch.randperm(NUM_IMAGES, generator=torch.Generator().manual_seed(seed))
    return list(torch.split(order, size))


@pytest.mark.parametrize("num_workers", [0, 2])
@settings(max_examples=8, deadline=None)
@given(indices=st.lists(st.lists(st.integers(0, NUM_IMAGES - 1), min_size=1, max_size=9), max_size=6))
def test_streaming_any_batches_is_reading_them(split: FileSplit, num_workers: int, indices: list[list[int]]) -> None:
    batches = [torch.tensor(batch) for batch in indices]
    expected = [tuple(map(torch.from_numpy, split.read(batch.numpy()))) for batch in batches]
    assert_equal(read(split, batches, num_workers=num_workers), expected)


def test_the_number_of_workers_changes_no_augmented_pixel(split: FileSplit) -> None:
    one, two, none = (read(split, batches_of(8), augment=AUGMENT, num_workers=number) for number in (1, 2, 0))
    assert_equal(one, none)
    assert_equal(two, none)


def test_an_epoch_continued_in_its_middle_is_the_same(split: FileSplit) -> None:
    whole = read(split, batches_of(7), augment=AUGMENT, num_workers=2)
    assert_equal(read(split, batches_of(7)[3:], augment=AUGMENT, num_workers=2), whole[3:])


def test_an_image_is_augmented_alike_in_whatever_batch_it_is(split: FileSplit) -> None:
    whole = read(split, batches_of(NUM_IMAGES), augment=AUGMENT)[0][0]
    parts = torch.cat([images for images, _ in read(split, batches_of(3), augment=AUGMENT)])
    assert torch.equal(parts, whole)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 2}, {"seed": -5}])
def test_another_seed_or_epoch_augments_otherwise(split: FileSplit, other: dict[str, int]) -> None:
    one = read(split, batches_of(20), augment=AUGMENT)
    another = read(split, batches_of(20), augment=AUGMENT, **other)
    assert not torch.equal(one[0][0], another[0][0])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_callers_generators_are_not_disturbed(split: FileSplit, num_workers: int) -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for _ in stream_batches(split, batches_of(8), augment=AUGMENT, seed=0, epoch=1, num_workers=num_workers):
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_workers_cannot_read_is_left_out_and_comes_back_with_its_reason(
    split: FileSplit, num_workers: int
) -> None:
    mine = fresh(split)
    found = read(mine, batches_of(8) * 2, num_workers=num_workers)
    assert sum(len(targets) for _, targets in found) == 2 * (NUM_IMAGES - len(BROKEN))
    assert set(mine.failures) == {split.paths[index] for index in BROKEN}
    assert "not an image" in mine.failures[split.paths[7]]
    assert "cannot be decoded" in mine.failures[split.paths[22]]


def test_a_batch_of_which_nothing_can_be_read_has_no_rows(split: FileSplit) -> None:
    [(images, targets), (others, _)] = read(split, [torch.tensor(sorted(BROKEN)), torch.tensor([0])], augment=AUGMENT)
    assert images.shape == (0, 12, 16, 3)
    assert targets.shape == (0,)
    assert len(others) == 1


def test_workers_may_be_spawned(split: FileSplit) -> None:
    """Nothing is left to them by a fork; a fork server leaves them no less."""
    mine = fresh(split)
    expected = read(split, batches_of(16), augment=AUGMENT)
    assert_equal(read(mine, batches_of(16), augment=AUGMENT, num_workers=1, start_method="spawn"), expected)
    assert len(mine.failures) == len(BROKEN)


def test_no_worker_outlives_a_consumer_that_stops_early(split: FileSplit) -> None:
    batches = stream_batches(split, batches_of(2), augment=None, seed=0, epoch=1, num_workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()


def test_no_worker_outlives_an_error_in_the_consumer(split: FileSplit) -> None:
    def fail() -> None:
        for _ in stream_batches(split, batches_of(2), augment=None, seed=0, epoch=1, num_workers=2):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    deadline = time.monotonic() + 60
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not multiprocessing.active_children()


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX's")
def test_ctrl_c_ends_the_workers_and_prints_no_traceback_of_theirs(split: FileSplit, tmp_path: Path) -> None:
    (tmp_path / "split.pickle").write_bytes(pickle.dumps(fresh(split)))
    program = f"""
        import multiprocessing, pickle, signal, sys, torch
        from onward_training.streaming_loader import stream_batches
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without
        split = pickle.load(open({str(tmp_path / "split.pickle")!r}, "rb"))
        batches = [torch.arange(40)] * 100_000
        try:
            for number, _ in enumerate(stream_batches(split, batches, augment=None, seed=0, epoch=1, num_workers=2)):
                if number == 3:
                    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        except KeyboardInterrupt:
            sys.exit(130)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    try:
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        _, errors = process.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # one that did not end would take both cores from all other tests
    assert len(workers) == 2
    assert (process.returncode, errors) == (130, "")
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_gets_no_list_of_the_images() -> None:
    assert len(pickle.dumps(_Decoder(SIGNATURE, AUGMENT, 0, 1))) < 1_000
