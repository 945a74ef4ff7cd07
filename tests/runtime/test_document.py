"""Documents: every part is of its type, or an error names the file, the place, what was found and what was expected."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.document import MAX_DEPTH, Document, parse
from onward.errors import BundleError, DataError, UsageError


@dataclass(frozen=True)
class Engine:
    power_w: float
    fuel: str | None = None

    def __post_init__(self) -> None:
        if self.power_w <= 0:
            raise UsageError(f"the power is {self.power_w} W, expected more than 0.")


@dataclass(frozen=True)
class Car:
    name: str
    engines: tuple[Engine, ...]
    size: tuple[int, int]
    is_red: bool = False
    prices: Mapping[int, float] | None = None
    ways: Sequence[Sequence[float]] = ()


CAR: dict[str, Any] = {"name": "a", "engines": [{"power_w": 9, "later": 1}], "size": [2, 3], "prices": {"7": 1.5}}


def read(document: Any) -> Car:
    return Document(document, "car.json", BundleError).read(Car)


def edited(path: Sequence[str | int], value: Any) -> Any:
    document = json.loads(json.dumps(CAR))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


def test_a_document_becomes_a_dataclass_and_keys_of_later_versions_are_ignored() -> None:
    car = read(edited(["ways"], [[1, 2.5], []]))
    assert car == Car("a", (Engine(9.0),), (2, 3), prices={7: 1.5}, ways=((1.0, 2.5), ()))
    assert type(car.engines[0].power_w) is float
    assert read(CAR).ways == ()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["name"], 5, "name is 5, expected text"),
        (["name"], None, "name is null, expected text"),
        (["name"], "x" * 200, None),
        (["engines"], {"power_w": 9}, "engines is an object, expected a list"),
        (["engines", 0], [], r"engines\[0\] is a list of 0, expected an object"),
        (["engines", 0], {"fuel": "oil"}, r"engines\[0\]\.power_w is missing"),
        (["engines", 0, "power_w"], True, r"engines\[0\]\.power_w is true, expected a number"),
        (["engines", 0, "power_w"], 10**80, r"engines\[0\]\.power_w is 1000.*…, expected a number"),
        (["engines", 0, "power_w"], -1.0, r"engines\[0\]: the power is -1\.0 W, expected more than 0"),
        (["engines", 0, "fuel"], [1], r"engines\[0\]\.fuel is a list of 1, expected text or null"),
        (["size"], [1], "size is a list of 1, expected a list of 2"),
        (["size", 1], 2.0, r"size\[1\] is 2\.0, expected a whole number"),
        (["size", 1], 2**63, r"size\[1\] is 9223372036854775808, expected a whole number"),
        (["is_red"], 1, "is_red is 1, expected true or false"),
        (["prices"], 7, "prices is 7, expected an object or null"),
        (["prices"], {"a": 1.0}, r"prices\.a has a name that is no whole number"),
        (["prices", "7"], "1", r"prices\.7 is '1', expected a number"),
        (["ways"], [[], 1], r"ways\[1\] is 1, expected a list"),
    ],
    ids=str,
)
def test_an_error_names_file_place_and_both_sides(path: list[str | int], value: Any, said: str | None) -> None:
    if said is None:
        assert read(edited(path, value)).name == value
        return
    with pytest.raises(BundleError, match=rf"^car\.json: {said}.*\.$"):
        read(edited(path, value))


def test_the_whole_document_has_a_name_too() -> None:
    with pytest.raises(DataError, match=r"^a\.json: the document is a list of 1, expected an object\.$"):
        parse(b"[1]", "a.json", DataError).read(Car)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"\xff\xfe{\x00}\x00", b"{}\x00\x00", b"\x00\x00\x00{\x00\x11\x00\x00", "[1,]", "nul",
        b'"\xed\xa0\x80"', "1" * 5000, "[" * 100_000, '{"a":' * 100_000,
        "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), '{"a":' * 500 + "1" + "}" * 500,
    ],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
def test_what_is_no_json_or_nested_too_deep_is_an_error(data: bytes | str) -> None:
    with pytest.raises(DataError, match=r"^a\.json is (not JSON|nested too deep): "):
        parse(data, "a.json", DataError)


def test_json_is_read_with_and_without_a_byte_order_mark() -> None:
    assert parse('\ufeff{"ä": [1]}'.encode(), "a.json", DataError).value == {"ä": [1]}
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH, "a.json", DataError).read(Any)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    st.sampled_from([[], ["name"], ["engines"], ["engines", 0], ["engines", 0, "power_w"], ["prices"], ["ways"]]), JSON
)
def test_anything_is_a_car_or_an_error(path: list[str | int], value: Any) -> None:
    document = edited(path, value) if path else value
    try:
        car = read(document)
    except BundleError:
        return
    assert (type(car.name), type(car.engines), type(car.is_red)) == (str, tuple, bool)
