"""Document: plain data that came from a file, read part by part with a type for each.

It is the one place where Onward checks what a manifest, a report, a journal or a signature holds. A part that is
missing or of another kind is an error with the file, the place of the part, what was found and what was expected:

    manifest.json: artifacts[2].precision is 5, expected text.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar, overload

from onward.errors import OnwardError
from onward.limits import MAX_DOCUMENT_BYTES, mebibytes

__all__ = ["MAX_DEPTH", "Document", "check_size", "parse"]

T = TypeVar("T")
#: Lists and objects within each other. Onward's own documents have at most 9.
MAX_DEPTH = 64
#: The largest whole number: what numpy, onnxruntime and other languages can hold.
MAX_INT = 2**63 - 1
MAX_SHOWN_CHARS = 60

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null"}


@dataclasses.dataclass(frozen=True)
class Document:
    """A value and where it stands.

    Args:
        value: Plain data: None, booleans, numbers, text, lists, mappings.
        file: What errors call the whole document: a path, or words such as `the signature`.
        error: The class of errors.
        place: The way from the whole document to this value: `artifacts[2].precision`; empty for the whole.
    """

    value: Any
    file: str
    error: type[OnwardError]
    place: str = ""

    @classmethod
    def of(cls, value: Any, file: str, error: type[OnwardError]) -> Document:
        """The value as a document; one that is a document already stays what it is."""
        return value if isinstance(value, Document) else cls(value, file, error)

    def __getitem__(self, key: str) -> Document:
        """The part with that key of an object; it is an error if there is none."""
        part = self.get(key)
        if part is None:
            raise self._child(None, f".{key}").broken("is missing")
        return part

    def get(self, key: str) -> Document | None:
        """The part with that key of an object; None if there is none."""
        found = self._object()
        return self._child(found[key], f".{key}") if key in found else None

    def __iter__(self) -> Iterator[Document]:
        """The elements of a list."""
        if not isinstance(self.value, (list, tuple)):
            self.refuse("a list")
        return (self._child(item, f"[{index}]") for index, item in enumerate(self.value))

    @overload
    def read(self, kind: type[T]) -> T: ...
    @overload
    def read(self, kind: Any) -> Any: ...
    def read(self, kind: Any) -> Any:
        """The value as one of a type.

        Args:
            kind: `str`, `int`, `float`, `bool`, `None`, `Any`, a union of types, `tuple[int, ...]`, `tuple[int, str]`,
                `Sequence[int]`, `Mapping[str, int]`, another class, or a dataclass: by its `from_json`, or field by
                field. Keys that a dataclass does not have are ignored, so that a later version can add some.

        Raises:
            OnwardError: `error`: the value is of another kind, or the dataclass does not accept it.
        """
        if kind is Any:
            return self.value
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (types.UnionType, typing.Union):
            return self._read_union(arguments)
        if origin in (tuple, Sequence):
            return self._read_list(arguments)
        if origin in (Mapping, dict):
            return self._read_mapping(*arguments)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self._read_dataclass(kind)
        if not _is_of(self.value, kind):
            self.refuse(_word(kind))
        return float(self.value) if kind is float else self.value

    def refuse(self, expected: str) -> NoReturn:
        """Raise the error that the value is not what was expected, e.g. `a list`."""
        raise self.broken(f"is {_shown(self.value)}, expected {expected}")

    def broken(self, what: str) -> OnwardError:
        """The error that something is wrong here, e.g. `is missing`."""
        return self.error(f"{self.file}: {self.place or 'the document'} {what}.")

    def _child(self, value: Any, step: str) -> Document:
        return dataclasses.replace(self, value=value, place=f"{self.place}{step}".removeprefix("."))

    def _object(self) -> Mapping[str, Any]:
        if not isinstance(self.value, Mapping) or not all(isinstance(key, str) for key in self.value):
            self.refuse("an object")
        return self.value

    def _read_union(self, kinds: tuple[Any, ...]) -> Any:
        # a plain type that fits, else the type that has parts, so that an error names the part
        fitting = [kind for kind in kinds if _is_plain(kind) and _is_of(self.value, kind)]
        if not fitting and isinstance(self.value, (list, tuple, Mapping)):
            fitting = [kind for kind in kinds if not _is_plain(kind)]
        if not fitting:
            self.refuse(" or ".join(map(_word, kinds)))
        return self.read(fitting[0])

    def _read_list(self, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
        elements = list(self)
        if len(kinds) == 1 or kinds[-1] is Ellipsis:
            return tuple(element.read(kinds[0]) for element in elements)
        if len(elements) != len(kinds):
            self.refuse(f"a list of {len(kinds)}")
        return tuple(element.read(kind) for element, kind in zip(elements, kinds, strict=True))

    def _read_mapping(self, key_kind: Any, kind: Any) -> dict[Any, Any]:
        found = {}
        for key, value in self._object().items():
            part = self._child(value, f".{key}")
            if key_kind is int and not (key.isascii() and key.isdecimal() and len(key) < 10):
                raise part.broken("has a name that is no whole number")
            found[key_kind(key)] = part.read(kind)
        return found

    def _read_dataclass(self, kind: type[Any]) -> Any:
        return kind.from_json(self) if hasattr(kind, "from_json") else self.read_fields(kind)

    def read_fields(self, kind: type[T], /, **values: Any) -> T:
        """A dataclass of these values, and of the parts of this object for its other fields.

        Raises:
            OnwardError: `error`: as for `read`.
        """
        for name, field_kind, has_default in _fields(typing.cast("Hashable", kind)):
            if name in values:
                continue
            part = self.get(name) if has_default else self[name]
            if part is not None:
                values[name] = part.read(field_kind)
        return self.build(kind, **values)

    def build(self, kind: type[T], /, **values: Any) -> T:
        """A dataclass of these values; where it does not accept them, the error says which part it is.

        Raises:
            OnwardError: `error`.
        """
        try:
            return kind(**values)
        except OnwardError as error:
            where = f"{self.place}: " if self.place else ""
            raise self.error(f"{self.file}: {where}{error}") from error


def check_size(size_bytes: int, file: str, error: type[OnwardError]) -> None:
    """Check the size of a document's file before it is read.

    Raises:
        OnwardError: `error`: it is larger than `MAX_DOCUMENT_BYTES`.
    """
    if size_bytes > MAX_DOCUMENT_BYTES:
        raise error(
            f"{file} has {mebibytes(size_bytes)}, at most {mebibytes(MAX_DOCUMENT_BYTES)}: it is no document of "
            f"Onward. Copy it again from its source, or make it again."
        )


def parse(data: bytes | str, file: str, error: type[OnwardError]) -> Document:
    """Read JSON.

    Args:
        data: UTF-8, or text.
        file: What errors call it.
        error: The class of errors.

    Raises:
        OnwardError: `error`: it is not JSON, larger than `MAX_DOCUMENT_BYTES`, or its lists and objects are nested more
            than `MAX_DEPTH` deep.
    """
    check_size(len(data), file, error)
    try:
        # `json.loads` would guess the encoding of bytes, and fail with a SystemError where the guess is wrong
        value = json.loads(data.decode("utf-8-sig") if isinstance(data, bytes) else data)
    except ValueError as reason:
        raise error(f"{file} is not JSON: {reason}.") from reason
    except RecursionError as reason:
        raise error(_too_deep(file)) from reason
    if not _is_shallow(value):
        raise error(_too_deep(file))
    return Document(value, file, error)


def _too_deep(file: str) -> str:
    return f"{file} is nested too deep: lists and objects may stand within each other {MAX_DEPTH} times."


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, (dict, list))]
        if not containers:
            return True
        level = [part for item in containers for part in (item.values() if isinstance(item, dict) else item)]
    return False


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int) and not -MAX_INT <= value <= MAX_INT:
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _is_plain(kind: Any) -> bool:
    """Whether a value of this type has no parts that are read one by one."""
    return typing.get_origin(kind) is None and isinstance(kind, type) and not dataclasses.is_dataclass(kind)


def _word(kind: Any) -> str:
    if _is_plain(kind):
        return _WORDS.get(kind) or f"a {kind.__name__}"
    return "a list" if typing.get_origin(kind) in (tuple, Sequence) else "an object"


def _shown(value: Any) -> str:
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case str() | int() | float():
            text = repr(value[:MAX_SHOWN_CHARS] if isinstance(value, str) else value)
            return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
        case list() | tuple():
            return f"a list of {len(value)}"
        case Mapping():
            return "an object"
    return f"a {type(value).__name__}"


@functools.cache
def _fields(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """Name, type, and whether there is a default."""
    hints = typing.get_type_hints(kind)
    missing = dataclasses.MISSING
    return tuple(
        (item.name, hints[item.name], item.default is not missing or item.default_factory is not missing)
        for item in dataclasses.fields(kind)
    )
