"""Process: measures a whole process, its seconds and its peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.predict import meter

__all__ = ["Usage", "measure"]

#: Variables that would make another installation's modules visible.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Usage:
    """Time and memory of a process.

    Args:
        seconds: Wall-clock time.
        peak_bytes: Peak resident set size.
    """

    seconds: float
    peak_bytes: int

    @property
    def peak_mib(self) -> float:
        """Peak resident set size in MiB."""
        return self.peak_bytes / 2**20


def measure(*command: object, cwd: Path, stdin: IO[bytes] | None = None) -> Usage:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        cwd: Its working directory.
        stdin: Its standard input.

    Raises:
        RuntimeError: Its exit status is not 0.
    """
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    result = subprocess.run(
        [sys.executable, "-I", "-S", meter.__file__, *map(str, command)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, peak, status = result.stdout.split()
    if int(status):
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {status}: {result.stderr}")
    return Usage(float(seconds), int(peak) * MAXRSS_BYTES)
