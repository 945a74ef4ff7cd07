"""Peak: how much memory it takes to read a file, in a process that does nothing else.

`read_bombs` starts one process for all files of a test module; it reads one after the other, and the kernel's record of
the peak is set back before each. Linux only.
"""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

__all__ = ["MAX_PEAK_MIB", "Bomb", "Reading", "read_bombs"]

ROOT = Path(__file__).parents[1]
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
#: The most that a small file may take, above what the process takes before it opens the file.
MAX_PEAK_MIB = 300


@dataclass(frozen=True)
class Reading:
    """How a file was read.

    Args:
        said: The error's message, and its class; or what was read.
        peak_mib: The peak, above what the process had before.
    """

    said: str
    peak_mib: float


class Bomb(NamedTuple):
    """A small file that asks for much memory.

    Args:
        reader: One of `READERS`.
        plant: Writes it.
        sentence: What is said of it.
    """

    reader: str
    plant: Callable[[Path], None]
    sentence: str


def read_bombs(bombs: Mapping[str, Bomb], folder: Path) -> dict[str, Reading]:
    """Plant files in a folder, and read them in one process of their own: name -> how it was read."""
    for name, bomb in bombs.items():
        bomb.plant(folder / name)
    return dict(zip(bombs, _peaks_of([(bomb.reader, folder / name) for name, bomb in bombs.items()]), strict=True))


def _peaks_of(files: Sequence[tuple[str, Path]]) -> list[Reading]:
    if not CLEAR_REFS.exists():
        pytest.skip("the peak of a process is read from Linux's /proc")
    command = [sys.executable, "-m", "tests.peak", *(text for reader, path in files for text in (reader, str(path)))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == len(files), f"exit {done.returncode} at {files[len(lines)]}: {done.stderr[-2000:]}"
    return [Reading(**json.loads(line)) for line in lines]


def _predict(path: Path) -> object:
    """Every input as `onward predict` reads it: two threads, and the results that wait for an earlier one."""
    import numpy as np

    from onward.errors import ImageError
    from onward.prediction.batch import Batcher, predict_batch
    from onward.prediction.ordered import in_order
    from onward.prediction.pipeline import MAX_BATCH_BYTES
    from onward.signature import Signature
    from onward.sources import open_sources

    signature = Signature(4, 4, 1, (0.5,), (0.5,), ("a", "b"))
    batcher = Batcher(open_sources([path], signature).blocks())

    def run(images: object) -> dict[str, object]:
        values = np.zeros((len(images), 2), np.float32)  # type: ignore[arg-type]
        return {"logits": values, "probabilities": values}

    reasons: list[str] = []
    work = lambda batch: predict_batch(run, signature, batch)  # type: ignore[arg-type]  # noqa: E731
    for done in in_order(lambda: batcher.take(32, MAX_BATCH_BYTES), work, num_workers=2, ahead=2, stop=lambda: False):
        reasons += [failure.reason for failure in done.failures]
    if reasons:
        raise ImageError(reasons[0])
    return "read"


def _images(path: Path) -> object:
    """A folder of images, by two threads."""
    from concurrent.futures import ThreadPoolExecutor

    from onward.images.decode import read_image
    from onward.signature import Signature

    signature = Signature(4, 4, 1, (0.5,), (0.5,), ("a", "b"))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda item: read_image(item, signature), sorted(path.iterdir())))
    return "read"


def _golden(path: Path) -> object:
    from onward.bundle.golden import GoldenRecord

    return GoldenRecord.load(path.read_bytes())


def _bundle(path: Path) -> object:
    from onward.bundle import Bundle

    return Bundle.open(path)


def _parity(path: Path) -> object:
    from onward.bundle import Bundle

    return Bundle.open(path).parity()


def _report(path: Path) -> object:
    from onward.benchmarking.report import Report

    return Report.load(path)


def _network(path: Path) -> object:
    from onward_training.checkpoint import Checkpoint

    return Checkpoint.load(path).network()


def _inspect(path: Path) -> object:
    from onward_training.commands import inspect

    return inspect(path, as_json=True)


def _weights(path: Path) -> object:
    from onward_training.external import read_weights

    return read_weights(path)


READERS: dict[str, Callable[[Path], object]] = {
    "predict": _predict,
    "images": _images,
    "golden": _golden,
    "bundle": _bundle,
    "parity": _parity,
    "report": _report,
    "network": _network,
    "inspect": _inspect,
    "weights": _weights,
}


def _warm_up(reader: str) -> None:
    """Import what the reader needs: that is not the file's doing."""
    try:
        READERS[reader](Path("/nowhere"))
    except Exception:
        pass


def _kibibytes(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def _read(reader: str, path: Path) -> Reading:
    from onward.errors import OnwardError

    gc.collect()
    CLEAR_REFS.write_text("5")  # proc(5): sets the peak back to what the process has now
    before = _kibibytes("VmRSS")
    try:
        said = str(READERS[reader](path))[:1000]
    except OnwardError as error:
        said = f"{type(error).__name__}: {error}"
    return Reading(said, (_kibibytes("VmHWM") - before) / 1024)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    for name in dict.fromkeys(arguments[::2]):
        _warm_up(name)
    printed, sys.stdout = sys.stdout, sys.stderr
    for name, where in zip(arguments[::2], arguments[1::2], strict=True):
        print(json.dumps(vars(_read(name, Path(where)))), file=printed, flush=True)
