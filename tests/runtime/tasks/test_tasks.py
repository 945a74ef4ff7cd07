"""A task is a file of its own: one that nothing else knows goes through signature, sinks, predictions and parity."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from numpy.typing import NDArray

from onward.bundle.golden import GoldenRecord
from onward.errors import SignatureError, UsageError
from onward.parity import Outputs, measure_noise
from onward.signature import Input, Output, Signature, TensorSignature, signature_from_json
from onward.sinks import Column, Columns, Rows, open_sink
from onward.tasks import TASKS, Task, task_of
from onward.tasks.task import NO_TARGET

CORNERS = Output("corners", "float32", (2, 2), "corner points")
AREA = Output("area", "float32", (), "area")
SIGNATURE = Signature(8, 8, 1, (0.5,), (0.5,), outputs=(CORNERS, AREA), task="boxes")
GENERATOR = np.random.default_rng(0)
OUTPUTS = {
    "corners": GENERATOR.normal(size=(3, 2, 2)).astype(np.float32),
    "area": np.float32([0.25, 1 / 3, 1e-9]),
}
NAMES = ["a.png", "b.png", "c.png"]
SIZES = ("small", "large")


class Boxes(Task):
    """A box around one thing, and whether it is a large one."""

    def columns(self, options: Any) -> Columns:
        size = Column("size", "int32", categories=SIZES)
        return Columns((size, *super().columns(options).columns), array=Column("corners", "float32", (2, 2)))

    def values(self, outputs: Outputs, options: Any) -> dict[str, NDArray[Any]]:
        return {"size": (outputs["area"] > 0.3).astype(np.int32), **outputs}

    def agreement(self, output: str, candidates: NDArray[np.float64], reference: NDArray[np.float64]) -> float | None:
        return float(((candidates > 0.3) == (reference > 0.3)).mean()) if output == "area" else None


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setitem(TASKS, "boxes", Boxes)
    return task_of(SIGNATURE)


def write(task: Task, path: Path) -> Path:
    sink = open_sink(path, task.columns({}))
    staged = path.with_name("staged")
    parts = [
        Rows(NAMES[part], {name: values[part] for name, values in task.values(OUTPUTS, {}).items()})
        for part in (slice(2), slice(2, 3))
    ]
    staged.write_bytes(sink.begin() + b"".join(map(sink.encode, parts)))
    return sink.finish(staged, 3)


def test_its_signature_reads_back_equal() -> None:
    document = json.loads(json.dumps(SIGNATURE.to_json()))
    assert signature_from_json(document) == SIGNATURE
    assert document["outputs"][0] == {
        "name": "corners", "dtype": "float32", "shape": ["batch", 2, 2], "dims": [2, 2], "meaning": "corner points",
    }  # fmt: skip
    assert SIGNATURE.describe() == "uint8 (batch, 8, 8, 1) → corners float32 (batch, 2, 2), area float32 (batch)"


def test_csv_has_a_field_for_every_number(task: Task, tmp_path: Path) -> None:
    header, *rows = csv.reader(write(task, tmp_path / "rows.csv").read_text().splitlines())
    assert header == ["input", "size", "corners_0", "corners_1", "corners_2", "corners_3", "area"]
    assert [row[:2] for row in rows] == [["a.png", "small"], ["b.png", "large"], ["c.png", "small"]]
    np.testing.assert_array_equal(np.float32([row[2:6] for row in rows]), OUTPUTS["corners"].reshape(3, 4))
    np.testing.assert_array_equal(np.float32([row[6] for row in rows]), OUTPUTS["area"])


def test_json_lines_have_the_values_as_they_are_nested(task: Task, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in write(task, tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [list(row) for row in rows] == [["input", "size", "corners", "area"]] * 3
    assert [row["size"] for row in rows] == ["small", "large", "small"]
    np.testing.assert_array_equal(np.float32([row["corners"] for row in rows]), OUTPUTS["corners"])
    np.testing.assert_array_equal(np.float32([row["area"] for row in rows]), OUTPUTS["area"])


def test_parquet_has_typed_columns(task: Task, tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(write(task, tmp_path / "rows.parquet"))
    assert table["input"].to_pylist() == NAMES
    assert table["size"].to_pylist() == ["small", "large", "small"]
    np.testing.assert_array_equal(np.float32(table["corners"].to_pylist()), OUTPUTS["corners"])
    np.testing.assert_array_equal(table["area"].to_numpy(), OUTPUTS["area"])


def test_an_array_has_the_values_of_one_column(task: Task, tmp_path: Path) -> None:
    np.testing.assert_array_equal(np.load(write(task, tmp_path / "rows.npy")), OUTPUTS["corners"])


def test_its_outputs_are_compared(task: Task) -> None:
    reference = {name: array.astype(np.float64) for name, array in OUTPUTS.items()}
    measured = {name: measure_noise(array, [array]) for name, array in reference.items()}
    inputs = np.arange(3, dtype=np.float32)
    record = GoldenRecord(
        {"random": inputs}, {"random": reference}, {"random": OUTPUTS}, {"random": task.noise(reference, measured)}
    )

    def run(samples: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return {name: array[samples.astype(int)] for name, array in OUTPUTS.items()}

    corners, area = record.judge("onnx", run, task).comparisons
    assert (corners.output, corners.agreement, corners.passed) == ("corners", None, True)
    assert (area.output, area.agreement, area.passed) == ("area", 1.0, True)
    faulty = record.judge("onnx", lambda samples: run(samples) | {"area": run(samples)["area"] + 0.2}, task)
    assert [row.passed for row in faulty.comparisons] == [True, False]
    assert faulty.comparisons[1].agreement == pytest.approx(2 / 3)


def test_without_a_word_of_its_own_a_task_passes_outputs_on() -> None:
    task = Task(SIGNATURE)
    assert task.predictions(OUTPUTS) == OUTPUTS
    assert [column.name for column in task.columns({}).columns] == ["corners", "area"]
    assert task.targets(["a", None]).tolist() == [NO_TARGET, NO_TARGET]
    assert {name: array.shape for name, array in task.no_outputs().items()} == {"corners": (0, 2, 2), "area": (0,)}


def test_an_output_of_any_size_makes_no_column() -> None:
    free = TensorSignature((Input("x", "float32", (None,)),), outputs=(Output("y", "float32", (None,), "y"),), task="y")
    with pytest.raises(UsageError, match="'y' has dims"):
        Task(free).columns({})


def test_an_unknown_task_says_so() -> None:
    with pytest.raises(SignatureError, match="'boxes', and this Onward has classification"):
        task_of(SIGNATURE)
