"""Names, labels and metadata from files: nothing in them is obeyed by a terminal, a page or a spreadsheet."""

from __future__ import annotations

import csv
import html
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from onward.bundle import MANIFEST, Bundle, manifest_digest
from onward.cli.console import app as make_app
from onward.cli.console import print_json, print_table, remark, run, say
from onward.errors import DataError
from onward.printable import escape_html, escape_json, printable
from onward.report.page import Page
from onward.sinks.text import json_line

Here = Callable[..., Any]
HOSTILE = "\x1b]0;title\x07\x9b31m\x7f\u202etxt.exe\u2066\ud800\r\n  accuracy: 100.00% of the 9 images with a label"
ESCAPED = r"\x1b]0;title\x07\x9b31m\x7f\u202etxt.exe\u2066\ud800\r\n  accuracy: 100.00% of the 9 images with a label"
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
TEXT = st.text(st.characters(exclude_categories=())) | st.text(st.sampled_from(HOSTILE + "aä\u200e\u061c\u2028\x85"))


def is_obeyed(character: str) -> bool:
    category = unicodedata.category(character)
    return category in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in BIDI


@given(TEXT)
def test_printable_text_has_nothing_that_is_obeyed_and_stays_what_it_is_otherwise(text: str) -> None:
    shown = printable(text)
    assert not any(map(is_obeyed, shown))
    shown.encode()
    assert shown == "".join(c if printable(c) == c else printable(c) for c in text)
    assert printable(shown) == shown


def test_plain_text_is_left_alone() -> None:
    for text in ("Zürich, 東京, שלום", "C:\\temp", "[red]a[/red]", "👩‍🔬"):
        assert printable(text) == text
    assert printable(HOSTILE) == ESCAPED


@given(st.dictionaries(TEXT, TEXT))
def test_escaped_json_is_the_same_document(document: dict[str, str]) -> None:
    for indent in (None, 2):
        written = escape_json(json.dumps(document, ensure_ascii=False, indent=indent))
        assert json.loads(written) == document
        assert not any(is_obeyed(character) for character in written if character != "\n")
    line = json_line(document)
    assert line.count(b"\n") == 1
    assert json.loads(line) == document


def test_tables_lines_json_and_pages_escape(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([HOSTILE, ">b"], [[HOSTILE, "[red]b[/red]"]], title=HOSTILE)
    say(HOSTILE)
    remark(HOSTILE)
    print_json({HOSTILE: HOSTILE})
    out, errors = capsys.readouterr()
    assert not any(is_obeyed(character) for character in out + errors if character != "\n")
    assert "[red]b[/red]" in out
    assert errors == f"{ESCAPED}\n"
    page = Page(HOSTILE, HOSTILE)
    page.section(HOSTILE)
    page.details(HOSTILE, [HOSTILE])
    page.table([HOSTILE], [[HOSTILE]])
    assert not any(is_obeyed(character) for character in page.render() if character != "\n")
    assert escape_html(f"<{HOSTILE}>") == f"&lt;{html.escape(ESCAPED)}&gt;"


def test_every_line_of_an_error_says_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    application = make_app("test")

    @application.command()
    def fail() -> None:
        raise DataError(f"{HOSTILE}.\nonward: done")

    with pytest.raises(SystemExit):
        import sys

        sys.argv = ["test"]
        run(application, "test")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("onward: ") for line in lines)


def forge(bundle: Bundle, **parts: Any) -> None:
    document = json.loads((bundle.path / MANIFEST).read_text())
    document["provenance"] |= parts
    labels = document["signature"]["labels"]
    labels[:3] = ["=1+1", "@SUM(A1)\x1b[31m", "-2\u202e"]
    document["manifest_sha256"] = manifest_digest(document)
    (bundle.path / MANIFEST).write_text(json.dumps(document))


@pytest.fixture
def forged(bundle: Bundle) -> Bundle:
    """The bundle with labels, and with provenance, that a stranger chose."""
    forge(bundle, note=HOSTILE)
    return bundle


def test_inspect_escapes_labels_and_provenance(forged: Bundle, here: Here) -> None:
    for options in ([], ["--json"]):
        done = here("inspect", forged.path, *options)
        assert done.returncode == 0
        assert not any(is_obeyed(character) for character in done.stdout if character != "\n")
        assert r"\u202etxt.exe" in done.stdout


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("=cmd|' calc'!A0.png", "+1.png", "-1.png", "@a.png", "\ta.png", "a=b.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name)
    (folder / "a\n  accuracy: 100%\x1b[31m.png").write_bytes(b"no image")
    return folder


def test_the_summary_cannot_be_forged_by_a_file_name(forged: Bundle, photos: Path, here: Here, tmp_path: Path) -> None:
    done = here("predict", forged.path, photos, "--out", tmp_path / "rows.csv")
    assert done.returncode == 1
    assert r"a\n  accuracy: 100%\x1b[31m.png: " in done.stderr
    assert not any(line.startswith("  accuracy") for line in done.stderr.splitlines())


@pytest.mark.parametrize("is_safe", [False, True])
def test_csv_safe_prefixes_what_a_spreadsheet_would_run(
    forged: Bundle, photos: Path, here: Here, tmp_path: Path, is_safe: bool
) -> None:
    out = tmp_path / "rows.csv"
    here(
        "predict", forged.path, photos, "--out", out, "--top-k", "10", "--logits", *(["--csv-safe"] if is_safe else [])
    )
    with out.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    texts = [cell for row in rows for key, cell in row.items() if key == "input" or key.startswith("label")]
    dangerous = [text for text in texts if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
    prefixed = [text for text in texts if text.startswith("'")]
    assert (len(dangerous), len(prefixed)) == ((0, 6 * 3) if is_safe else (6 * 3, 0))
    assert {"'=1+1", "'-2\u202e"} <= set(texts) if is_safe else {"=1+1", "-2\u202e"} <= set(texts)
    assert any(float(row["logit_0"]) < 0 for row in rows) or any(float(row["logit_1"]) < 0 for row in rows)


def test_csv_safe_is_for_csv_only(forged: Bundle, photos: Path, here: Here, tmp_path: Path) -> None:
    done = here("predict", forged.path, photos, "--out", tmp_path / "rows.jsonl", "--csv-safe")
    assert done.returncode == 2
    assert "--csv-safe is for .csv" in done.stderr
