"""Results: the files of one or several runs on one card, read as one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.section import Row
from onward.errors import UsageError

__all__ = ["Results", "read_results"]

Results = Mapping[str, Any]
#: What has to be the same in every file.
SAME = ("card", "driver", "torch", "onnxruntime")


def read_results(paths: Sequence[Path]) -> Results:
    """The results of all files. A later file's section counts, unless it did not finish and an earlier one did.

    Args:
        paths: `results.json` of runs on one card, the first one first. A file of a run without the section `machine`
            counts as one of the same card.

    Raises:
        UsageError: A run had no card, or was a quick one; the runs are of different cards or versions.
    """
    machine: Row = {}
    sections: dict[str, Row] = {}
    for path in paths:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["device"] != "cuda":
            raise UsageError(f"{path} is of a run on the CPU, which only tests the plumbing: the page is not written.")
        if found["quick"]:
            raise UsageError(
                f"{path} is of a run with --quick, which only tests the plumbing: the page is not written."
            )
        for name in SAME if machine and found["machine"] else ():
            if machine.get(name) != found["machine"].get(name):
                raise UsageError(
                    f"{path} has {name} {found['machine'].get(name)}, and the files before it have "
                    f"{machine.get(name)}: give the files of one machine."
                )
        machine = machine or found["machine"]
        for item in found["sections"]:
            if item["section"] not in sections or _counts(item, sections[item["section"]]):
                sections[item["section"]] = item
    return {"machine": machine, "sections": list(sections.values())}


def _counts(later: Row, earlier: Row) -> bool:
    if earlier["status"] == "done":
        return bool(later["status"] == "done")
    return bool(later["status"] != "skipped")
