"""Options of `onward train` in a TOML file: what is read, refused and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import onward
from onward.errors import UsageError
from onward_training.config_file import format_options, read_options

KNOWN = {name: name.replace("-", "_") for name in ("batch-size", "data", "model-args", "mean")}


def write(folder: Path, text: str) -> Path:
    (folder / "run.toml").write_text(text, encoding="utf-8")
    return folder / "run.toml"


def test_keys_are_options_with_dashes_or_underscores(tmp_path: Path) -> None:
    text = """
        batch_size = 32
        data = "folder:Fotos ü"
        mean = [0.5, 0.25]
        [model-args]
        hidden = [8]
    """
    assert read_options(write(tmp_path, text), KNOWN) == {
        "batch_size": 32,
        "data": "folder:Fotos ü",
        "mean": "0.5,0.25",
        "model_args": '{"hidden": [8]}',
    }


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("batch-sise = 3", "key 'batch-sise', which is no option of `onward train`. Did you mean batch-size"),
        ("batch-size = 3\nbatch_size = 4", "has batch-size twice"),
        ("batch-size = ", "run.toml is not TOML"),
        ("mean = [[1]]", "expected a text, a number, or a list of them"),
    ],
)
def test_what_is_no_option_is_refused(text: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=match):
        read_options(write(tmp_path, text), KNOWN)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_options(tmp_path / "none.toml", KNOWN)


@pytest.mark.parametrize(
    "options",
    [
        {"data": 'folder:a "b"\\c\x7f\n', "batch-size": 3, "mean": 1e-30, "resume": True, "out": Path("x.pt")},
        {
            "model-args": {"hidden": [8, 16], "a key": {"deep": 1.5}, "on": False, "name": "ü"},
            "none": None,
            "empty": {},
        },
    ],
)
def test_what_is_written_is_read(options: dict[str, Any], tmp_path: Path) -> None:
    tomllib = pytest.importorskip("tomllib")
    read = tomllib.loads(format_options(options))
    expected = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    assert read == {key: value for key, value in expected.items() if value is not None}


def test_a_null_in_a_table_is_written_as_json(tmp_path: Path) -> None:
    text = format_options({"model-args": {"pool": None}})
    assert read_options(write(tmp_path, text), KNOWN) == {"model_args": '{"pool": null}'}


def test_a_run_from_python_leaves_its_options_too(tmp_path: Path) -> None:
    onward.train("digits", out=tmp_path / "run.pt", model="cnn", arguments={"widths": [4], "num_hidden": 8}, epochs=1)
    known = {key: key for key in ("data", "model", "model-args", "epochs", "learning-rate")}
    text = "\n".join(
        line for line in (tmp_path / "run.options.toml").read_text().splitlines() if line.split(" ")[0] in known
    )
    assert read_options(write(tmp_path, text), known) == {
        "data": "digits",
        "model": "cnn",
        "model-args": '{"widths": [4], "num_hidden": 8}',
        "epochs": 1,
        "learning-rate": 0.001,
    }
