"""Campaign: exports the members of the zoo one after the other, each in its own process, within a time budget.

Each member writes LIBRARY/NAME.json when it is done, so that an interrupted campaign can be continued.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.zoo.member import digest_of_settings
from benchmarks.zoo.source import ROOT, Member
from onward.files import written_whole

__all__ = ["Plan", "read", "run"]

#: Estimated time of a member on one core of our machine.
BASE_S, S_PER_GMAC, S_PER_1E6_PARAMETERS = 15.0, 18.0, 0.3
#: How often the memory of a member's processes is looked at.
LOOK_S = 0.5
#: Two members with more parameters than this at the same time would need more than 16 GB of memory.
LARGE = 150e6
#: Outcomes that are final: such members are not run again.
ANSWERS = ("passed", "partly", "refused")


@dataclass(frozen=True)
class Plan:
    """How a campaign is run.

    Args:
        out: The folder of the results.
        budget_s: Wall time for all members; members that do not fit are skipped.
        timeout_s: Time limit for one member.
        num_jobs: Processes at a time; the cores are divided among them.
        again: Names of members that are run again.
        limit: The most members that are run.
        memory_bytes: A member whose processes take more memory than this is ended, where /proc tells it.
    """

    out: Path
    budget_s: float = 3600
    timeout_s: float = 1200
    num_jobs: int = 1
    again: tuple[str, ...] = ()
    limit: int | None = None
    memory_bytes: float = 8e9


def read(out: Path, zoo: Sequence[Member]) -> dict[Member, dict[str, Any]]:
    """Member -> result, for members whose result was made with the present code, versions and settings."""
    settings = digest_of_settings()
    rows: dict[Member, dict[str, Any]] = {}
    for member in zoo:
        try:
            row = json.loads(_path(out, member).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            continue
        if row.get("settings") == settings and row.get("member") == asdict(member):
            rows[member] = row
    return rows


def _path(out: Path, member: Member) -> Path:
    return out / member.library / f"{member.name}.json"


def run(zoo: Sequence[Member], plan: Plan, *, tell: Callable[[str], None] = lambda line: None) -> None:
    """Run the members without a result, the quickest first, and write a result for each.

    Args:
        zoo: The members.
        plan: How the campaign is run.
        tell: Called with a line when a member ends or is skipped.
    """
    done = read(plan.out, zoo)
    deadline = time.monotonic() + plan.budget_s
    alone = threading.Lock()
    running = _Running()

    def take(member: Member) -> None:
        if running.stopped:
            return
        estimate = _estimate_s(member)
        with alone if member.num_parameters > LARGE else threading.Lock():
            left = deadline - time.monotonic()
            if left < min(estimate, plan.timeout_s):
                tell(f"{member.name}: skipped, {left:,.0f} s are left and it may take {estimate:,.0f} s")
                return
            tell(f"{member.name}: {_run_one(member, plan, running)}")

    waiting = [item for item in zoo if not item.left_out and not _is_answered(done.get(item), item, plan)]
    with ThreadPoolExecutor(plan.num_jobs) as pool:
        try:
            for future in [pool.submit(take, member) for member in sorted(waiting, key=_estimate_s)[: plan.limit]]:
                future.result()
        except BaseException:  # Ctrl-C: running processes are ended and leave no result
            running.stop()
            raise


class _Running:
    """The running processes."""

    def __init__(self) -> None:
        self.processes: set[subprocess.Popen[str]] = set()
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True
        for process in list(self.processes):
            _end(process)


def _estimate_s(member: Member) -> float:
    """Seconds on one free core; on a shared machine 1.5 times as long was measured."""
    return BASE_S + S_PER_GMAC * member.gmacs + S_PER_1E6_PARAMETERS * member.num_parameters / 1e6


def _is_answered(row: Mapping[str, Any] | None, member: Member, plan: Plan) -> bool:
    return row is not None and row["outcome"] in ANSWERS and member.name not in plan.again


def _run_one(member: Member, plan: Plan, running: _Running) -> str:
    """Run a member in its own process; if it leaves no result, write the reason."""
    path = _path(plan.out, member)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    num_threads = max(1, (os.cpu_count() or 1) // plan.num_jobs)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.zoo.member", json.dumps(asdict(member)), str(path.absolute())],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": str(num_threads)} | os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that the process that traces for it ends with it
    )
    running.processes.add(process)
    try:
        reason = _wait(process, plan, began)
    finally:
        running.processes.discard(process)
        _end(process)
    elapsed = time.monotonic() - began
    if running.stopped:
        return "stopped"
    if reason is None:
        row = json.loads(path.read_text(encoding="utf-8"))
        reasons = "; ".join(dict.fromkeys(row.get("reason", {}).values()))
        return f"{row['outcome']} after {elapsed:,.0f} s" + (f": {reasons}" if reasons else "")
    row = {"member": asdict(member), "settings": digest_of_settings(), "outcome": "failed", "reason": reason}
    with written_whole(path) as staged:
        staged.write_text(json.dumps(row | {"seconds": elapsed}, indent=1) + "\n", encoding="utf-8")
    return f"failed after {elapsed:,.0f} s: {reason}"


def _wait(process: subprocess.Popen[str], plan: Plan, began: float) -> str | None:
    """Wait for a member's end. Returns the reason why it left no result; None where it left one."""
    while True:
        left = began + plan.timeout_s - time.monotonic()
        try:
            _, stderr = process.communicate(timeout=max(0, min(left, LOOK_S)))
            return _reason(process.returncode, stderr)
        except subprocess.TimeoutExpired:
            if left <= 0:
                return f"stopped after the time limit of {plan.timeout_s:,.0f} s."
            if _memory_bytes(process.pid) > plan.memory_bytes:
                return f"stopped at the memory limit of {plan.memory_bytes / 1e9:g} GB."


def _memory_bytes(session: int) -> int:
    """The memory of all processes of a session without mapped files, as far as /proc tells it."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                _, resident, shared, *_ = map(int, (folder / "statm").read_text().split())
                pages += resident - shared
        except (OSError, IndexError):  # it ended meanwhile
            continue
    return pages * (os.sysconf("SC_PAGE_SIZE") if pages else 1)


def _reason(returncode: int, stderr: str) -> str | None:
    """The reason why a process left no result; None where it left one."""
    if returncode == 0:
        return None
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return f"its process was ended by {name}{', which a lack of memory causes' if name == 'SIGKILL' else ''}."
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f"its process ended with exit code {returncode}: {lines[-1] if lines else 'it printed no error'}"


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stderr is not None:
        process.stderr.close()
