"""Report: what a bench found, in the one JSON form that docs/bench.schema.json describes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onward.benchmarking.end_to_end import EndToEnd
from onward.benchmarking.spec import Competitor, Options
from onward.benchmarking.summary import Instability, Latency, Row, Stages
from onward.errors import DataError
from onward.host.fingerprint import Fingerprint
from onward.statistics import Interval

__all__ = ["VERSION", "Report"]

VERSION = 1


@dataclass(frozen=True)
class Report:
    """What was found.

    Args:
        rows: Competitor after competitor within a batch size; those that were never timed last.
        reference: What ratios are to.
        options: How it was timed.
        fingerprint: Where.
        missing: Backend -> what to install, of those that nobody asked for by name.
        levels_ms: Launch -> batch size -> the machine's level, round after round: what a fixed piece of work took on
            one core.
        end_to_end: From image files to rows.
        is_complete: False where the run was ended early: what there is up to then is in it.
        changed: What was changed while it was timed; empty for nothing.
    """

    rows: tuple[Row, ...]
    reference: Competitor
    options: Options
    fingerprint: Fingerprint
    missing: Mapping[str, str]
    levels_ms: tuple[Mapping[int, Sequence[float]], ...] = ()
    end_to_end: tuple[EndToEnd, ...] = ()
    is_complete: bool = True
    changed: str = ""

    @property
    def failed(self) -> bool:
        """Whether anything was wrong, failed, or changed, or nothing was timed."""
        bad = any(row.status in ("wrong", "failed") for row in self.rows)
        return bad or bool(self.changed) or not any(row.latency for row in self.rows)

    @property
    def is_stable(self) -> bool:
        """Whether all figures would be the same again."""
        return all(row.is_stable for row in self.rows if row.latency)

    @property
    def is_strictly_good(self) -> bool:
        """Whether every row is there, precise and stable."""
        return (
            not self.failed
            and self.is_stable
            and self.is_complete
            and all(row.status == "measured" for row in self.rows)
        )

    def to_json(self) -> dict[str, Any]:
        """Everything; `Report.from_json(report.to_json())` has the same rows."""
        return {
            "version": VERSION,
            "complete": self.is_complete,
            "changed": self.changed or None,
            "stable": self.is_stable,
            "reference": self.reference.to_json(),
            "rows": [_row_to_json(row) for row in self.rows],
            "end_to_end": [item.to_json() for item in self.end_to_end],
            "missing": dict(self.missing),
            "level_ms": [_levels_to_json(launch) for launch in self.levels_ms],
            "options": asdict(self.options),
            "fingerprint": self.fingerprint.to_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Report:
        """Read what `to_json` gave.

        Raises:
            DataError: It is of a newer version, or no report.
        """
        try:
            if document["version"] != VERSION:
                raise DataError(f"the report is of version {document['version']}; this Onward reads {VERSION}.")
            options = document["options"]
            return cls(
                rows=tuple(map(_row_from_json, document["rows"])),
                reference=Competitor(**document["reference"]),
                options=Options(**(options | {"batch_sizes": tuple(options["batch_sizes"])})),
                fingerprint=Fingerprint.from_json(document["fingerprint"]),
                missing=document["missing"],
                levels_ms=tuple(map(_levels_from_json, document["level_ms"])),
                end_to_end=tuple(EndToEnd.from_json(item) for item in document["end_to_end"]),
                is_complete=document["complete"],
                changed=document["changed"] or "",
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__} at {error}"
            raise DataError(f"this is no report of `onward bench --json`: {reason}.") from error

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a file.

        Raises:
            DataError: It is no report.
        """
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is no report of `onward bench --json`: {error}.") from error


def _row_to_json(row: Row) -> dict[str, Any]:
    return {
        **row.competitor.to_json(),
        "title": row.competitor.title,
        "batch_size": row.batch_size,
        "status": row.status,
        "reason": row.reason or None,
        "name": row.name or None,
        "placement": None if row.placement is None else dict(row.placement),
        "latency_ms": row.latency and row.latency.to_json(),
        "images_per_s": row.images_per_s,
        "ratio": row.ratio and row.ratio.to_json(),
        "stable": row.is_stable,
        "instabilities": [asdict(item) for item in row.instabilities],
        "noise_ratio": row.noise_ratio,
        "max_delta": row.max_delta,
        "num_labelled": row.num_labelled,
        "num_correct": row.num_correct,
        "accuracy": row.accuracy,
        "file_bytes": row.file_bytes,
        "peak_bytes": row.peak_bytes,
        "stages": row.stages and asdict(row.stages),
        "num_inferences": row.num_inferences,
        "num_warm_up": row.num_warm_up,
        "rounds_ms": [list(rounds) for rounds in row.rounds_ms],
    }


def _row_from_json(document: Mapping[str, Any]) -> Row:
    latency, stages, ratio = document["latency_ms"], document["stages"], document["ratio"]
    same = ("batch_size", "status", "placement", "images_per_s", "noise_ratio", "max_delta", "num_labelled")
    more = ("num_correct", "file_bytes", "peak_bytes", "num_inferences", "num_warm_up")
    return Row(
        competitor=Competitor(**{key: document[key] for key in ("target", "backend", "provider", "threads")}),
        reason=document["reason"] or "",
        name=document["name"] or "",
        latency=latency and _latency(latency),
        ratio=ratio and Interval(**ratio),
        instabilities=tuple(Instability(**item) for item in document["instabilities"]),
        rounds_ms=document["rounds_ms"],
        stages=stages and Stages(**stages),
        **{key: document[key] for key in (*same, *more)},
    )


def _levels_to_json(launch: Mapping[int, Sequence[float]]) -> dict[str, list[float]]:
    return {str(batch_size): list(levels_ms) for batch_size, levels_ms in launch.items()}


def _levels_from_json(document: Mapping[str, Sequence[float]]) -> dict[int, Sequence[float]]:
    return {int(batch_size): levels_ms for batch_size, levels_ms in document.items()}


def _latency(document: Mapping[str, Any]) -> Latency:
    percentiles = {int(percent): value for percent, value in document["percentiles"].items()}
    return Latency(document["median"], document["p90"], document["p99"], percentiles)
