from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.process import CandidateError, Interrupted, WorkerProcess
from onward.bundle import Bundle
from onward.bundle.trust import NO_TRUST

PLANTED = Path(__file__).with_name("planted.py")
ROOT = Path(__file__).parents[3]
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def start(bundle: Bundle, name: str = "right") -> WorkerProcess:
    candidate = Candidate(str(bundle.path), f"{PLANTED}:{name}", "cpu", 1)
    process = WorkerProcess(1, timeout_s=60)
    digest = ModelUnderTest(bundle.path).digest
    process.request(
        "open",
        candidate=candidate.to_json(),
        sizes={},
        trust=NO_TRUST.to_json(),
        given=None,
        spawned=process.spawned,
        digest=digest,
    )
    return process


@pytest.fixture
def restless(shared_bundle: Bundle) -> Iterator[WorkerProcess]:
    process = start(shared_bundle, "never_rests")
    yield process
    process.close()


def state_of(number: int) -> str:
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]


def busy_ticks_of(number: int) -> int:
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@linux
def test_it_is_stopped_between_two_steps(restless: WorkerProcess) -> None:
    """One of its threads spins: it would take a core from the measured candidate."""
    assert wait_until(lambda: state_of(restless.popen.pid) == "T")
    before = busy_ticks_of(restless.popen.pid)
    time.sleep(0.2)
    assert busy_ticks_of(restless.popen.pid) == before
    assert restless.request("idle", seconds=0.05)["busy_cores"] > 0  # it continues where it was stopped


def test_an_error_ends_a_step_and_not_the_process(shared_bundle: Bundle) -> None:
    process = start(shared_bundle, "raises")
    with pytest.raises(CandidateError, match="ZeroDivisionError: of all things"):
        process.request("first_inference", batch_size=1, seed=0)
    assert process.request("idle", seconds=0.01)["busy_cores"] >= 0
    process.close()


def test_a_request_after_its_end_says_how_it_ended(shared_bundle: Bundle) -> None:
    process = start(shared_bundle)
    process.popen.kill()
    process.popen.wait()
    with pytest.raises(CandidateError, match="ended by SIGKILL"):
        process.request("first_inference", batch_size=1, seed=0)
    process.close()


def test_waiting_ends_when_the_benchmark_is_interrupted(shared_bundle: Bundle) -> None:
    process = start(shared_bundle, "hangs")
    process.stop = lambda: True
    with pytest.raises(Interrupted):
        process.request("first_inference", batch_size=1, seed=0)
    process.close()


def test_the_number_of_threads_is_in_the_environment(shared_bundle: Bundle) -> None:
    process = WorkerProcess(3, timeout_s=60)
    environment = Path(f"/proc/{process.popen.pid}/environ")
    if environment.exists():
        process.popen.send_signal(signal.SIGSTOP)
        assert b"OMP_NUM_THREADS=3\0" in environment.read_bytes()
    process.close()


PARENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from onward.benchmarking.process import WorkerProcess
process = WorkerProcess(1, timeout_s=7200)
process.request("idle", seconds=0.01)
print(process.popen.pid, flush=True)
if sys.argv[2] == "working":
    process.request("idle", seconds=3600)
time.sleep(3600)
"""


@linux
@pytest.mark.parametrize(("what", "states"), [("stopped", "T"), ("working", "RS")])
def test_it_dies_with_its_parent(what: str, states: str) -> None:
    """The system hangs up an orphaned process only if it is stopped, and a step does not see that its parent ended."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(ROOT / "runtime"), what], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert wait_until(lambda: state_of(child) in states)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    if not wait_until(lambda: not _is_alive(child)):
        os.kill(child, signal.SIGKILL)
        pytest.fail("the worker outlived its parent")


def wait_until(holds: Callable[[], bool]) -> bool:
    """Whether it holds within a minute: on a busy machine a signal takes its time."""
    end = time.monotonic() + 60
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def _is_alive(number: int) -> bool:
    try:
        return state_of(number) not in "ZX"
    except OSError:
        return False
