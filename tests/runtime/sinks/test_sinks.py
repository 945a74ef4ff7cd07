from __future__ import annotations

import csv
import io
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from runtime.errors import OutputError, UsageError
from runtime.signature import Signature
from runtime.sinks import STDOUT, open_sink, rank

LAW = settings(max_examples=50, deadline=None)
#: Rows hold six decimals; half of the last one, and what float32 makes of it.
ROUNDING = 0.51e-6
AWKWARD = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ['a "quoted" one', "a,b", "two\nlines", "two\r\nlines", "old\rMac", "Schmetterling – Fuß", "蝶", "=1+1", " ", ""]
)
NUM_CLASSES = 4
Rows = tuple[list[str], NDArray[np.float32]]


def signature(labels: tuple[str, ...]) -> Signature:
    return Signature(4, 4, 1, (0.5,), (0.5,), labels)


PLAIN = signature(("a", "b", "c", "d"))
LABELS = st.lists(AWKWARD, min_size=NUM_CLASSES, max_size=NUM_CLASSES, unique=True).map(tuple)


@st.composite
def rows(draw: st.DrawFn) -> Rows:
    names = draw(st.lists(AWKWARD, max_size=5))
    shares = st.floats(0, 1, width=32)
    return names, draw(arrays(np.float32, (len(names), NUM_CLASSES), elements=shares))


def write(out: Path, labels: tuple[str, ...], top_k: int, batches: list[Rows]) -> None:
    with open_sink(out, signature(labels), top_k) as sink:
        for names, probabilities in batches:
            sink.write(names, probabilities)


def written(suffix: str, labels: tuple[str, ...], top_k: int, batches: list[Rows]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, f"out{suffix}")
        write(out, labels, top_k, batches)
        with out.open(encoding="utf-8", newline="") as stream:
            return stream.read()


def check_place(
    found: tuple[str, int, float], expected: NDArray[np.float32], ranked: int, labels: tuple[str, ...]
) -> None:
    label, index, probability = found
    assert (label, index) == (labels[ranked], ranked)
    assert abs(probability - float(expected[ranked])) <= ROUNDING


@LAW
@given(LABELS, st.integers(1, NUM_CLASSES), st.lists(rows(), max_size=3))
def test_csv_rows_read_back_equal(labels: tuple[str, ...], top_k: int, batches: list[Rows]) -> None:
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
def test_json_lines_read_back_equal(labels: tuple[str, ...], top_k: int, batches: list[Rows]) -> None:
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
@given(st.lists(rows(), max_size=4))
def test_npy_holds_every_probability_bit_for_bit(batches: list[Rows]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.npy")
        write(out, PLAIN.labels, 1, batches)
        found = np.load(out)
    assert (found.dtype, found.shape[1]) == (np.float32, NUM_CLASSES)
    np.testing.assert_array_equal(found, np.concatenate([np.empty((0, NUM_CLASSES)), *[table for _, table in batches]]))


@LAW
@given(rows(), st.integers(0, 5), st.sampled_from([".csv", ".jsonl"]))
def test_how_rows_are_cut_into_batches_changes_no_byte(one: Rows, at: int, suffix: str) -> None:
    names, table = one
    halves = [(names[:at], table[:at]), (names[at:], table[at:])]
    assert written(suffix, PLAIN.labels, 2, halves) == written(suffix, PLAIN.labels, 2, [one])


@LAW
@given(arrays(np.float32, (3, 5), elements=st.sampled_from([0.0, 0.25, 0.5])), st.integers(1, 5))
def test_rank_is_largest_first_and_ties_go_by_index(table: NDArray[np.float32], top_k: int) -> None:
    expected = [sorted(range(5), key=lambda index: (-line[index], index))[:top_k] for line in table.tolist()]
    assert rank(table, top_k).tolist() == expected


def test_standard_output_takes_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    write(STDOUT, PLAIN.labels, 1, [(["x.png"], np.float32([[0.1, 0.7, 0.1, 0.1]]))])
    assert json.loads(capsys.readouterr().out) == {"input": "x.png", "label": "b", "index": 1, "probability": 0.7}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_text_stays_readable(suffix: str) -> None:
    text = written(suffix, ("蝶", "Fuß", "c", "d"), 1, [(["größe.png"], np.float32([[0.7, 0.1, 0.1, 0.1]]))])
    assert "größe.png" in text
    assert "蝶" in text


def test_the_columns_of_a_csv_are_named_by_place() -> None:
    header = written(".csv", PLAIN.labels, 3, []).splitlines()
    assert header == ["input,label,index,probability,label_2,index_2,probability_2,label_3,index_3,probability_3"]


@pytest.mark.parametrize("name", ["out.parquet", "out", "out.csv.gz"])
def test_an_unknown_ending_is_a_usage_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected \.csv, \.jsonl or \.npy"):
        write(tmp_path / name, PLAIN.labels, 1, [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npy"])
def test_an_error_on_the_way_leaves_the_earlier_file(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"out{suffix}"
    out.write_text("earlier")
    with pytest.raises(ZeroDivisionError), open_sink(out, PLAIN, 1) as sink:
        sink.write(["x"], np.zeros((1, NUM_CLASSES), np.float32))
        raise ZeroDivisionError
    assert out.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npy"])
def test_a_place_that_cannot_be_written_to_is_an_output_error(suffix: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError):
        write(tmp_path / "file" / f"out{suffix}", PLAIN.labels, 1, [])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a file name hold bytes that are not UTF-8")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_name_that_is_not_utf8_gives_its_row_with_its_bytes(suffix: str, tmp_path: Path) -> None:
    names = ["a.png", os.fsdecode(b"caf\xe9.png"), "z.png"]
    out = tmp_path / f"out{suffix}"
    write(out, PLAIN.labels, 1, [(names, np.full((3, NUM_CLASSES), 0.25, np.float32))])
    lines = out.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    assert len(lines) == 3 + (suffix == ".csv")
    assert names[1] in lines[-2]  # its bytes are kept
