"""Campaign: the sections one after the other, each in a process that is ended at its limit; results.json after each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.section import STAGES, Row, Section, Setting
from onward.cli.console import remark
from onward.files import written_whole

__all__ = ["RESULTS", "run"]

ROOT = Path(__file__).parents[2]
RESULTS, LOG = "results.json", "log.txt"
#: A section that would have less time than this is not begun.
MIN_S = 5.0


@dataclass
class _Running:
    section: Section
    process: subprocess.Popen[bytes]
    rows: Path
    log: Path
    began: float
    ends: float


def run(setting: Setting, *, limit_s: float, only: Collection[str] = (), stages: Sequence[Any] = STAGES) -> Path:
    """Run every section; the path of the results.

    Args:
        setting: Device, folders, sizes.
        limit_s: Seconds for all; what does not fit is left out, with that reason.
        only: Names of sections, or of their modules; by default all. `machine` runs always: results name their card.
        stages: What runs at the same time, and in which order.
    """
    setting.out.mkdir(parents=True, exist_ok=True)
    setting.work.mkdir(parents=True, exist_ok=True)
    (setting.out / LOG).write_bytes(b"")
    ends = time.monotonic() + limit_s
    results: list[Row] = []
    for stage in stages:
        chosen = [item for item in stage if not only or {item.name, item.name.partition(":")[0]} & {*only, "machine"}]
        waiting = []
        for section in chosen:
            if reason := _why_not(section, setting, ends):
                results.append(_result(section, "skipped", 0.0, [], reason))
            else:
                waiting.append(_start(section, setting, ends))
        results += [_finish(item, setting) for item in waiting]
        _write(setting, results)
    return setting.out / RESULTS


def _why_not(section: Section, setting: Setting, ends: float) -> str:
    argument = section.name.partition(":")[2]
    if argument and argument not in setting.networks:
        return "left out at tiny sizes"
    if setting.device == "cpu" and not section.on_cpu:
        return "needs a card"
    return "no time was left" if ends - time.monotonic() < MIN_S else ""


def _start(section: Section, setting: Setting, ends: float) -> _Running:
    remark(f"{section.name} …")
    stem = section.name.replace(":", "-")
    rows, log = setting.work / f"{stem}.rows.jsonl", setting.work / f"{stem}.log"
    rows.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu", "--section", section.name, "--rows", str(rows)]
    command += ["--device", setting.device, "--work", str(setting.work), "--out", str(setting.out)]
    command += ["--quick"] if setting.quick else []
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(setting), stdout=stream, stderr=stream, start_new_session=True
        )
    began = time.monotonic()
    return _Running(section, process, rows, log, began, min(began + section.limit_s, ends))


def _environment(setting: Setting) -> dict[str, str]:
    """Compiled code is kept in the work folder; cuBLAS's workspace is fixed, so that training can be deterministic."""
    code = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
    paths = [str(ROOT), *(str(ROOT / name) for name in ("runtime", "training", "export"))]
    return {
        **os.environ,
        **{name: str(setting.work / folder) for name, folder in code.items()},
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "PYTHONUNBUFFERED": "1",
    }


def _finish(item: _Running, setting: Setting) -> Row:
    """Wait for a section, end it at its limit, and read what it wrote."""
    status, reason = "done", ""
    try:
        code = item.process.wait(max(0.1, item.ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        status, reason = "cut off", f"ended after {time.monotonic() - item.began:.0f} s"
    else:
        if code:
            status, reason = "failed", f"ended with exit code {code}"
    _end_group(item.process)
    rows = _read(item.rows)
    if rows and set(rows[-1]) == {"error"}:
        reason = rows.pop()["error"]
    log = item.log.read_bytes()
    with (setting.out / LOG).open("ab") as stream:
        stream.write(f"\n===== {item.section.name}: {status} {reason}\n".encode() + log[-200_000:])
    remark(f" {item.section.name}: {status}, {len(rows)} rows {reason}")
    return _result(item.section, status, time.monotonic() - item.began, rows, reason)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what the section has started, too: loaders and compilers would disturb the next one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(path: Path) -> list[Row]:
    """The rows; a last line that was cut off is left out."""
    rows: list[Row] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _result(section: Section, status: str, seconds: float, rows: Sequence[Row], reason: str) -> Row:
    return {
        "section": section.name,
        "status": status,
        "reason": reason,
        "seconds": round(seconds, 1),
        "rows": list(rows),
    }


def _write(setting: Setting, results: Sequence[Row]) -> None:
    machine: Row = next((item["rows"][0] for item in results if item["section"] == "machine" and item["rows"]), {})
    document = {"format": 1, "device": setting.device, "quick": setting.quick, "machine": machine}
    with written_whole(setting.out / RESULTS) as staged:
        staged.write_text(json.dumps(document | {"sections": list(results)}, indent=1) + "\n", encoding="utf-8")
