"""Config file: the options of `onward train` as TOML, read with --config and written beside every checkpoint.

A key is the name of an option without its dashes, with `-` or `_` between words: `batch-size = 32`. What is given on
the command line wins.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from onward.document import check_size
from onward.errors import UsageError, did_you_mean

__all__ = ["format_options", "read_options"]

TITLE = "# The options of this run, as `onward train --config` takes them."
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read_options(path: Path, known: Mapping[str, str], repeatable: Collection[str] = ()) -> dict[str, Any]:
    """The options in a file, by the names of the command's parameters.

    Args:
        path: The file.
        known: Key in the file -> name of the parameter.
        repeatable: Keys of options that may be given several times, and so may have a list.

    Raises:
        UsageError: The file cannot be read, is not TOML, or has a key that is no option.
    """
    found: dict[str, Any] = {}
    for key, value in _parse(path).items():
        name = key.replace("_", "-")
        if name not in known:
            raise UsageError(
                f"{path} has the key {key!r}, which is no option of `onward train`.{did_you_mean(name, list(known))}"
            )
        if known[name] in found:
            raise UsageError(f"{path} has {name} twice, once with `-` and once with `_`.")
        items = value if isinstance(value, list) else [value]
        read = [_value(item, name, path) for item in items] if name in repeatable else _value(value, name, path)
        found[known[name]] = read
    return found


def format_options(options: Mapping[str, Any]) -> str:
    """Options as TOML that `read_options` reads; those that are None are left out.

    Args:
        options: Key -> text, number, truth value, path, or lists and dicts of them.
    """
    stated = {key.replace("_", "-"): value for key, value in options.items() if value is not None}
    return "\n".join([TITLE, *(f"{key} = {_format(value)}" for key, value in stated.items()), ""])


def _parse(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        check_size(path.stat().st_size, str(path), UsageError)
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return found
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise UsageError(f"{path} is not TOML: {error}.") from error


def _value(value: Any, name: str, path: Path) -> Any:
    """A value as the command line would have it: a table as JSON, a list of words with commas between them."""
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list):
        if not all(isinstance(item, str | int | float) for item in value):
            raise UsageError(f"{path}: {name} is {value}, expected a text, a number, or a list of them.")
        return ",".join(map(str, value))
    return value


def _format(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str() | Path():
            return _quoted(str(value))
        case Mapping() if _has_none(value):  # TOML has no null
            return _quoted(json.dumps(value))
        case Mapping():
            pairs = (f"{_key(str(key))} = {_format(item)}" for key, item in value.items())
            return f"{{ {', '.join(pairs)} }}" if value else "{}"
        case Sequence():
            return f"[{', '.join(map(_format, value))}]"
        case _:
            raise UsageError(f"{value!r} cannot be written as TOML.")


def _has_none(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_none, value.values()))
    return any(map(_has_none, value)) if isinstance(value, list | tuple) else value is None


def _key(text: str) -> str:
    return text if BARE_KEY.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
