"""Artifacts of lower precision are benchmarked where they are named, and judged by their own rule."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onward.backends import open_artifact
from onward.benchmarking.bench import bench
from onward.benchmarking.candidate import Candidate
from onward.benchmarking.expected_outputs import RecordedOutputs
from onward.benchmarking.matrix import Matrix
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.regression import compare_reports
from onward.benchmarking.report import Report
from onward.benchmarking.spec import BenchOptions, BenchSpec, Selection
from onward.benchmarking.summary import choose_reference
from onward.bundle import MANIFEST, Bundle, digest_file
from onward.bundle.golden import save_outputs
from onward.bundle.lower_precision_record import LowerPrecisionRecord
from onward.cli.bench_tables import report_parts
from onward.errors import BundleError, UsageError
from tests import schemas
from tests.bundles import DIGITS_INT8, path_of
from tests.runtime.benchmarking.reports import REPORTS

INT8 = "onnx-int8"
SHORT = BenchOptions(batch_sizes=(1, 3), num_process_runs=1, num_rounds=2, sample_s=0.02, max_warm_up_s=0.2, pause_s=0)

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def int8() -> Bundle:
    return Bundle.open(path_of(DIGITS_INT8))


@pytest.fixture(scope="module")
def forged(int8: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its record is of an artifact whose logits are larger: here they are not what was recorded."""
    path = Path(shutil.copytree(int8.path, tmp_path_factory.mktemp("forged") / "digits"))
    outputs = {
        kind: {name: array + 1 for name, array in table.items()} for kind, table in int8.golden_outputs(INT8).items()
    }
    save_outputs(path / f"golden/{INT8}.npz", outputs)
    files = tuple(digest_file(path, path / file.path) for file in int8.files)
    (path / MANIFEST).write_text(json.dumps(replace(int8, files=files).to_json()))
    return Bundle.open(path)


def run(bundle: Bundle, *, backends: tuple[str, ...] = ("onnxruntime",), with_files: bool = False) -> Report:
    selection = Selection(backends, threads=(1,), artifacts=(INT8,))
    return bench(BenchSpec([str(bundle.path)], selection, with_files=with_files), SHORT)


@pytest.fixture(scope="module")
def report(int8: Bundle) -> Report:
    return run(int8, with_files=True)


def candidates(bundle: Bundle, **selection: Any) -> list[tuple[str, str, str]]:
    matrix = Matrix.build({"a": ModelUnderTest(bundle.path)}, Selection(**selection))
    return [(item.backend, item.artifact, item.precision) for item in matrix.candidates]


def test_it_runs_only_if_it_is_named_and_after_float32(int8: Bundle) -> None:
    onnx = {"backends": ["onnxruntime"]}
    assert candidates(int8, **onnx) == [("onnxruntime", "", "float32")]
    assert all(precision == "float32" for _, _, precision in candidates(int8))
    assert candidates(int8, **onnx, artifacts=[INT8, INT8]) == [
        ("onnxruntime", "", "float32"),
        ("onnxruntime", INT8, "int8"),
    ]
    turned = replace(int8, artifacts=int8.artifacts[::-1])
    assert turned.preferred("onnx").precision == "float32"


def test_it_runs_on_every_chosen_backend_for_its_format(int8: Bundle) -> None:
    pytest.importorskip("openvino")
    named = [item[:2] for item in candidates(int8, backends=["onnxruntime", "openvino", "f.py:x"], artifacts=[INT8])]
    assert [backend for backend, artifact in named if artifact] == ["onnxruntime", "openvino", "f.py:x"]
    quick = candidates(int8, among=("onnxruntime",), artifacts=[INT8])
    assert [artifact for _, artifact, _ in quick] == ["", INT8]


def test_naming_a_float32_artifact_that_runs_anyway_changes_nothing(int8: Bundle) -> None:
    assert candidates(int8, backends=["onnxruntime"], artifacts=["onnx"]) == [("onnxruntime", "", "float32")]


def test_what_cannot_be_named_is_refused(int8: Bundle) -> None:
    with pytest.raises(BundleError, match="has no artifact 'onnx-int4'; it has onnx,"):
        candidates(int8, artifacts=["onnx-int4"])
    with pytest.raises(UsageError, match="no backend that was chosen runs the onnx artifact 'onnx-int8'"):
        candidates(int8, backends=["torchscript"], artifacts=[INT8])
    file = {"a": ModelUnderTest(int8.path / "model.int8.onnx")}
    with pytest.raises(UsageError, match="--artifact names an artifact of a bundle, and no bundle is benchmarked"):
        Matrix.build(file, Selection(artifacts=[INT8]))


def test_the_reference_is_float32(int8: Bundle) -> None:
    matrix = Matrix.build(
        {"a": ModelUnderTest(int8.path)}, Selection(backends=["onnxruntime"], artifacts=[INT8], threads=(1,))
    )
    assert choose_reference(matrix.candidates).is_float32
    assert choose_reference(matrix.candidates, "onnxruntime").is_float32


@pytest.mark.parametrize(
    ("candidate", "title"),
    [
        (Candidate("a", "onnxruntime", "cpu", 1), "onnxruntime"),
        (Candidate("a", "onnxruntime", "cpu", 1, INT8, "int8"), "onnxruntime int8"),
        (Candidate("a", "openvino", "cuda", 1, "onnx-8bit", "int8"), "OpenVINO int8 onnx-8bit on cuda"),
    ],
)
def test_its_title_names_the_precision(candidate: Candidate, title: str) -> None:
    assert candidate.title == title
    assert Candidate(**candidate.to_json()) == candidate
    assert ("artifact" in candidate.to_json()) == bool(candidate.artifact)


def test_a_row_has_a_deviation_in_place_of_a_noise_ratio(report: Report, int8: Bundle) -> None:
    for row in report.rows:
        assert row.status == "measured"
        is_float32 = row.candidate.is_float32
        assert (row.noise_ratio is None, row.deviation_ratio is None) == (not is_float32, is_float32)
        artifact = int8.artifact("onnx" if is_float32 else INT8)
        assert row.file_bytes == artifact.file.size_bytes
    assert [row.deviation_ratio for row in report.rows if not row.candidate.is_float32] == [0, 0]
    assert not report.failed


def test_predict_on_files_runs_it_too(report: Report) -> None:
    assert [item.candidate.artifact for item in report.end_to_end] == ["", INT8]


def test_the_report_reads_back_and_fits_the_schema(report: Report) -> None:
    document = json.loads(json.dumps(report.to_json()))
    assert schemas.complaints("bench", document) == []
    assert Report.from_json(document).rows == report.rows


def test_a_report_of_an_earlier_version_is_of_float32(report: Report) -> None:
    document = json.loads(json.dumps(report.to_json()))
    document["rows"] = [row for row in document["rows"] if "artifact" not in row]
    for row in document["rows"]:
        del row["deviation_ratio"]
    rows = Report.from_json(document).rows
    assert rows
    assert all(row.candidate.is_float32 and row.deviation_ratio is None for row in rows)


def test_the_tables_say_the_rule(report: Report) -> None:
    text = "\n".join(part for part in report_parts(report) if isinstance(part, str))
    assert "onnxruntime int8: no noise ratio, because it is int8." in text
    assert "within 0.00 times the quantisation error; at most 2 passes." in text
    planted = "\n".join(part for part in report_parts(REPORTS["lower precision"]) if isinstance(part, str))
    assert planted.count("no noise ratio") == 1  # of the wrong one the reason is said


def test_an_earlier_float32_row_is_no_baseline_for_it(report: Report) -> None:
    before = replace(report, rows=tuple(row for row in report.rows if row.candidate.is_float32))
    gate = compare_reports(before, report, fail_above=10)
    assert {item.candidate.artifact: item.verdict for item in gate.changes if item.verdict == "new"} == {INT8: "new"}
    assert "new" not in {item.verdict for item in compare_reports(report, report, fail_above=10).changes}


def test_outputs_that_were_not_recorded_are_wrong(forged: Bundle) -> None:
    report = run(forged)
    found = {(row.candidate.artifact, row.status) for row in report.rows}
    assert found == {("", "measured"), (INT8, "wrong")}
    assert report.failed
    wrong = next(row for row in report.rows if row.status == "wrong")
    assert wrong.ratio is None
    assert wrong.deviation_ratio is not None
    assert wrong.deviation_ratio > 2
    assert "times the quantisation error away from those that were recorded" in wrong.reason
    assert "as PyTorch" not in wrong.reason


@pytest.fixture(scope="module")
def expected(int8: Bundle) -> RecordedOutputs:
    return RecordedOutputs(LowerPrecisionRecord.read(int8, int8.artifact(INT8)), int8.signature)


def moved(expected: RecordedOutputs, index: Any, factor: float) -> list[Any]:
    """The recorded outputs of some real samples, with the logits away by a multiple of the quantisation error."""
    recorded, error = expected.recorded["real"], expected.errors["real"]["logits"]
    return [recorded["logits"][index] + factor * error, recorded["probabilities"][index]]


def test_one_sample_that_rounds_otherwise_is_not_wrong_and_all_are(int8: Bundle) -> None:
    count = len(int8.golden_outputs(INT8)["real"]["logits"])
    expected = RecordedOutputs(LowerPrecisionRecord.read(int8, int8.artifact(INT8)), int8.signature)
    first = expected.check("real", np.array([0]), moved(expected, [0], 5))
    assert first.passed
    assert first.distance == pytest.approx(5 / np.sqrt(count), rel=1e-4)
    checks = [expected.check("real", np.array([at]), moved(expected, [at], 5)) for at in range(1, count)]
    assert checks[-1].distance == pytest.approx(5, rel=1e-4)
    assert [check.passed for check in checks] == [check.distance <= 2 for check in checks]
    assert checks[-1].is_wrong
    other_size = expected.check("real", np.array([0, 1]), moved(expected, [0, 1], 0))
    assert (other_size.distance, other_size.passed) == (0, True)


def test_an_output_that_is_not_a_number_is_wrong(expected: RecordedOutputs) -> None:
    check = expected.check("real", np.array([0, 1, 2]), moved(expected, [0, 1, 2], np.nan))
    assert (check.passed, check.is_wrong, check.distance) == (False, True, float("inf"))


def test_the_artifact_itself_passes_at_every_batch_size(int8: Bundle, expected: RecordedOutputs) -> None:
    backend = open_artifact(int8, int8.artifact(INT8))
    for size in (1, 5, 8):
        index = np.arange(size)
        outputs = backend.infer(expected.take("random", index))
        assert expected.check("random", index, outputs).passed
