"""Process: a competitor's process as seen from outside. It stands still while it is nobody's turn but another's."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onward.errors import OnwardError

__all__ = ["CompetitorError", "Interrupted", "Process"]

#: The clock starts at the first line that the interpreter runs.
PROGRAM = "import time; began = time.perf_counter(); from onward.benchmarking.worker import main; main(began)"
ROOT = Path(__file__).parents[2]
CAN_STOP = hasattr(signal, "SIGSTOP")
#: Where a process cannot be stopped: its threads spin on for a while after an inference.
REST_S = 0.1
POLL_S = 0.1


class CompetitorError(OnwardError):
    """A competitor does not run here, or its process has ended."""


class Interrupted(OnwardError):
    """The run was asked to stop while a competitor was at work."""


class Process:
    """Starts a competitor's process, and asks it step by step.

    Args:
        threads: Of an inference; libraries that look at the environment are told.
        timeout_s: When it is ended, if it does not answer.
        stop: Asked while one waits for an answer.
    """

    def __init__(self, threads: int, *, timeout_s: float, stop: Callable[[], bool] = lambda: False) -> None:
        self.timeout_s, self.stop = timeout_s, stop
        self.said = tempfile.TemporaryFile()  # noqa: SIM115
        self.spawned = time.perf_counter()
        self.popen = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env=_environment(threads),
            # a group of its own: Ctrl-C is for us to deal with, and where we are killed while it stands still, the
            # system wakes an orphaned group up
            **({"process_group": 0} if CAN_STOP else {}),  # type: ignore[call-overload]
        )
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def ask(self, step: str, **arguments: Any) -> dict[str, Any]:
        """Wake it up, have a step done, and let it stand still again.

        Raises:
            CompetitorError: It says that it cannot, has ended, or does not answer.
            Interrupted: `stop` came true meanwhile.
        """
        self._signal("SIGCONT")
        request = json.dumps({"step": step} | arguments) + "\n"
        try:
            assert self.popen.stdin is not None
            self.popen.stdin.write(request.encode())
            self.popen.stdin.flush()
        except OSError:
            raise CompetitorError(self._epitaph()) from None
        answer: dict[str, Any] = json.loads(self._line())
        self._stand_still()
        if "error" in answer:
            raise CompetitorError(answer["error"])
        return answer

    def close(self) -> None:
        """End it."""
        self.popen.kill()
        self.popen.wait()
        self.listener.join()
        for stream in (self.popen.stdin, self.popen.stdout, self.said):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was still to be written to it
                    continue

    def _listen(self) -> None:
        """Pass answers on, and nothing when there will be no more. A pipe alone cannot be waited for everywhere."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def _line(self) -> bytes:
        end = time.monotonic() + self.timeout_s
        while not self.stop():
            try:
                line = self.lines.get(timeout=POLL_S)
            except queue.Empty:
                if time.monotonic() > end:
                    self.popen.kill()
                    raise CompetitorError(f"it did not answer within {self.timeout_s:g} s and was ended.") from None
                continue
            if not line:
                raise CompetitorError(self._epitaph())
            return line
        raise Interrupted("interrupted.")

    def _stand_still(self) -> None:
        if CAN_STOP:
            self._signal("SIGSTOP")
        else:
            time.sleep(REST_S)

    def _signal(self, name: str) -> None:
        if CAN_STOP and self.popen.poll() is None:
            self.popen.send_signal(getattr(signal, name))

    def _epitaph(self) -> str:
        """How it ended, and the last that it said."""
        code = self.popen.wait()
        try:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        except ValueError:
            how = f"by signal {-code}"
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return f"its process ended {how}." + (f" It said: {lines[-1].strip()}" if lines else "")


def _environment(threads: int) -> dict[str, str]:
    path = os.environ.get("PYTHONPATH")
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *([path] if path else [])]),
    }
