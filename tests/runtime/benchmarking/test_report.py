"""Every report fits docs/bench.schema.json and reads back; documents that are no report do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.instability import Instability
from onward.benchmarking.regression import compare_reports
from onward.benchmarking.report import Report
from onward.benchmarking.row import DRAWN_PERCENT, STATUSES, Latency, Row, Stages
from onward.errors import DataError
from onward.host.fingerprint import take_fingerprint
from onward.statistics import Interval
from tests import schemas
from tests.runtime.benchmarking.reports import FINGERPRINT, OPTIONS, REPORTS


def complaints(document: object) -> list[str]:
    return schemas.complaints("bench", document)


def written(report: Report) -> Any:
    """The report as read from a file; NaN and infinity are not JSON."""
    return json.loads(json.dumps(report.to_json(), allow_nan=False))


def test_the_schema_is_valid() -> None:
    assert schemas.is_schema("bench")


@pytest.mark.parametrize("kind", REPORTS)
def test_every_kind_of_report_fits(kind: str) -> None:
    assert complaints(written(REPORTS[kind])) == []


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_with_a_gate_fits(kind: str) -> None:
    report = REPORTS[kind]
    gate = compare_reports(REPORTS["normal"], report, fail_above=0.05)
    document = json.loads(json.dumps(report.to_json() | {"gate": gate.to_json()}, allow_nan=False))
    assert complaints(document) == []
    assert Report.from_json(document).to_json() == report.to_json()  # it can be the next baseline


def test_the_fingerprint_of_this_machine_fits() -> None:
    fingerprint = json.loads(json.dumps(take_fingerprint().to_json()))
    assert complaints(written(REPORTS["normal"]) | {"fingerprint": fingerprint}) == []


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_reads_back(kind: str) -> None:
    report = REPORTS[kind]
    again = Report.from_json(written(report))
    assert again.rows == report.rows
    assert again.to_json() == report.to_json()
    assert again.failed == report.failed
    assert again.passes_strict == report.passes_strict


TEXT = st.text(max_size=20)
COUNT = st.integers(0, 10**9)
FIGURE = st.floats(0, 1e12, allow_subnormal=False)
PLAIN = st.builds(Candidate, TEXT, TEXT, TEXT, st.integers(1, 1000))
CANDIDATE = PLAIN | st.builds(
    lambda plain, artifact, precision: replace(plain, artifact=artifact, precision=precision),
    PLAIN,
    st.text(min_size=1, max_size=9),
    st.sampled_from(["float32", "int8"]),
)
LATENCY = st.builds(
    Latency,
    FIGURE,
    FIGURE,
    FIGURE,
    st.lists(FIGURE, min_size=11, max_size=11).map(lambda some: dict(zip(DRAWN_PERCENT, some, strict=True))),
)


@st.composite
def any_row(draw: st.DrawFn) -> Row:
    num_labelled = draw(COUNT)
    stages = st.builds(Stages, FIGURE, FIGURE, FIGURE, st.none() | FIGURE, st.none() | FIGURE)
    latency, stages = draw(st.tuples(LATENCY, stages) | st.just((None, None)))
    return draw(
        st.builds(
            Row,
            candidate=CANDIDATE,
            batch_size=COUNT,
            status=st.sampled_from(STATUSES),
            reason=TEXT,
            name=TEXT,
            placement=st.none() | st.dictionaries(TEXT, COUNT, max_size=3),
            latency=st.just(latency),
            images_per_s=st.none() | FIGURE,
            ratio=st.none() | st.builds(Interval, FIGURE, FIGURE, FIGURE),
            instabilities=st.lists(st.builds(Instability, st.text(min_size=1, max_size=9), TEXT), max_size=3).map(
                tuple
            ),
            noise_ratio=st.none() | FIGURE,
            deviation_ratio=st.none() | FIGURE,
            max_delta=st.none() | FIGURE,
            num_labelled=st.just(num_labelled),
            num_correct=st.integers(0, num_labelled),
            file_bytes=st.none() | COUNT,
            peak_bytes=st.none() | COUNT,
            stages=st.just(stages),
            num_inferences=COUNT,
            num_warm_up=COUNT,
            rounds_ms=st.lists(st.lists(st.floats(1e-6, 1e12), max_size=3), max_size=3),
        )
    )


@given(rows=st.lists(any_row(), max_size=4).map(tuple), reference=CANDIDATE, is_complete=st.booleans(), changed=TEXT)
def test_any_report_fits_and_reads_back(
    rows: tuple[Row, ...], reference: Candidate, is_complete: bool, changed: str
) -> None:
    report = Report(
        rows, reference, OPTIONS, FINGERPRINT, {"openvino": "pip"}, is_complete=is_complete, changed=changed
    )
    assert complaints(written(report)) == []
    again = Report.from_json(written(report))
    assert again.rows == report.rows
    assert again == report


EDITS: dict[str, Callable[[Any], object]] = {
    "another version": lambda document: document.update(version=2),
    "an unknown key": lambda document: document.update(comment="hello"),
    "no reference": lambda document: document.pop("reference"),
    "an unknown status": lambda document: document["rows"][0].update(status="fast"),
    "a latency in text": lambda document: document["rows"][0]["latency_ms"].update(median="1 ms"),
    "a percentile that is not a number": lambda document: document["rows"][0]["latency_ms"]["percentiles"].update(
        half=1.0
    ),
    "a negative count": lambda document: document["rows"][0].update(num_inferences=-1),
    "a share above 1": lambda document: document["end_to_end"][0]["shares"].update(decode=40),
    "an accuracy in percent": lambda document: document["rows"][0].update(accuracy=91.3),
    "no threads": lambda document: document["rows"][0].update(threads=0),
    "a host's name": lambda document: document["fingerprint"].update(host="ours"),
    "a time without its zone": lambda document: document["fingerprint"].update(time="2026-01-02T03:04:05"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_invalid_document_does_not_fit(edit: str) -> None:
    document = written(REPORTS["normal"])
    EDITS[edit](document)
    assert complaints(document) != []


@pytest.mark.parametrize("edit", ["another version", "no reference"])
def test_an_invalid_document_is_an_error(edit: str) -> None:
    document = written(REPORTS["normal"])
    EDITS[edit](document)
    with pytest.raises(DataError, match=r"version 2|reference is missing"):
        Report.from_json(document)
