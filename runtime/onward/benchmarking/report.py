"""Report: the results of a benchmark, in the JSON form that docs/bench.schema.json describes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.end_to_end import EndToEnd
from onward.benchmarking.instability import Instability
from onward.benchmarking.row import Latency, Row, Stages
from onward.benchmarking.spec import BenchOptions
from onward.errors import DataError
from onward.host.fingerprint import Fingerprint
from onward.statistics import Interval

__all__ = ["VERSION", "Report"]

VERSION = 1


@dataclass(frozen=True)
class Report:
    """The results of a benchmark.

    Args:
        rows: For each batch size, one for each candidate; those of candidates without a sample come last.
        reference: What ratios are relative to.
        options: How it was measured.
        fingerprint: The environment.
        missing: Backend -> how to install it, for those that were not asked for by name.
        speed_probe_ms: Process run -> batch size -> round -> milliseconds of the speed probe.
        end_to_end: From image files to rows.
        is_complete: False if the benchmark was interrupted; it has what was measured until then.
        changed: Which model changed during the benchmark; empty for none.
    """

    rows: tuple[Row, ...]
    reference: Candidate
    options: BenchOptions
    fingerprint: Fingerprint
    missing: Mapping[str, str]
    speed_probe_ms: tuple[Mapping[int, Sequence[float]], ...] = ()
    end_to_end: tuple[EndToEnd, ...] = ()
    is_complete: bool = True
    changed: str = ""

    @property
    def failed(self) -> bool:
        """Whether any row is wrong or failed, a model changed, or nothing was timed."""
        bad = any(row.status in ("wrong", "failed") for row in self.rows)
        return bad or bool(self.changed) or not any(row.latency for row in self.rows)

    @property
    def is_stable(self) -> bool:
        """Whether all figures are reproducible."""
        return all(row.is_stable for row in self.rows if row.latency)

    @property
    def passes_strict(self) -> bool:
        """Whether every row is measured, precise and stable."""
        return (
            not self.failed
            and self.is_stable
            and self.is_complete
            and all(row.status == "measured" for row in self.rows)
        )

    def to_json(self) -> dict[str, Any]:
        """The one JSON form; `Report.from_json(report.to_json())` has the same rows."""
        return {
            "version": VERSION,
            "complete": self.is_complete,
            "changed": self.changed or None,
            "stable": self.is_stable,
            "reference": self.reference.to_json(),
            "rows": [_row_to_json(row) for row in self.rows],
            "end_to_end": [item.to_json() for item in self.end_to_end],
            "missing": dict(self.missing),
            "speed_probe_ms": [_probe_to_json(run) for run in self.speed_probe_ms],
            "options": asdict(self.options),
            "fingerprint": self.fingerprint.to_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Report:
        """Read what `to_json` returned.

        Raises:
            DataError: It has another version, or is not a report.
        """
        try:
            if document["version"] != VERSION:
                raise DataError(f"the report has version {document['version']}, but this Onward reads {VERSION}.")
            options = document["options"]
            return cls(
                rows=tuple(map(_row_from_json, document["rows"])),
                reference=Candidate(**document["reference"]),
                options=BenchOptions(**(options | {"batch_sizes": tuple(options["batch_sizes"])})),
                fingerprint=Fingerprint.from_json(document["fingerprint"]),
                missing=document["missing"],
                speed_probe_ms=tuple(map(_probe_from_json, document["speed_probe_ms"])),
                end_to_end=tuple(EndToEnd.from_json(item) for item in document["end_to_end"]),
                is_complete=document["complete"],
                changed=document["changed"] or "",
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__} at {error}"
            raise DataError(f"this is not a report of `onward bench --json`: {reason}.") from error

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a file.

        Raises:
            DataError: It is not a report.
        """
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a report of `onward bench --json`: {error}.") from error


def _row_to_json(row: Row) -> dict[str, Any]:
    return {
        **row.candidate.to_json(),
        "title": row.candidate.title,
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
        candidate=Candidate(**{key: document[key] for key in ("target", "backend", "provider", "threads")}),
        reason=document["reason"] or "",
        name=document["name"] or "",
        latency=latency and _latency(latency),
        ratio=ratio and Interval(**ratio),
        instabilities=tuple(Instability(**item) for item in document["instabilities"]),
        rounds_ms=document["rounds_ms"],
        stages=stages and Stages(**stages),
        **{key: document[key] for key in (*same, *more)},
    )


def _probe_to_json(process_run: Mapping[int, Sequence[float]]) -> dict[str, list[float]]:
    return {str(batch_size): list(rounds_ms) for batch_size, rounds_ms in process_run.items()}


def _probe_from_json(document: Mapping[str, Sequence[float]]) -> dict[int, Sequence[float]]:
    return {int(batch_size): rounds_ms for batch_size, rounds_ms in document.items()}


def _latency(document: Mapping[str, Any]) -> Latency:
    percentiles = {int(percent): value for percent, value in document["percentiles"].items()}
    return Latency(document["median"], document["p90"], document["p99"], percentiles)
