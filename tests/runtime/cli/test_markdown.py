from __future__ import annotations

from pathlib import Path

import pytest

from onward.cli.markdown import append_markdown, markdown_of
from onward.errors import OutputError


def test_tables_and_lines_are_what_a_terminal_shows() -> None:
    parts = [
        (["backend", ">median ms"], [["onnxruntime", "0.12"], ["PyTorch", "1.50"]]),
        "unstable:",
        "  a: drift",
        "  b: load",
        "end",
    ]
    assert markdown_of("onward bench", parts) == (
        "### onward bench\n\n"
        "| backend | median ms |\n| --- | ---: |\n| onnxruntime | 0.12 |\n| PyTorch | 1.50 |\n\n"
        "unstable:\n\n- a: drift\n- b: load\n\nend\n\n"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("[here](x)", "\\[here\\](x)"),
        ("`rm` *all* _of_ ~it~", "\\`rm\\` \\*all\\* \\_of\\_ \\~it\\~"),
        ("two\nlines", "two\\\\nlines"),
    ],
)
def test_names_are_nothing_but_text(name: str, shown: str) -> None:
    assert f"| {shown} |\n" in markdown_of("", [(["backend"], [[name]])])


def test_a_file_is_added_to_and_never_replaced(tmp_path: Path) -> None:
    append_markdown(tmp_path / "summary.md", "first\n")
    append_markdown(tmp_path / "summary.md", "× second\n")
    assert (tmp_path / "summary.md").read_text(encoding="utf-8") == "first\n× second\n"
    with pytest.raises(OutputError, match="could not be written"):
        append_markdown(tmp_path, "a folder")
