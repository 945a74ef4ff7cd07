from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.errors import DataError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'onward[parquet]'")
ROOT = Path(__file__).parents[3]
LAW = settings(max_examples=100, deadline=None)


def read(make: Any, path: Path, columns: Any, column: str | None = None, **how: Any) -> list[tuple[str, Any, Any]]:
    source = make.opened(make.parquet(path, columns, **how), column=column)
    rows: list[tuple[str, Any, Any]] = make.rows_of(source)
    assert source.count() == len(rows)
    return rows


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())]
)
def test_images_may_be_of_any_type_that_holds_bytes(make: Any, kind: Any, tmp_path: Path) -> None:
    images = [make.png(image) for image in make.pixels(3)]
    column = pa.array(images).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(images, kind)
    rows = read(make, tmp_path / "x.parquet", {"image": column})
    assert rows == [(f"{tmp_path}/x.parquet[{index}]", make.pixels(3)[index].tobytes(), None) for index in range(3)]


def test_images_as_hugging_face_has_them(make: Any, tmp_path: Path) -> None:
    image, other = (make.png(image) for image in make.pixels(2))
    (tmp_path / "other.png").write_bytes(other)
    cells = [
        {"bytes": image, "path": "1.png"},
        {"bytes": None, "path": "other.png"},
        {"bytes": None, "path": None},
        None,
    ]
    rows = read(make, tmp_path / "x.parquet", {"image": cells, "label": [1, 0, 1, 0]})
    path = f"{tmp_path}/x.parquet"
    assert rows == [
        (f"{path}[0]", make.pixels(2)[0].tobytes(), "1"),
        ("other.png", make.pixels(2)[1].tobytes(), "0"),
        (f"{path}[2]", "the row's image is null", "1"),
        (f"{path}[3]", "the row's image is null", "0"),
    ]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_paths_are_relative_to_the_folder_of_the_table(make: Any, kind: Any, tmp_path: Path) -> None:
    make.build("folder", tmp_path, 2)
    names = ["images.folder/000.png", f"{tmp_path}/images.folder/001.png", None, "", "gone.png"]
    rows = read(make, tmp_path / "x.parquet", {"file_name": pa.array(names, kind)})
    assert [found for _, found, _ in rows[:2]] == [image.tobytes() for image in make.pixels(2)]
    assert [name for name, *_ in rows] == [*names[:2], *(f"{tmp_path}/x.parquet[{row}]" for row in (2, 3)), "gone.png"]
    assert [reason for _, reason, _ in rows[2:4]] == ["the row's image is null", "the row's path is empty"]


def test_a_path_that_is_not_utf8_is_kept(make: Any, tmp_path: Path) -> None:
    names = pa.array([b"\xff.png", b"b.png"]).view(pa.string())
    assert [name for name, *_ in read(make, tmp_path / "x.parquet", {"path": names})] == ["\udcff.png", "b.png"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array([1, None]), ["1", None]),
        (pa.array([1.0, None]), ["1", None]),
        (pa.array([1.0, float("nan")]), ["1", None]),
        (pa.array([" cat ", ""]), ["cat", None]),
        (pa.array(["cat", None], pa.string_view()), ["cat", None]),
        (pa.array(["cat", "dog"]).dictionary_encode(), ["cat", "dog"]),
        (pa.array([[1], [2]]), [None, None]),
    ],
)
@pytest.mark.parametrize("name", ["label", "Class"])
def test_labels(make: Any, name: str, labels: Any, expected: list[str | None], tmp_path: Path) -> None:
    rows = read(make, tmp_path / "x.parquet", {"image": [b"", b""], name: labels})
    assert [label for *_, label in rows] == expected


@pytest.mark.parametrize(
    ("columns", "column", "expected"),
    [
        ({"id": [1], "photo": [b"no"]}, None, "x.parquet[0]"),
        ({"path": ["p"], "image": [b""]}, None, "x.parquet[0]"),
        ({"path": ["p"], "image": [b""]}, "path", "p"),
        ({"image": [1], "path": ["p"]}, None, "p"),
        ({"photo": [b""], "title": ["t"]}, None, "x.parquet[0]"),
        ({"a.b": [b""], "a": [1]}, None, "x.parquet[0]"),
    ],
)
def test_which_column_holds_the_images(
    make: Any, columns: Any, column: str | None, expected: str, tmp_path: Path
) -> None:
    ((name, *_),) = read(make, tmp_path / "x.parquet", columns, column)
    assert name.removeprefix(f"{tmp_path}/") == expected


@pytest.mark.parametrize(
    ("columns", "column", "message"),
    [
        ({"id": [1], "title": ["x"]}, None, "its columns are: id, title. Choose one with --column"),
        ({"a": [b""], "b": [b""]}, None, "its columns are: a, b. Choose one with --column"),
        ({"a": [b""]}, "image", "has no column 'image'; its columns are: a."),
        ({"id": [1], "image": [b""]}, "id", "column 'id' of {path} is int64; expected one image a row"),
        ({"image": [[b""]]}, None, "column 'image' of {path} is list<element: binary>; expected one image a row"),
        ({"image": pa.array([], pa.binary())}, None, "contains no image: it has no row"),
    ],
)
def test_a_table_that_cannot_be_used_is_a_data_error(
    make: Any, columns: Any, column: str | None, message: str, tmp_path: Path
) -> None:
    path = make.parquet(tmp_path / "x.parquet", columns)
    with pytest.raises(DataError) as found:
        make.opened(path, column=column)
    assert message.format(path=path) in str(found.value)


def test_a_column_name_that_occurs_twice_is_not_used(make: Any, tmp_path: Path) -> None:
    table = pa.table([pa.array([b""]), pa.array([b""]), pa.array([1])], names=["image", "image", "id"])
    with pytest.raises(DataError, match=r"its columns are: id\."):
        make.opened(make.parquet(tmp_path / "x.parquet", table))


def test_rows_of_several_groups_and_batches_come_in_order(make: Any, tmp_path: Path) -> None:
    columns = {"image": [b""] * 3000, "label": list(range(3000))}
    rows = read(make, tmp_path / "x.parquet", columns, row_group_size=700)
    assert [label for *_, label in rows] == [str(label) for label in range(3000)]
    assert rows[-1][0] == f"{tmp_path}/x.parquet[2999]"


def test_each_stamp_is_that_of_the_table(make: Any, tmp_path: Path) -> None:
    path = make.parquet(tmp_path / "x.parquet", {"image": [b"", b""]})
    found = path.stat()
    expected = "".join(f"{path}[{index}]\0{found.st_size} {found.st_mtime_ns} \n" for index in range(2))
    assert make.stamps_of(make.opened(path)).decode() == expected


def test_a_damaged_footer_is_a_data_error(make: Any, tmp_path: Path) -> None:
    path = make.parquet(tmp_path / "x.parquet", {"image": [b"x"]})
    whole = path.read_bytes()
    for content in (b"", whole[:4], whole[:-1], whole[: len(whole) // 2], whole[:-8] + b"\xff\xff\xff\x7fPAR1"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.parquet is damaged or cannot be read"):
            make.opened(path)


def test_a_damaged_group_gives_the_rows_before_it(make: Any, tmp_path: Path) -> None:
    images = [make.png(image) for image in make.pixels(40)]
    how = {"row_group_size": 10, "write_page_checksum": True, "use_dictionary": False, "compression": "none"}
    path = make.parquet(tmp_path / "x.parquet", {"image": images}, **how)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(images[25]) + 30] ^= 1
    path.write_bytes(damaged)
    *before, (name, reason, _) = make.rows_of(make.opened(path))
    assert [found for _, found, _ in before] == [image.tobytes() for image in make.pixels(40)[:20]]
    assert name == f"{path}[20:]"
    assert "damaged" in reason


@LAW
@given(st.data())
def test_a_damaged_table_is_a_data_error_or_says_where_it_ends(make: Any, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = make.build("parquet", Path(place), 9)
        damaged = bytearray(path.read_bytes())
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(damaged)
        try:
            make.rows_of(make.opened(path))
        except DataError:
            pass


def test_without_pyarrow_it_is_said_what_to_install(make: Any, tmp_path: Path) -> None:
    path = make.parquet(tmp_path / "x.parquet", {"image": [b"x"]})
    code = (
        "import sys\n"
        "sys.modules['pyarrow'] = None\n"
        "from onward.sources import open_sources\n"
        "from onward.signature import Signature\n"
        "try:\n"
        "    open_sources([sys.argv[1]], Signature(4, 4, 1, (0.5,), (0.5,), ('a', 'b')))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == f"DataError {path}: reading Parquet needs pyarrow: pip install 'onward[parquet]'.\n"
