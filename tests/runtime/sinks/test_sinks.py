from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from onward.errors import UsageError
from onward.signature import Input, TensorSignature
from onward.sinks import STDOUT, Columns, Rows, open_sink
from onward.tasks.classification import Classification, rank

ROOT = Path(__file__).parents[3]
LAW = settings(max_examples=50, deadline=None)
#: Rows hold six decimals; half of the last one, and what float32 makes of it.
ROUNDING = 0.51e-6
#: What Python's own reader of CSV refuses.
UNREADABLE = "" if sys.version_info >= (3, 11) else "\0"
AWKWARD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=UNREADABLE)) | st.sampled_from(
    ['a "quoted" one', "a,b", "two\nlines", "two\r\nlines", "old\rMac", "Schmetterling – Fuß", "蝶", "=1+1", " ", ""]
)
NUM_CLASSES = 4
Batch = tuple[list[str], NDArray[np.float32]]
PLAIN = ("a", "b", "c", "d")
LABELS = st.lists(AWKWARD, min_size=NUM_CLASSES, max_size=NUM_CLASSES, unique=True).map(tuple)


@st.composite
def rows(draw: st.DrawFn) -> Batch:
    names = draw(st.lists(AWKWARD, max_size=5))
    shares = st.floats(0, 1, width=32)
    return names, draw(arrays(np.float32, (len(names), NUM_CLASSES), elements=shares))


def classifier(labels: tuple[str, ...]) -> Classification:
    return Classification(TensorSignature((Input("x", "float32", (1,)),), labels))


def columns_of(labels: tuple[str, ...], top_k: int = 1, logits: bool = False) -> Columns:
    return classifier(labels).columns({"top_k": top_k, "logits": logits})


def rows_of(names: list[str], probabilities: NDArray[np.float32], *placed: Any) -> Rows:
    """Rows of a classifier whose logits are the probabilities, spread."""
    outputs = {"probabilities": probabilities, "logits": probabilities * 3 - 1}
    return Rows(names, classifier(PLAIN).values(outputs, {"top_k": NUM_CLASSES}), *placed)


def encode(out: Path, columns: Columns, batches: list[Batch]) -> Path:
    """The whole file, of what a sink makes of some batches."""
    sink = open_sink(out, columns)
    staged = out.with_name("staged")
    staged.write_bytes(sink.begin() + b"".join(sink.encode(rows_of(*batch)) for batch in batches))
    return sink.finish(staged, sum(len(names) for names, _ in batches))


def written(suffix: str, labels: tuple[str, ...], top_k: int, batches: list[Batch]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        whole = encode(Path(folder, f"out{suffix}"), columns_of(labels, top_k), batches)
        with whole.open(encoding="utf-8", newline="") as stream:
            return stream.read()


def check_place(
    found: tuple[str, int, float], expected: NDArray[np.float32], ranked: int, labels: tuple[str, ...]
) -> None:
    label, index, probability = found
    assert (label, index) == (labels[ranked], ranked)
    assert abs(probability - float(expected[ranked])) <= ROUNDING


@LAW
@given(LABELS, st.integers(1, NUM_CLASSES), st.lists(rows(), max_size=3))
def test_csv_rows_read_back_equal(labels: tuple[str, ...], top_k: int, batches: list[Batch]) -> None:
    header, *found = csv.reader(io.StringIO(written(".csv", labels, top_k, batches), newline=""))
    assert header[:4] == ["input", "label", "index", "probability"]
    assert header[4:7] == (["label_2", "index_2", "probability_2"] if top_k > 1 else [])
    assert [row[0] for row in found] == [name for names, _ in batches for name in names]
    expected = [line for _, table in batches for line in table]
    for row, line in zip(found, expected, strict=True):
        assert len(row) == len(header) == 1 + 3 * top_k
        for place, ranked in enumerate(rank(line[None], top_k)[0]):
            label, index, probability = row[1 + 3 * place : 4 + 3 * place]
            check_place((label, int(index), float(probability)), line, int(ranked), labels)


@LAW
@given(LABELS, st.integers(1, NUM_CLASSES), st.lists(rows(), max_size=3))
def test_json_lines_read_back_equal(labels: tuple[str, ...], top_k: int, batches: list[Batch]) -> None:
    found = [json.loads(line) for line in written(".jsonl", labels, top_k, batches).split("\n")[:-1]]
    assert [row["input"] for row in found] == [name for names, _ in batches for name in names]
    expected = [line for _, table in batches for line in table]
    for row, line in zip(found, expected, strict=True):
        places = row["top"] if top_k > 1 else [row]
        assert len(places) == top_k
        assert {key: places[0][key] for key in ("label", "index", "probability")}.items() <= row.items()
        for place, ranked in zip(places, rank(line[None], top_k)[0], strict=True):
            check_place((place["label"], place["index"], place["probability"]), line, int(ranked), labels)


@LAW
@given(st.lists(rows(), max_size=4), st.booleans())
def test_npy_holds_every_number_bit_for_bit(batches: list[Batch], logits: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = np.load(encode(Path(folder, "out.npy"), columns_of(PLAIN, logits=logits), batches))
    assert (found.dtype, found.shape[1]) == (np.float32, NUM_CLASSES)
    tables = [rows_of(*batch).values["logits" if logits else "probabilities"] for batch in batches]
    np.testing.assert_array_equal(found, np.concatenate([np.empty((0, NUM_CLASSES)), *tables]))


def test_an_input_without_a_row_is_nan_in_an_array(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "out.npy", columns_of(PLAIN))
    values = np.float32([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]])
    data = sink.begin() + sink.encode(rows_of(["b", "d"], values, np.array([1, 3]), 4))
    (tmp_path / "staged").write_bytes(data)
    found = np.load(sink.finish(tmp_path / "staged", 4))
    np.testing.assert_array_equal(found[[1, 3]], values)
    assert np.isnan(found[[0, 2]]).all()


@LAW
@given(LABELS, st.integers(1, NUM_CLASSES), st.booleans(), st.lists(rows(), max_size=3))
def test_parquet_rows_read_back_equal_and_typed(
    labels: tuple[str, ...], top_k: int, logits: bool, batches: list[Batch]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = pyarrow.parquet.read_table(
            encode(Path(folder, "out.parquet"), columns_of(labels, top_k, logits), batches)
        )
    assert table["input"].to_pylist() == [name for names, _ in batches for name in names]
    expected = np.concatenate([np.empty((0, NUM_CLASSES), np.float32), *[values for _, values in batches]])
    ranked = rank(expected, top_k)
    for place in range(top_k):
        label, index, probability = (
            f"{name}_{place + 1}" if place else name for name in ("label", "index", "probability")
        )
        assert [str(table.schema.field(name).type) for name in (index, probability)] == ["int32", "float"]
        assert table[index].to_pylist() == ranked[:, place].tolist()
        assert table[label].to_pylist() == [labels[item] for item in ranked[:, place]]
        chosen = np.take_along_axis(expected, ranked, 1)[:, place]
        np.testing.assert_array_equal(table[probability].to_numpy().astype(np.float32), chosen)
    assert ("logits" in table.column_names) is logits


def test_parquet_has_row_groups_of_one_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onward.sinks.parquet.ROWS_A_GROUP", 10)
    values = np.full((7, NUM_CLASSES), 0.25, np.float32)
    batches = [([f"{number}/{index}" for index in range(7)], values) for number in range(5)]
    file = pyarrow.parquet.ParquetFile(encode(tmp_path / "out.parquet", columns_of(PLAIN), batches))
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [10, 10, 10, 5]
    assert file.read()["input"].to_pylist() == [name for names, _ in batches for name in names]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".npy"])
def test_what_is_appended_can_be_cut_between_any_two_batches(suffix: str, tmp_path: Path) -> None:
    sink = open_sink(tmp_path / f"out{suffix}", columns_of(PLAIN, 2))
    values = np.full((3, NUM_CLASSES), 0.25, np.float32)
    parts = [sink.encode(rows_of([f"{number}"] * 3, values)) for number in range(4)]
    whole = []
    for name, data in (("cut", sink.begin() + b"".join(parts)), ("plain", sink.begin() + parts[0] + parts[1])):
        (tmp_path / name).mkdir()
        staged = tmp_path / name / "staged"
        staged.write_bytes(data)
        os.truncate(staged, len(sink.begin()) + len(parts[0]) + len(parts[1]))
        whole.append(sink.finish(staged, 6).read_bytes())
    assert whole[0] == whole[1]


@LAW
@given(rows(), st.integers(0, 5), st.sampled_from([".csv", ".jsonl"]))
def test_how_rows_are_cut_into_batches_changes_no_byte(one: Batch, at: int, suffix: str) -> None:
    names, table = one
    halves = [(names[:at], table[:at]), (names[at:], table[at:])]
    assert written(suffix, PLAIN, 2, halves) == written(suffix, PLAIN, 2, [one])


def test_standard_output_takes_json_lines() -> None:
    line = open_sink(STDOUT, columns_of(PLAIN)).encode(rows_of(["x.png"], np.float32([[0.1, 0.7, 0.1, 0.1]])))
    assert json.loads(line) == {"input": "x.png", "label": "b", "index": 1, "probability": 0.7}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_text_stays_readable(suffix: str) -> None:
    text = written(suffix, ("蝶", "Fuß", "c", "d"), 1, [(["größe.png"], np.float32([[0.7, 0.1, 0.1, 0.1]]))])
    assert "größe.png" in text
    assert "蝶" in text


def test_the_columns_of_a_csv_are_named_by_place() -> None:
    header = written(".csv", PLAIN, 3, []).splitlines()
    assert header == ["input,label,index,probability,label_2,index_2,probability_2,label_3,index_3,probability_3"]


@pytest.mark.parametrize("name", ["out.txt", "out", "out.csv.gz"])
def test_an_unknown_ending_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match=r"expected \.csv, \.jsonl, \.parquet or \.npy"):
        open_sink(Path(name), columns_of(PLAIN))


def test_without_pyarrow_parquet_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path; from onward.errors import UsageError; from onward.sinks import *\n"
        "x = Column('x', 'float32')\n"
        "try: open_sink(Path('x.parquet'), Columns((x,), x))\n"
        "except UsageError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "needs pyarrow: pip install 'onward[parquet]'" in result.stdout


ODD = os.fsdecode(b"caf\xe9.png") if sys.platform == "linux" else "café.png"


def odd_rows() -> list[Batch]:
    return [(["a.png", ODD, "z.png"], np.full((3, NUM_CLASSES), 0.25, np.float32))]


def test_in_a_csv_a_file_name_that_is_not_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    lines = encode(tmp_path / "out.csv", columns_of(PLAIN), odd_rows()).read_bytes().splitlines()
    assert len(lines) == 4
    assert os.fsencode(ODD) in lines[2]


def test_in_json_lines_it_is_valid_json_that_reads_back_to_the_name(tmp_path: Path) -> None:
    text = encode(tmp_path / "out.jsonl", columns_of(PLAIN), odd_rows()).read_text(encoding="utf-8")
    assert [json.loads(line)["input"] for line in text.splitlines()] == ["a.png", ODD, "z.png"]


def test_in_parquet_its_bytes_are_escaped(tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(encode(tmp_path / "out.parquet", columns_of(PLAIN), odd_rows()))
    assert table["input"].to_pylist() == ["a.png", r"caf\xe9.png", "z.png"]
