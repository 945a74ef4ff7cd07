"""Process: a candidate's worker process, seen from the parent. It is stopped while another candidate is measured."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onward.errors import OnwardError
from onward.host.interpreter import own_group, python_command

__all__ = ["CandidateError", "Interrupted", "WorkerProcess"]

#: The clock starts at the first line that the interpreter runs.
PROGRAM = "import time; began = time.perf_counter(); from onward.benchmarking.worker import main; main(began)"
ROOT = Path(__file__).parents[2]
CAN_STOP = hasattr(signal, "SIGSTOP")
#: Where a process cannot be stopped, its threads spin for a while after an inference: wait for them.
SPIN_S = 0.1
POLL_S = 0.1


class CandidateError(OnwardError):
    """A candidate does not run here, or its process has ended."""


class Interrupted(OnwardError):
    """The benchmark was interrupted while a candidate was working."""


class WorkerProcess:
    """Starts a worker and sends it requests.

    Args:
        threads: Threads per inference; set in the environment for libraries that read it there.
        timeout_s: Seconds after which a worker that does not respond is killed.
        stop: Polled while waiting for a response.
    """

    def __init__(self, threads: int, *, timeout_s: float, stop: Callable[[], bool] = lambda: False) -> None:
        self.timeout_s, self.stop = timeout_s, stop
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self.spawned = time.perf_counter()
        self.popen = subprocess.Popen(
            python_command(PROGRAM),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=_environment(threads),
            # Its own process group: Ctrl-C reaches only the parent. If the parent is killed while the worker is
            # stopped, the system wakes up the orphaned group.
            **own_group(),
        )
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read_lines, daemon=True)
        self.reader.start()

    def request(self, step: str, **arguments: Any) -> dict[str, Any]:
        """Resume the worker, let it do one step, and stop it again.

        Raises:
            CandidateError: The step failed, or the process has ended or does not respond.
            Interrupted: `stop` returned true while waiting.
        """
        self._signal("SIGCONT")
        request = json.dumps({"step": step} | arguments) + "\n"
        try:
            assert self.popen.stdin is not None
            self.popen.stdin.write(request.encode())
            self.popen.stdin.flush()
        except OSError:
            raise CandidateError(self._exit_message()) from None
        response: dict[str, Any] = json.loads(self._next_line())
        self._suspend()
        if "error" in response:
            raise CandidateError(response["error"])
        return response

    def close(self) -> None:
        """Kill the process."""
        self.popen.kill()
        self.popen.wait()
        self.reader.join()
        for stream in (self.popen.stdin, self.popen.stdout, self.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # a request that was not written yet
                    continue

    def _read_lines(self) -> None:
        """Put each line in the queue, then an empty one. Not every system can wait for a pipe with a timeout."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def _next_line(self) -> bytes:
        end = time.monotonic() + self.timeout_s
        while not self.stop():
            try:
                line = self.lines.get(timeout=POLL_S)
            except queue.Empty:
                if time.monotonic() > end:
                    self.popen.kill()
                    raise CandidateError(
                        f"the process did not respond within {self.timeout_s:g} s and was killed."
                    ) from None
                continue
            if not line:
                raise CandidateError(self._exit_message())
            return line
        raise Interrupted("interrupted.")

    def _suspend(self) -> None:
        if CAN_STOP:
            self._signal("SIGSTOP")
        else:
            time.sleep(SPIN_S)

    def _signal(self, name: str) -> None:
        if CAN_STOP and self.popen.poll() is None:
            self.popen.send_signal(getattr(signal, name))

    def _exit_message(self) -> str:
        """How the process ended, and the last line of its standard error."""
        code = self.popen.wait()
        try:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        except ValueError:
            how = f"by signal {-code}"
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        return f"the process ended {how}." + (f" Its last output: {lines[-1].strip()}" if lines else "")


def _environment(threads: int) -> dict[str, str]:
    path = os.environ.get("PYTHONPATH")
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *([path] if path else [])]),
    }
