"""Feeds and the signatures of tensors: what is fed is held against what is taken, by name, dtype and shape."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.errors import FeedError, SignatureError, UsageError
from onward.feed import check_feed, draw, from_pixels, num_samples, take
from onward.signature import DTYPES, Input, Signature, TensorSignature, of_images, signature_from_json
from tests.needs import needs_torch

IMAGES = Signature(6, 5, 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), ("a", "b"))
GREY = Signature(6, 5, 1, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), ("a", "b"), repeat=3)
TWO = TensorSignature((Input("features", "float32", (13,)), Input("ids", "int64", (None,), (0, 99))), ("a", "b", "c"))

sides = st.one_of(st.none(), st.integers(1, 9))
inputs = st.builds(
    Input,
    st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True),
    st.sampled_from(DTYPES),
    st.lists(sides, max_size=4).map(tuple),
    st.one_of(st.none(), st.tuples(st.integers(-9, 0), st.integers(1, 9))),
)
tensor_signatures = st.builds(
    TensorSignature,
    st.lists(inputs, min_size=1, max_size=3, unique_by=lambda item: item.name).map(tuple),
    st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True).map(tuple),
)


@given(tensor_signatures)
def test_a_tensor_signature_reads_back_equal(signature: TensorSignature) -> None:
    assert signature_from_json(json.loads(json.dumps(signature.to_json()))) == signature


@pytest.mark.parametrize(
    "signature",
    [replace(base, interface=interface, dynamic_size=free) for base in (IMAGES, GREY)
     for interface in ("pixels", "tensor") for free in (False, True)],
    ids=str,
)  # fmt: skip
def test_every_form_of_an_image_signature_reads_back_equal(signature: Signature) -> None:
    assert signature_from_json(json.loads(json.dumps(signature.to_json()))) == signature


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["inputs", "labels", "name", "dtype", "shape", "range"]), inner)))  # fmt: skip
def test_any_document_is_a_signature_or_a_signature_error(document: object) -> None:
    with pytest.raises(SignatureError):
        signature_from_json({"inputs": document, "labels": ["a", "b"]} if document != [] else {"inputs": None})


@pytest.mark.parametrize("signature", [IMAGES, GREY, replace(IMAGES, interface="tensor"), TWO], ids=str)
def test_what_is_drawn_is_what_is_taken(signature: Signature) -> None:
    feed = draw(signature, 4, np.random.default_rng(0))
    checked = check_feed(feed, signature)
    assert list(checked) == [item.name for item in signature.inputs]
    assert num_samples(feed) == 4
    assert num_samples(take(feed, slice(1, 3))) == 2


@needs_torch
@pytest.mark.parametrize("signature", [IMAGES, GREY], ids=["rgb", "grey"])
def test_pixels_are_normalised_for_a_float_model_just_as_training_does_it(signature: Signature) -> None:
    import torch

    from onward_training.normalization import Normalize

    images = np.random.default_rng(0).integers(0, 256, (3, *signature.image_shape), np.uint8)
    floats = from_pixels(images, replace(signature, interface="tensor"))
    np.testing.assert_array_equal(floats, Normalize(signature)(torch.tensor(images)).numpy())
    assert from_pixels(images, signature) is images


@pytest.mark.parametrize(
    ("feed", "match"),
    [
        (np.zeros((2, 13), np.float32), r"takes 2 inputs \('features', 'ids'\): expected a dictionary"),
        ({"features": np.zeros((2, 13), np.float32)}, r"\['features'\], expected \['features', 'ids'\]"),
        ({"features": np.zeros((2, 13)), "ids": np.zeros((2, 4), np.int64)}, r"is float64, expected float32"),
        ({"features": np.zeros((2, 12), np.float32), "ids": np.zeros((2, 4), np.int64)},
         r"'features' has shape \(2, 12\), expected \(batch, 13\)"),
        ({"features": np.zeros((2, 13), np.float32), "ids": np.zeros((3, 4), np.int64)}, "different sizes"),
        ({"features": np.zeros((2, 13), np.float32), "ids": np.zeros(2, np.int64)}, r"expected \(batch, any\)"),
    ],
)  # fmt: skip
def test_a_feed_that_disagrees_is_refused_with_both_sides(feed: object, match: str) -> None:
    with pytest.raises(FeedError, match=match):
        check_feed(feed, TWO)  # type: ignore[arg-type]


def test_names_may_come_in_any_order() -> None:
    feed = {"ids": np.zeros((2, 4), np.int64), "features": np.zeros((2, 13), np.float32)}
    assert list(check_feed(feed, TWO)) == ["features", "ids"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("a b", "float32", (1,)), "no name for an input"),
        (("a", "float16", (1,)), "expected one of"),
        (("a", "float32", (0,)), "empty side"),
        (("a", "float32", (1,), (1, 1)), "smaller value first"),
    ],
)
def test_an_input_that_cannot_be_is_refused(arguments: tuple[object, ...], match: str) -> None:
    with pytest.raises(SignatureError, match=match):
        Input(*arguments)  # type: ignore[arg-type]


def test_what_takes_images_refuses_a_model_of_tensors_with_a_way_out() -> None:
    with pytest.raises(UsageError, match=r"features float32 \(batch, 13\).*onward\.load"):
        of_images(TWO)
    assert of_images(IMAGES) is IMAGES
