"""Help: what a command's help text says in the code is what a user sees."""

from __future__ import annotations

import re

import pytest
import typer.main

from onward.cli.app import app

GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_text_loses_words_in_brackets(name: str) -> None:
    """Rich takes `[default: 5]` for a style and leaves it out; `[{...}]` of JSON is no style."""
    command = GROUP.commands[name]  # type: ignore[attr-defined]
    texts = [parameter.help or "" for parameter in command.params if hasattr(parameter, "help")]
    assert [text for text in texts if re.search(r"\[[a-z/#@][^\]]*\]", text)] == []
