"""Campaign: plants many faults, one process per network, within a time budget.

Outcomes are lines of NETWORK.jsonl, so that an interrupted campaign goes on where it stopped. A fault that ends the
process is refused, as in the gate, which opens files in a process of its own.
"""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.faults.bench import FAULTS, FOLDED_EPSILON, FaultBench, Outcome
from benchmarks.faults.networks import build
from benchmarks.zoo.member import digest_of_settings
from benchmarks.zoo.source import ROOT

__all__ = ["KINDS", "Plan", "plant_in_one_network", "read", "run"]

KINDS = (*FAULTS, FOLDED_EPSILON)
#: An export for each fault.
MAX_FOLDED_EPSILONS = 4
#: So many places are drawn for a fault that is planted in a new place.
MAX_TRIES = 3


@dataclass(frozen=True)
class Plan:
    """How a campaign is run.

    Args:
        out: The folder of the outcomes.
        each: The most faults of a kind in each network.
        seed: Chooses the places.
        hours: Wall time for all.
        num_jobs: Processes at a time.
    """

    out: Path
    each: int
    seed: int
    hours: float
    num_jobs: int

    def path(self, network: str) -> Path:
        """The file of a network's outcomes."""
        return self.out / f"{network.replace(' ', '_')}.jsonl"


def read(plan: Plan, network: str) -> list[Outcome]:
    """The outcomes of a network that were made with the present code and seed, at most `each` of a kind."""
    lines = [line for line in _lines(plan, network) if "outcome" in line]
    return [_outcome(line["outcome"]) for line in lines if line["at"] < plan.each * MAX_TRIES]


def run(networks: list[str], plan: Plan, *, tell: Callable[[str], None]) -> list[str]:
    """Plant faults in networks and return the problems of those that could not be used."""
    if not plan.hours:
        return []
    plan.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 3600 * plan.hours

    def take(network: str) -> str | None:
        began = time.monotonic()
        problem = _run_one(network, plan, deadline)
        outcomes = read(plan, network)
        seconds = time.monotonic() - began
        tell(f"{network}: {len(outcomes)} faults, {seconds:.0f} s{f'; {problem}' if problem else ''}")
        return None if problem is None else f"{network}: {problem}"

    with ThreadPoolExecutor(plan.num_jobs) as pool:
        return [problem for problem in pool.map(take, networks) if problem]


def _run_one(network: str, plan: Plan, deadline: float) -> str | None:
    """Run a network's process; again after a fault that ended it."""
    command = [sys.executable, "-m", "benchmarks.faults", "--worker", network, "--each", str(plan.each)]
    command += ["--seed", str(plan.seed), "--out", str(plan.out)]
    while (left := deadline - time.monotonic()) > 0:
        try:
            ended = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=left)
        except subprocess.TimeoutExpired:
            break
        if ended.returncode == 0:
            return None
        begun: dict[str, Any] = next(reversed(list(_lines(plan, network))), {})
        if ended.returncode > 0 or "begun" not in begun:
            return f"stopped with {ended.stderr.strip().splitlines()[-1:] or ended.returncode}"
        crashed = Outcome(network, begun["begun"], "", found_by="crash", sentence=f"signal {-ended.returncode}")
        _append(plan, network, {"at": begun["at"], "outcome": asdict(crashed)})
    return "the time is over"


def plant_in_one_network(network: str, plan: Plan) -> None:
    """Plant the faults of a network that are not planted yet."""
    lines = list(_lines(plan, network))
    tried = {(line["kind"], line["at"]) for line in lines if "kind" in line}
    tried |= {(line["outcome"]["kind"], line["at"]) for line in lines if "outcome" in line}
    outcomes = [_outcome(line["outcome"]) for line in lines if "outcome" in line]
    places = [(kind, at) for kind in KINDS for at in range(plan.each * MAX_TRIES) if (kind, at) not in tried]
    if not places:
        return
    folder = plan.out / "files" / network.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    bench = FaultBench(build(network), folder)
    digests = {outcome.digest for outcome in outcomes}
    counts = {kind: sum(outcome.kind == kind for outcome in outcomes) for kind in KINDS}
    for kind, at in places:
        if counts[kind] >= (min(plan.each, MAX_FOLDED_EPSILONS) if kind == FOLDED_EPSILON else plan.each):
            continue
        _append(plan, network, {"begun": kind, "at": at})
        outcome = bench.plant(kind, 1000 * plan.seed + at, frozenset(digests))
        if outcome is None:
            _append(plan, network, {"kind": kind, "at": at})
            continue
        digests.add(outcome.digest)
        counts[kind] += 1
        _append(plan, network, {"at": at, "outcome": asdict(outcome)})


def _lines(plan: Plan, network: str) -> Iterator[dict[str, Any]]:
    path, settings = plan.path(network), _settings(plan)
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:  # cut off
            continue
        if line["settings"] == settings:
            yield line


def _append(plan: Plan, network: str, line: dict[str, Any]) -> None:
    with plan.path(network).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line | {"settings": _settings(plan)}) + "\n")


def _settings(plan: Plan) -> str:
    return f"{_digest_of_code()} seed {plan.seed}"


@cache
def _digest_of_code() -> str:
    """A digest of what an outcome depends on: versions, and the code that exports, judges and plants."""
    code = [Path(__file__).with_name(f"{name}.py") for name in ("networks", "planted", "weight_faults", "node_faults")]
    parts = [
        ast.dump(ast.parse(path.read_text(encoding="utf-8"))) for path in (*code, Path(__file__).with_name("bench.py"))
    ]
    return hashlib.sha256("\n".join([digest_of_settings(), *parts]).encode()).hexdigest()[:16]


def _outcome(fields: dict[str, Any]) -> Outcome:
    return Outcome(**fields | {"others": tuple(fields["others"])})
