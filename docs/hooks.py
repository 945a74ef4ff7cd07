"""What MkDocs calls while it builds the site.

A line `<!-- include: PATH -->` becomes the text of a file outside docs/, its links corrected for the page.
A line `<!-- commands -->` becomes the reference of every `onward` command, read from the commands themselves.
After the build, every page is searched for scripts, styles and pictures of other hosts; one such is an error.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parent.parent
INCLUDE = re.compile(r"^<!-- include: (\S+) -->$", re.MULTILINE)
#: A Markdown link or image to a file of this repository.
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)")
#: An element of a page that makes a browser load something from another host.
FROM_ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preconnect|preload|icon))[^>]*\bhref=[\"']?(?:https?:)?//",
    re.IGNORECASE,
)
#: Files outside docs/ that have a page in it, which shows them.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the two kinds of marker."""
    here = Path(page.file.src_uri).parent
    markdown = INCLUDE.sub(lambda match: _included(match[1], here), markdown)
    return markdown.replace("<!-- commands -->", command_reference()) if "<!-- commands -->" in markdown else markdown


def on_post_build(config: Any, **_: Any) -> None:
    """Refuse a site that would load anything from another host."""
    for path in Path(config.site_dir).rglob("*.html"):
        if found := FROM_ELSEWHERE.search(path.read_text()):
            raise PluginError(f"{path} loads something from another host: {found[0]}")


def _included(name: str, here: Path) -> str:
    def corrected(match: re.Match[str]) -> str:
        target = PAGES.get(match[2], match[2].removeprefix("docs/"))
        return match[1] + os.path.relpath(target, here)

    return LINK.sub(corrected, (ROOT / name).read_text())


def command_reference() -> str:
    """Every command of `onward` as Markdown: what it does, its usage, its arguments and its options."""
    import typer

    from onward.cli.app import build_app

    group: Any = typer.main.get_command(build_app())
    return "\n\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option"]
    examples = (command.epilog or "").split("\n")[2:]
    usage = " ".join(["onward", name, *(_placeholder(item) for item in arguments), "[OPTIONS]"])
    parts = [f"## `onward {name}`", _text(command.help), f"```text\n{usage}\n```"]
    if arguments:
        parts.append(
            _table(["Argument", "Meaning"], [[f"`{_placeholder(item)}`", _text(item.help)] for item in arguments])
        )
    panels = dict.fromkeys(getattr(item, "rich_help_panel", None) for item in options)
    for panel in panels:
        rows = [_option(item) for item in options if getattr(item, "rich_help_panel", None) == panel]
        title = f"**{panel}**" if panel else "**Options**" if len(panels) > 1 else ""
        parts += [title, _table(["Option", "Value", "Meaning", "Default"], rows)]
    if examples:
        parts += ["**Examples**", "\n".join(["```sh", *examples, "```"])]
    return "\n\n".join(filter(None, parts))


def _placeholder(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()).strip("{}")


def _option(option: Any) -> list[str]:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f"`{option.metavar or option.type.name}`"
    return [names, value, _text(option.help), _default(option)]


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if option.default in (None, "", (), []) or callable(option.default) or (option.is_flag and not option.default):
        return ""
    if option.is_flag:
        return f"`{option.opts[0]}`"
    return f"`{option.default}`"


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _text(help: str | None) -> str:
    """Help on one line per paragraph; what Markdown would take for HTML is escaped."""
    paragraphs = re.split(r"\n\s*\n", (help or "").replace("\b", "").strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).replace("<", "&lt;")
