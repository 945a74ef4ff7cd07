"""Campaign: the members of the zoo one after the other, each in a process of its own, within a budget.

Each leaves a file NAME.json as soon as it is done, so that a campaign goes on where it was broken off.
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

from benchmarks.zoo.member import ROOT, Member, digest_of_settings
from onward.files import written_whole

__all__ = ["Plan", "read", "run"]

#: A member takes so long on one core of ours, beside what its images take.
BASE_S, S_PER_GMAC, S_PER_1E6_PARAMETERS = 15.0, 18.0, 0.3
#: Two of more parameters than this at a time would need more than 16 GB of memory.
LARGE = 150e6
#: Outcomes that are answers: they are not asked for again.
ANSWERS = ("passed", "refused")


@dataclass(frozen=True)
class Plan:
    """How a campaign is run.

    Args:
        out: The folder of the results.
        budget_s: Of wall time; what does not fit is left for the next time.
        timeout_s: Of one member.
        num_jobs: Processes at a time; each has its share of the cores.
        again: Names that are run though they are done.
    """

    out: Path
    budget_s: float = 3600
    timeout_s: float = 1200
    num_jobs: int = 1
    again: tuple[str, ...] = ()


def read(out: Path, zoo: Sequence[Member]) -> dict[str, dict[str, Any]]:
    """Name -> result, of those members whose result was made with today's code, versions and settings."""
    settings = digest_of_settings()
    rows: dict[str, dict[str, Any]] = {}
    for member in zoo:
        try:
            row = json.loads((out / f"{member.name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            continue
        if row.get("settings") == settings and row.get("member") == asdict(member):
            rows[member.name] = row
    return rows


def run(zoo: Sequence[Member], plan: Plan, *, tell: Callable[[str], None] = lambda line: None) -> None:
    """Run what is not done, the quickest first, and write a result for each.

    Args:
        zoo: The members.
        plan: How.
        tell: Called with a line as each member ends, or is left for another time.
    """
    done = read(plan.out, zoo)
    deadline = time.monotonic() + plan.budget_s
    alone = threading.Lock()
    running = _Running()

    def take(member: Member) -> None:
        if running.stopped or member.left_out or _is_answered(done.get(member.name), member, plan):
            return
        estimate = _estimate_s(member)
        with alone if member.num_parameters > LARGE else threading.Lock():
            left = deadline - time.monotonic()
            if left < min(estimate, plan.timeout_s):
                tell(f"{member.name}: left for another time, {left:,.0f} s are left and it may take {estimate:,.0f} s")
                return
            tell(f"{member.name}: {_run_one(member, plan, running)}")

    with ThreadPoolExecutor(plan.num_jobs) as pool:
        try:
            for future in [pool.submit(take, member) for member in sorted(zoo, key=_estimate_s)]:
                future.result()
        except BaseException:  # Ctrl-C: what is under way is ended, and leaves no result
            running.stop()
            raise


class _Running:
    """The processes under way."""

    def __init__(self) -> None:
        self.processes: set[subprocess.Popen[str]] = set()
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True
        for process in list(self.processes):
            _end(process)


def _estimate_s(member: Member) -> float:
    """Of one core, were it alone; half as long again was seen where others used the machine."""
    return BASE_S + S_PER_GMAC * member.gmacs + S_PER_1E6_PARAMETERS * member.num_parameters / 1e6


def _is_answered(row: Mapping[str, Any] | None, member: Member, plan: Plan) -> bool:
    return row is not None and row["outcome"] in ANSWERS and member.name not in plan.again


def _run_one(member: Member, plan: Plan, running: _Running) -> str:
    """Run a member in its process; where that leaves no result, write why."""
    path = plan.out / f"{member.name}.json"
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
        start_new_session=True,  # so that the process it traces in ends with it
    )
    running.processes.add(process)
    try:
        _, complaint = process.communicate(timeout=plan.timeout_s)
        reason = _reason(process.returncode, complaint)
    except subprocess.TimeoutExpired:
        reason = f"not done after {plan.timeout_s:,.0f} s, and stopped."
    finally:
        running.processes.discard(process)
        _end(process)
    elapsed = time.monotonic() - began
    if running.stopped:
        return "stopped"
    if reason is None:
        row = json.loads(path.read_text(encoding="utf-8"))
        return f"{row['outcome']} after {elapsed:,.0f} s" + (f": {row['reason']}" if "reason" in row else "")
    row = {"member": asdict(member), "settings": digest_of_settings(), "outcome": "failed", "reason": reason}
    with written_whole(path) as staged:
        staged.write_text(json.dumps(row | {"seconds": elapsed}, indent=1) + "\n", encoding="utf-8")
    return f"failed after {elapsed:,.0f} s: {reason}"


def _reason(returncode: int, complaint: str) -> str | None:
    """Why a process left no result; None where it left one."""
    if returncode == 0:
        return None
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return f"its process was ended by {name}{', as a lack of memory does' if name == 'SIGKILL' else ''}."
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    return f"its process ended with exit code {returncode}: {lines[-1] if lines else 'nothing was said'}"


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stderr is not None:
        process.stderr.close()
