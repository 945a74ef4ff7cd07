"""Case: one damaged file and one reader. A reader, a seed and a number decide everything about it."""

from __future__ import annotations

import random
import re
import resource
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.mutation import mutate
from benchmarks.fuzz.readers import READERS
from benchmarks.fuzz.watch import Deed
from onward.errors import OnwardError
from onward.printable import printable

__all__ = ["OUTCOMES", "Failure", "Result", "input_of", "run_case", "run_file", "warm_up"]

#: `read` and `refused` are right; the others are failures.
OUTCOMES = ("read", "refused", "traceback", "escape", "memory", "hang", "death", "execution")
#: Above what the process had before.
MAX_RISE_BYTES = 300 << 20


@dataclass(frozen=True)
class Result:
    """What became of a case.

    Args:
        outcome: One of `OUTCOMES`.
        where: Of a failure: the error, and the last line of ours.
    """

    outcome: str
    where: str = ""


@dataclass(frozen=True)
class Failure:
    """A case that failed, and how."""

    reader: str
    at: int
    result: Result


def input_of(reader: str, seed: int, at: int) -> bytes:
    """The file of a case."""
    generator = random.Random(f"{seed}/{reader}/{at}")
    seeds = _seeds(reader)
    return mutate(generator.choice(seeds), seeds, generator)


_SEEDS: dict[str, list[bytes]] = {}


def _seeds(reader: str) -> list[bytes]:
    if reader not in _SEEDS:
        _SEEDS[reader] = READERS[reader].seeds()
    return _SEEDS[reader]


def warm_up(reader: str) -> None:
    """Read a whole file, so that what a reader imports does not count as a case's memory."""
    for data in _seeds(reader):
        run_file(reader, data)


def run_case(reader: str, seed: int, at: int) -> Result:
    """Make the file of a case, and read it."""
    return run_file(reader, input_of(reader, seed, at))


def run_file(reader: str, data: bytes) -> Result:
    """Read a file."""
    with _folder() as folder:
        path = folder / f"case{READERS[reader].suffix}"
        path.write_bytes(data)
        before = _peak_bytes()
        result = _read(reader, path)
        rise = _peak_bytes() - before
    if rise > MAX_RISE_BYTES and result.outcome in ("read", "refused"):
        return Result("memory", f"{rise >> 20} MiB")
    return result


def _read(reader: str, path: Path) -> Result:
    try:
        printed = READERS[reader].read(path)
    except OnwardError as error:
        return _judge(str(error), "refused")
    except OSError as error:
        # the command prints the file and the reason
        return Result("refused") if error.filename else Result("traceback", _where(error))
    except Deed as error:
        return Result("execution", str(error))
    except MemoryError as error:
        return Result("memory", _where(error))
    except BaseException as error:  # what a reader must not raise
        return Result("traceback", _where(error))
    return _judge(printed, "read")


def _judge(printed: str, outcome: str) -> Result:
    """Whether anything that a terminal obeys would be printed; errors are escaped when they are printed."""
    if outcome == "read" and any(printable(line) != line for line in printed.split("\n")):
        return Result("escape", repr(printed[:80]))
    return Result(outcome)


def _where(error: BaseException) -> str:
    frames = [item for item in traceback.extract_tb(error.__traceback__) if "/onward" in item.filename]
    last = f"{Path(frames[-1].filename).name}, {frames[-1].name}" if frames else "outside"
    return f"{type(error).__name__} at {last}: {re.sub(r'/[^ ]*/', '', str(error))[:100]!r}"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _folder() -> Iterator[Path]:
    root = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="onward-fuzz-", dir=root if root.is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
