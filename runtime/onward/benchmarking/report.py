"""Report: the results of a benchmark, in the JSON form that docs/bench.schema.json describes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.end_to_end import EndToEnd
from onward.benchmarking.instability import Instability
from onward.benchmarking.row import Latency, Row, Stages
from onward.benchmarking.spec import BenchOptions
from onward.document import Document, check_size, parse
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
        untrusted: Backends that were left out because they run files with code, of bundles that are not trusted.
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
    untrusted: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether any row is wrong or failed, a model changed, or nothing was timed."""
        bad = any(row.status in ("wrong", "failed") for row in self.rows)
        return bad or bool(self.changed) or not any(row.latency for row in self.rows)

    @property
    def is_stable(self) -> bool:
        """Whether there are figures, the benchmark was not interrupted, and all of them are reproducible."""
        timed = [row for row in self.rows if row.latency]
        return self.is_complete and bool(timed) and all(row.is_stable for row in timed)

    @property
    def passes_strict(self) -> bool:
        """Whether every row is measured, precise and stable."""
        return not self.failed and self.is_stable and all(row.status == "measured" for row in self.rows)

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
            "untrusted": list(self.untrusted),
            "speed_probe_ms": [_probe_to_json(run) for run in self.speed_probe_ms],
            "options": asdict(self.options),
            "fingerprint": self.fingerprint.to_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | Document) -> Report:
        """Read what `to_json` returned.

        Raises:
            DataError: It has another version, or is not a report.
        """
        document = Document.of(document, "the report of `onward bench --json`", DataError)
        version = document["version"].read(int)
        if version != VERSION:
            raise DataError(f"{document.file} has version {version}, but this Onward reads {VERSION}.")
        return cls(
            rows=tuple(map(_row_from_json, document["rows"])),
            reference=document["reference"].read(Candidate),
            options=document["options"].read(BenchOptions),
            fingerprint=document["fingerprint"].read(Fingerprint),
            missing=document["missing"].read(Mapping[str, str]),
            untrusted=_untrusted(document),
            speed_probe_ms=_speed_probe(document["speed_probe_ms"]),
            end_to_end=document["end_to_end"].read(tuple[EndToEnd, ...]),
            is_complete=document["complete"].read(bool),
            changed=document["changed"].read(str | None) or "",
        )

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a file.

        Raises:
            DataError: It is not a report.
        """
        what = f"{path}, as a report of `onward bench --json`"
        try:
            check_size(path.stat().st_size, what, DataError)
            return cls.from_json(parse(path.read_bytes(), what, DataError))
        except OSError as error:
            raise DataError(f"{path} is not a report of `onward bench --json`: {error.strerror}.") from error


def _untrusted(document: Document) -> tuple[str, ...]:
    part = document.get("untrusted")  # reports of earlier versions have none
    return () if part is None else part.read(tuple[str, ...])


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
        "deviation_ratio": row.deviation_ratio,
        "max_delta": row.max_delta,
        "num_labelled": row.num_labelled,
        "num_correct": row.num_correct,
        "num_unanswered": row.num_unanswered,
        "accuracy": row.accuracy,
        "file_bytes": row.file_bytes,
        "peak_bytes": row.peak_bytes,
        "stages": row.stages and asdict(row.stages),
        "num_inferences": row.num_inferences,
        "num_warm_up": row.num_warm_up,
        "rounds_ms": [list(rounds) for rounds in row.rounds_ms],
    }


def _row_from_json(document: Document) -> Row:
    if document["latency_ms"].value is not None and document["stages"].value is None:
        document["stages"].refuse("an object, because the row has a latency")
    return Row(
        candidate=document.read(Candidate),
        batch_size=document["batch_size"].read(int),
        status=document["status"].read(str),
        reason=document["reason"].read(str | None) or "",
        name=document["name"].read(str | None) or "",
        placement=document["placement"].read(Mapping[str, int] | None),
        latency=document["latency_ms"].read(Latency | None),
        images_per_s=document["images_per_s"].read(float | None),
        ratio=document["ratio"].read(Interval | None),
        instabilities=document["instabilities"].read(tuple[Instability, ...]),
        noise_ratio=document["noise_ratio"].read(float | None),
        deviation_ratio=None if (part := document.get("deviation_ratio")) is None else part.read(float | None),
        max_delta=document["max_delta"].read(float | None),
        num_labelled=document["num_labelled"].read(int),
        num_correct=document["num_correct"].read(int),
        num_unanswered=0 if (part := document.get("num_unanswered")) is None else part.read(int),  # of earlier versions
        file_bytes=document["file_bytes"].read(int | None),
        peak_bytes=document["peak_bytes"].read(int | None),
        stages=document["stages"].read(Stages | None),
        num_inferences=document["num_inferences"].read(int),
        num_warm_up=document["num_warm_up"].read(int),
        rounds_ms=_rounds(document["rounds_ms"]),
    )


def _rounds(document: Document) -> tuple[tuple[float, ...], ...]:
    rounds = document.read(tuple[tuple[float, ...], ...])
    _check_times(document, chain.from_iterable(rounds))
    return rounds


def _speed_probe(document: Document) -> tuple[Mapping[int, Sequence[float]], ...]:
    runs = document.read(tuple[Mapping[int, Sequence[float]], ...])
    _check_times(document, (time for run in runs for times in run.values() for time in times))
    return runs


def _check_times(document: Document, times: Iterable[float]) -> None:
    if any(time <= 0 for time in times):  # they are divided by each other
        document.refuse("times above 0")


def _probe_to_json(process_run: Mapping[int, Sequence[float]]) -> dict[str, list[float]]:
    return {str(batch_size): list(rounds_ms) for batch_size, rounds_ms in process_run.items()}
