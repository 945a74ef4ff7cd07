"""The JSON Schemas under docs/. jsonschema is imported when one is first used: it builds grammars of IRIs meanwhile."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

__all__ = ["complaints", "is_schema", "schema"]

DOCS = Path(__file__).parents[1] / "docs"


@functools.cache
def schema(name: str) -> Any:
    """`manifest` or `bench`."""
    return json.loads((DOCS / f"{name}.schema.json").read_text())


@functools.cache
def _validator(name: str, part: str | None) -> Any:
    from jsonschema import Draft202012Validator

    whole = schema(name)
    return Draft202012Validator(whole if part is None else whole["properties"][part] | {"$defs": whole["$defs"]})


def complaints(name: str, document: object, part: str | None = None) -> list[str]:
    """What does not fit the schema, or the schema of one of its properties."""
    return [f"{error.json_path}: {error.message}" for error in _validator(name, part).iter_errors(document)]


def is_schema(name: str) -> bool:
    """Whether it is a valid JSON Schema; an error says why not."""
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema(name))
    return True
