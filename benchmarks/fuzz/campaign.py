"""Campaign: all readers, so many cases each. It continues where it was interrupted, as long as the code is the same.

Cases run within a process, because starting one takes a thousand times as long as a case. A process that dies, or does
not finish a case in time, is a failure of that case, and another process goes on behind it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzz.case import Failure, Result
from benchmarks.zoo.source import ROOT

__all__ = ["Plan", "ReaderOutcomes", "read", "run", "worker_command"]

#: A case that takes longer hangs; the first one also waits for the imports.
MAX_CASE_S, MAX_START_S = 20, 600
#: After so many deaths and hangs a reader is given up.
MAX_DEATHS = 200
SOURCES = ("runtime/onward", "training/onward_training", "benchmarks/fuzz")


@dataclass(frozen=True)
class Plan:
    """How a campaign is run.

    Args:
        out: The folder of the outcomes; those of other code are in other folders.
        each: Cases of each reader.
        seed: Decides all cases.
        num_jobs: Processes at a time.
        hours: Wall time for all.
    """

    out: Path
    each: int
    seed: int
    num_jobs: int
    hours: float

    def path(self, reader: str) -> Path:
        """The file of a reader's outcomes."""
        return self.out / _digest_of_code() / f"{reader.replace(' ', '-').replace(',', '')}.jsonl"


@dataclass
class ReaderOutcomes:
    """What became of the cases of one reader.

    Args:
        reader: Its name.
        counts: Outcome -> number of cases.
        failures: Those that failed.
        seconds: Time of all cases.
        peak_mib: The largest memory of a process.
        next: The first case that was not run.
    """

    reader: str
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    peak_mib: int = 0
    next: int = 0

    @property
    def num_cases(self) -> int:
        """How many cases ran."""
        return self.counts.total()


def run(readers: Sequence[str], plan: Plan, *, tell: Callable[[str], None]) -> None:
    """Run what is missing of each reader's cases."""
    deadline = time.monotonic() + 3600 * plan.hours

    def take(reader: str) -> None:
        _run_reader(reader, plan, deadline)
        outcomes = read(plan, reader)
        tell(f"{reader}: {outcomes.num_cases:,} cases, {len(outcomes.failures)} failures, {outcomes.seconds:.0f} s")

    with ThreadPoolExecutor(plan.num_jobs) as pool:
        list(pool.map(take, readers))


def read(plan: Plan, reader: str) -> ReaderOutcomes:
    """The outcomes so far."""
    found = ReaderOutcomes(reader)
    for line in _lines(plan.path(reader)):
        found.counts.update(line["counts"])
        found.failures += [
            Failure(reader, item["at"], Result(item["outcome"], item["where"])) for item in line["failures"]
        ]
        found.seconds += line.get("s", 0.0)
        found.peak_mib = max(found.peak_mib, line.get("peak_mib", 0))
        found.next = max(found.next, line.get("to", 0))
    return found


def _run_reader(reader: str, plan: Plan, deadline: float) -> None:
    path = plan.path(reader)
    path.parent.mkdir(parents=True, exist_ok=True)
    while (found := read(plan, reader)).next < plan.each and time.monotonic() < deadline:
        lost = [item.at for item in found.failures if item.result.outcome in ("hang", "death")]
        if len(lost) >= MAX_DEATHS:
            return
        failure = _run_worker(reader, plan, found.next, lost, deadline)
        if failure is not None:
            line = {"counts": {failure["outcome"]: 1}, "failures": [failure]}
            with path.open("a") as stream:
                stream.write(json.dumps(line) + "\n")


def _run_worker(reader: str, plan: Plan, start: int, lost: Sequence[int], deadline: float) -> dict[str, Any] | None:
    """Run a worker to its end, and return the case that ended it too early, if there is one."""
    marker = plan.path(reader).with_suffix(".at")
    marker.write_text("")
    arguments = [reader, plan.seed, plan.path(reader), start, plan.each, ",".join(map(str, lost))]
    process = subprocess.Popen(worker_command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL)
    at, since = "", time.monotonic()
    while (code := process.poll()) is None:
        time.sleep(0.05)
        if (now := marker.read_text()) != at:
            at, since = now, time.monotonic()
        is_hanging = time.monotonic() - since > (MAX_CASE_S if at else MAX_START_S)
        if is_hanging or time.monotonic() > deadline:
            process.kill()
            process.wait()
            if is_hanging and not at:
                raise RuntimeError(f"the worker of {reader} has not started within {MAX_START_S} s.")
            return {"at": int(at), "outcome": "hang", "where": f"over {MAX_CASE_S} s"} if is_hanging else None
    at = marker.read_text()
    if code == 0:
        return None
    if not at:
        raise RuntimeError(f"the worker of {reader} did not start: exit code {code}.")
    return {"at": int(at), "outcome": "death", "where": f"exit code {code}"}


def worker_command(*arguments: object) -> list[str]:
    """The command that runs cases in a process of its own."""
    return [sys.executable, "-m", "benchmarks.fuzz", "--worker", *map(str, arguments)]


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for text in path.read_text().splitlines():
        try:
            found.append(json.loads(text))
        except ValueError:  # an interrupted campaign cut it short
            continue
    return found


@functools.cache
def _digest_of_code() -> str:
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
