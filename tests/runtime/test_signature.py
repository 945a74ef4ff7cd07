from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.errors import SignatureError
from onward.signature import Preprocess, Signature

GREY = Signature(8, 8, 1, (0.3,), (0.4,), ("zero", "one"))
FINITE = st.floats(-1e6, 1e6)
ABOVE_ZERO = st.floats(1e-6, 1e6)
INTERPOLATIONS = st.sampled_from(["nearest", "bilinear", "bicubic"])
PREPROCESS = st.builds(Preprocess, interpolation=INTERPOLATIONS) | st.builds(
    Preprocess,
    resize=st.just("shorter-side"),
    shorter_side_px=st.integers(1, 4096),
    interpolation=INTERPOLATIONS,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    channels = draw(st.sampled_from([1, 3]))
    return Signature(
        height=draw(st.integers(1, 4096)),
        width=draw(st.integers(1, 4096)),
        channels=channels,
        mean=draw(st.tuples(*[FINITE] * channels)),
        std=draw(st.tuples(*[ABOVE_ZERO] * channels)),
        labels=tuple(draw(st.lists(st.text(), min_size=2, max_size=20, unique=True))),
        preprocess=draw(PREPROCESS),
    )


@given(signatures())
def test_the_json_form_reads_back_equal(signature: Signature) -> None:
    assert Signature.from_json(signature.to_json()) == signature


@given(signatures())
def test_the_json_form_reads_back_equal_from_text(signature: Signature) -> None:
    assert Signature.from_json(json.loads(json.dumps(signature.to_json(), allow_nan=False))) == signature


@given(st.sampled_from(sorted(GREY.to_json())), JSON)
def test_any_document_is_a_signature_or_a_signature_error(part: str, value: Any) -> None:
    try:
        read = Signature.from_json(GREY.to_json() | {part: value})
    except SignatureError:
        return
    assert Signature.from_json(read.to_json()) == read


@given(JSON)
def test_any_shape_is_read_or_refused(shape: Any) -> None:
    document = GREY.to_json() | {"input": {"shape": shape}}
    try:
        Signature.from_json(document)
    except SignatureError:
        return
    assert len(shape) == 4


@pytest.mark.parametrize("size", [math.inf, math.nan, "eight", None])
def test_a_size_that_is_no_number_is_refused(size: Any) -> None:
    with pytest.raises(SignatureError):
        Signature.from_json(GREY.to_json() | {"input": {"shape": ["batch", size, 8, 1]}})


@pytest.mark.parametrize("part", sorted(GREY.to_json().keys() - {"outputs"}))
def test_a_missing_part_is_named(part: str) -> None:
    document = GREY.to_json()
    del document[part]
    with pytest.raises(SignatureError, match=part):
        Signature.from_json(document)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"height": 0}, "empty side"),
        ({"width": -1}, "empty side"),
        ({"channels": 2, "mean": (0.0, 0.0), "std": (1.0, 1.0)}, "1 or 3 channels"),
        ({"mean": (0.1, 0.2)}, "mean has 2 and std 1"),
        ({"std": ()}, "mean has 1 and std 0"),
        ({"std": (0.0,)}, "above 0"),
        ({"mean": (math.nan,)}, "finite"),
        ({"std": (math.inf,)}, "finite"),
        ({"labels": ("only",)}, "at least two labels"),
        ({"labels": ("twice", "twice")}, "each once"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SignatureError, match=said):
        replace(GREY, **change)


@pytest.mark.parametrize(
    "arguments",
    [
        {"resize": "fit"},
        {"interpolation": "lanczos"},
        {"resize": "shorter-side"},
        {"shorter_side_px": 256},
        {"resize": "shorter-side", "shorter_side_px": 0},
        {"resize": "shorter-side", "shorter_side_px": -256},
    ],
)
def test_a_resize_rule_that_cannot_work_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        Preprocess(**arguments)


def test_a_description_is_one_line_with_shape_and_classes() -> None:
    assert GREY.describe() == "uint8 (batch, 8, 8, 1) → 2 classes"
    assert (GREY.image_shape, GREY.num_classes) == ((8, 8, 1), 2)
