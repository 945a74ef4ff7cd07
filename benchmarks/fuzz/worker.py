"""Worker: runs cases of one reader in a process of its own, with a limit on its memory.

Before each case it writes the case's number to a file, so that the campaign can tell which case hangs or has ended the
process. Outcomes are appended to another file, some at a time.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

from benchmarks.fuzz.case import run_case, warm_up

__all__ = ["work"]

#: Outcomes that are written together; what a death loses is run again.
CASES_AT_ONCE = 50
#: Address space beyond what the process takes after its imports.
MAX_MORE_BYTES = 3 << 30


def work(reader: str, seed: int, out: Path, start: int, end: int, skipped: frozenset[int]) -> None:
    """Run the cases `start` to `end`, but those that are skipped."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff and others print
    warm_up(reader)
    _limit_memory()
    marker = os.open(out.with_suffix(".at"), os.O_RDWR | os.O_CREAT)
    for first in range(start, end, CASES_AT_ONCE):
        last, began = min(first + CASES_AT_ONCE, end), time.monotonic()
        counts: Counter[str] = Counter()
        failures = []
        for at in range(first, last):
            if at in skipped:
                continue
            os.pwrite(marker, f"{at:12}".encode(), 0)
            result = run_case(reader, seed, at)
            counts[result.outcome] += 1
            if result.where:
                failures.append({"at": at, "outcome": result.outcome, "where": result.where})
        line = {"from": first, "to": last, "counts": counts, "failures": failures, "s": time.monotonic() - began}
        line["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        with out.open("a") as stream:
            stream.write(json.dumps(line) + "\n")


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MAX_MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
