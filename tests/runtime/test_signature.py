from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.errors import SignatureError
from onward.signature import DTYPES, Output, Preprocess, Signature

GREY = Signature(8, 8, 1, (0.3,), (0.4,), ("zero", "one"))
FINITE = st.floats(-1e6, 1e6)
ABOVE_ZERO = st.floats(1e-6, 1e6)
INTERPOLATIONS = st.sampled_from(["nearest", "bilinear", "bicubic"])
EXIF = st.sampled_from(["ignore", "apply"])
PREPROCESS = st.builds(Preprocess, interpolation=INTERPOLATIONS, exif=EXIF) | st.builds(
    Preprocess,
    resize=st.just("shorter-side"),
    shorter_side_px=st.integers(1, 4096),
    interpolation=INTERPOLATIONS,
    exif=EXIF,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)

DIMS = st.none() | st.integers(1, 99) | st.sampled_from(["classes", "height"])
OUTPUTS = st.builds(
    Output,
    st.from_regex(r"[a-h][a-z_0-9]{0,8}", fullmatch=True),
    st.sampled_from(DTYPES),
    st.lists(DIMS, max_size=4).map(tuple),
    st.text(min_size=1),
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


@pytest.mark.parametrize("part", sorted(GREY.to_json().keys() - {"task"}))
def test_a_missing_part_is_named(part: str) -> None:
    document = GREY.to_json()
    del document[part]
    with pytest.raises(SignatureError, match=part):
        Signature.from_json(document)


@given(signatures(), JSON)
def test_a_document_without_a_task_is_that_of_a_classifier(signature: Signature, outputs: Any) -> None:
    document = signature.to_json() | {"outputs": outputs}
    del document["task"]
    assert Signature.from_json(document) == signature
    assert signature.output_names == ("logits", "probabilities")


@given(st.lists(OUTPUTS, min_size=1, max_size=3, unique_by=lambda output: output.name), st.sampled_from(["boxes", "é"]))
def test_outputs_of_another_task_read_back_equal(outputs: list[Output], task: str) -> None:
    signature = replace(GREY, outputs=tuple(outputs), task=task)
    document = json.loads(json.dumps(signature.to_json(), allow_nan=False))
    assert Signature.from_json(document) == signature
    for output, written in zip(outputs, document["outputs"], strict=True):
        assert written["shape"][0] == "batch"
        sizes = [size if isinstance(size, int) else None for size in written["shape"][1:]]
        assert tuple(sizes) == signature.sizes(output)


def test_other_labels_change_the_sizes_of_the_outputs() -> None:
    (logits, _) = GREY.outputs
    more = replace(GREY, labels=("zero", "one", "two"))
    assert (GREY.sizes(logits), more.sizes(logits)) == ((2,), (3,))
    assert more.to_json()["outputs"][0]["shape"] == ["batch", 3]


def test_labels_belong_to_outputs_with_classes() -> None:
    plain = replace(GREY, labels=(), outputs=(Output("age", "float32", (), "age"),), task="regression")
    assert plain.num_classes == 0
    assert plain.describe() == "uint8 (batch, 8, 8, 1) → age float32 (batch)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a b", "float32", (1,), "a"), "no name for an output"),
        (("a", "float16", (1,), "a"), "expected one of"),
        (("a", "float32", (0,), "a"), "empty side"),
        (("a", "float32", ("any",), "a"), "a name has letters"),
        (("a", "float32", (1,), ""), "no meaning"),
    ],
)
def test_an_output_that_cannot_be_is_refused(arguments: Any, said: str) -> None:
    with pytest.raises(SignatureError, match=said):
        Output(*arguments)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"outputs": ()}, "expected at least one"),
        ({"outputs": GREY.outputs[:1] * 2}, "each name once"),
        ({"outputs": (replace(GREY.outputs[0], name="image"),)}, "none of the outputs"),
        ({"task": ""}, "the task has no name"),
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
        {"exif": "upright"},
        {"resize": "shorter-side"},
        {"shorter_side_px": 256},
        {"resize": "shorter-side", "shorter_side_px": 0},
        {"resize": "shorter-side", "shorter_side_px": -256},
    ],
)
def test_a_resize_rule_that_cannot_work_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        Preprocess(**arguments)


def test_a_signature_without_a_rule_for_exif_ignores_it() -> None:
    document = GREY.with_exif("apply").to_json()
    assert Signature.from_json(document).preprocess.exif == "apply"
    del document["preprocess"]["exif"]
    assert Signature.from_json(document) == GREY


def test_a_description_is_one_line_with_shape_and_classes() -> None:
    assert GREY.describe() == "uint8 (batch, 8, 8, 1) → 2 classes"
    assert (GREY.image_shape, GREY.num_classes) == ((8, 8, 1), 2)
