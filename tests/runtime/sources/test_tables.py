from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.errors import DataError
from onward.sources import tables

LAW = settings(max_examples=60, deadline=None)


def save(make: Any, folder: Path, *names: str) -> None:
    for name, image in zip(names, make.pixels(len(names)), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(make.png(image))


def read(make: Any, folder: Path, text: str | bytes, name: str = "x.csv", **how: Any) -> list[tuple[str, Any, Any]]:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    source = make.opened(folder / name, **how)
    rows: list[tuple[str, Any, Any]] = make.rows_of(source)
    assert source.count() == len(rows)
    return rows


def test_paths_are_relative_to_the_folder_of_the_table_and_named_as_written(make: Any, tmp_path: Path) -> None:
    save(make, tmp_path, "a/1.png", "a/../2.png")
    rows = read(make, tmp_path, f"path,label\na/1.png,cat\na/../2.png, 7 \n{tmp_path}/a/1.png,\n")
    first, second = (image.tobytes() for image in make.pixels(2))
    assert rows == [("a/1.png", first, "cat"), ("a/../2.png", second, "7"), (f"{tmp_path}/a/1.png", first, None)]


def test_a_table_is_found_from_its_own_folder(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(make, tmp_path, "1.png")
    (tmp_path / "x.csv").write_text("path\n1.png\n")
    monkeypatch.chdir(tmp_path)
    assert make.rows_of(make.opened("x.csv"))[0][1] == make.pixels(1)[0].tobytes()


@pytest.mark.parametrize(
    ("header", "column", "expected"),
    [
        ("path,label", None, ("1.png", "2.png")),
        ("label,path", None, ("2.png", "1.png")),
        (" Filename ,Class", None, ("1.png", "2.png")),
        ("path,image", None, ("2.png", None)),
        ("where,what", "what", ("2.png", None)),
        ("path,y", "y", ("2.png", None)),
        ("where,path,path", None, ("2.png", None)),
        ("Path,path", None, ("1.png", None)),
    ],
)
def test_which_column_holds_the_paths_and_which_the_labels(
    make: Any, header: str, column: str | None, expected: tuple[str, str | None], tmp_path: Path
) -> None:
    ((name, _, label),) = read(
        make, tmp_path, f"{header}\n1.png,2.png{',3' * (header.count(',') - 1)}\n", column=column
    )
    assert (name, label) == expected


def test_the_only_column_holds_the_paths(make: Any, tmp_path: Path) -> None:
    assert [name for name, *_ in read(make, tmp_path, "photo\n1.png\n\n2.png")] == ["1.png", "2.png"]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", None, "x.csv has no header: it is empty"),
        ("\n\n", None, "x.csv has no header: it is empty"),
        ("path,label\n", None, "x.csv contains no image: it has no row"),
        ("one,two\n1.png,2\n", None, "its columns are: one, two. Choose one with --column"),
        ("one,two\n1.png,2\n", "three", "x.csv has no column 'three'; its columns are: one, two."),
        ("a/1.png,cat\n", None, "x.csv has no header: its first line holds 'a/1.png'"),
        ("path;label\n1.png;3\n", None, "one column 'path;label'; expected commas"),
        (",".join(f"c{index}" for index in range(99)) + "\n1", None, "c18, c19, … (99 in all). Choose"),
    ],
)
def test_a_table_that_cannot_be_used_is_a_data_error(
    make: Any, text: str, column: str | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError) as found:
        make.opened(tmp_path / "x.csv", column=column)
    assert message in str(found.value)


def test_bad_rows_are_named_by_their_index_and_the_others_go_on(make: Any, tmp_path: Path) -> None:
    save(make, tmp_path, "1.png")
    (tmp_path / "folder.jpg").mkdir()
    text = b"path,label\n1.png\n1.png,a,b\n,cat\n1\0.png,c\nfolder.jpg,d\ngone.png,e\n\n1.png,f\n"
    rows = read(make, tmp_path, text)
    path = f"{tmp_path}/x.csv"
    assert [(name, label) for name, _, label in rows] == [
        (f"{path}[0]", None),
        (f"{path}[1]", None),
        (f"{path}[2]", "cat"),
        (f"{path}[3]", None),
        ("folder.jpg", "d"),
        ("gone.png", "e"),
        ("1.png", "f"),
    ]
    assert rows[0][1] == "line 2 has 1 fields, its header 2"
    assert rows[1][1] == "line 3 has 3 fields, its header 2"
    assert rows[2][1] == "the row's path is empty"
    assert rows[3][1] in ("line 5: a null character in a path", "line 5: line contains NUL")  # in Python 3.10
    assert rows[4][1] == "is a folder"
    assert "No such file" in rows[5][1]
    assert rows[6][1] == make.pixels(1)[0].tobytes()


def test_a_field_longer_than_any_is_a_bad_row_and_the_others_go_on(make: Any, tmp_path: Path) -> None:
    save(make, tmp_path, "1.png")
    rows = read(make, tmp_path, f"path,label\n{'x' * 200_000},a\n1.png,b\n")
    assert ("field larger than field limit" in rows[0][1], rows[1][2]) == (True, "b")


def test_a_line_without_end_is_not_read_into_memory(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_LINE_CHARACTERS", 20)
    rows = read(make, tmp_path, f"path,label\n{'x' * 50}\n1.png,b\n")
    assert [name for name, *_ in rows] == [*(f"{tmp_path}/x.csv[{index}]" for index in range(3)), "1.png"]


def test_names_that_are_not_utf8_and_a_byte_order_mark(make: Any, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xe9.png")
    try:
        save(make, tmp_path, name)
    except OSError:
        pytest.skip("this system refuses such a name")
    ((found, image, _),) = read(make, tmp_path, b"\xef\xbb\xbfpath\n\xff\xe9.png\n")
    assert (found, image) == (name, make.pixels(1)[0].tobytes())


def test_quotes_commas_and_newlines_in_fields(make: Any, tmp_path: Path) -> None:
    name = 'a,b "c"\nd.png'
    save(make, tmp_path, name)
    ((found, image, label),) = read(make, tmp_path, 'path,label\r\n"a,b ""c""\nd.png","x\ny"\r\n')
    assert (found, image, label) == (name, make.pixels(1)[0].tobytes(), "x\ny")


def test_tabs_separate_a_tsv_table(make: Any, tmp_path: Path) -> None:
    assert read(make, tmp_path, "path\tlabel\na,b.png\tcat\n", "x.TSV")[0][::2] == ("a,b.png", "cat")


def test_an_unclosed_quote_does_not_stop_the_others(make: Any, tmp_path: Path) -> None:
    rows = read(make, tmp_path, 'path,label\n1.png,a\n"2.png,b\n' + "3.png,c\n" * 30_000)
    assert rows[0][0] == "1.png"
    assert "field larger than field limit" in rows[1][1]
    assert rows[-1][0] == "3.png"


@LAW
@given(st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\r", b"")), max_size=8))
def test_any_bytes_are_rows_or_a_data_error(make: Any, lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as place:
        try:
            rows = read(make, Path(place), b"path,label\n" + b"\n".join(lines))
        except DataError:
            return
    assert rows
    assert all(isinstance(reason, str) for _, reason, _ in rows)
