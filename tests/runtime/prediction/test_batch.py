from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from onward.backends import open_artifact
from onward.backends.backend import Backend
from onward.bundle import Bundle
from onward.errors import UsageError
from onward.prediction import Batch, Counts, PredictOptions, open_engine, predict_batch
from onward.prediction.batch import Batcher
from onward.signature import Signature
from onward.sources import Block, Images, Item, Pixels, unreadable
from onward.tasks.classification import LOGITS, PROBABILITIES

LAW = settings(max_examples=80, deadline=None)


def nothing() -> bytes:
    return b""


@st.composite
def sources(draw: st.DrawFn) -> list[Block]:
    blocks: list[Block] = []
    for number in range(draw(st.integers(0, 4))):
        count = draw(st.integers(0, 9))
        if draw(st.booleans()):
            blocks.append(Images([Item(f"{number}/{index}.png", nothing, "12 345") for index in range(count)]))
        else:
            blocks.append(Pixels(f"{number}.npy", np.full((count, 2, 2, 1), number, np.uint8), stamp="9 9"))
    return blocks


def names(blocks: list[Block] | tuple[Block, ...]) -> list[str]:
    return [
        name
        for block in blocks
        for name in (block.names if isinstance(block, Pixels) else [item.name for item in block.items])
    ]


def take_all(blocks: list[Block], sizes: list[int]) -> list[Batch]:
    batcher, taken = Batcher(iter(blocks)), []
    while batch := batcher.take(sizes[len(taken) % len(sizes)]):
        taken.append(batch)
    return taken


@LAW
@given(sources(), st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_batches_hold_every_input_once_in_order_and_as_many_as_asked_for(blocks: list[Block], sizes: list[int]) -> None:
    batches = take_all(blocks, sizes)
    assert [name for batch in batches for name in names(batch.blocks)] == names(blocks)
    asked = [sizes[index % len(sizes)] for index in range(len(batches))]
    assert [len(batch) for batch in batches[:-1]] == asked[:-1]
    assert all(0 < len(batch) <= size for batch, size in zip(batches, asked, strict=True))


@LAW
@given(sources(), st.integers(1, 12), st.integers(1, 12))
def test_the_digest_after_some_inputs_does_not_depend_on_the_batches(blocks: list[Block], one: int, other: int) -> None:
    def digests(size: int) -> dict[int, str]:
        counts, total = {}, 0
        for batch in take_all(blocks, [size]):
            total += len(batch)
            counts[total] = batch.digest
        return counts

    first, second = digests(one), digests(other)
    common = first.keys() & second.keys()
    assert {count: first[count] for count in common} == {count: second[count] for count in common}


def test_the_digest_tells_a_changed_input() -> None:
    def digest(stamp: str, name: str = "a.png") -> str:
        batch = Batcher(iter([Images([Item(name, nothing, stamp), Item("b.png", nothing)])])).take(2)
        assert batch is not None
        return batch.digest

    assert digest("1 1") == digest("1 1")
    assert len({digest("1 1"), digest("1 2"), digest("1 1", "c.png")}) == 3


@pytest.fixture(scope="module")
def backend(shared_bundle: Bundle) -> Backend:
    return open_artifact(shared_bundle, shared_bundle.artifact("onnx"))


def png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0]).save(stream, "PNG")
    return stream.getvalue()


def signature_of(bundle: Bundle) -> Signature:
    assert isinstance(bundle.signature, Signature)
    return bundle.signature


def test_a_batch_of_files_and_pixels_becomes_rows_in_order(
    shared_bundle: Bundle, backend: Backend, pixels: NDArray[np.uint8]
) -> None:
    signature = signature_of(shared_bundle)
    items = [Item.of_bytes("0", png(pixels[0])), Item.of_pixels("1", pixels[1]), Item.of_bytes("2", png(pixels[2]))]
    result = predict_batch(backend.run, signature, items, PredictOptions(top_k=2, logits=True))
    expected = backend.run(pixels[:3])
    ranked = np.argsort(-expected[PROBABILITIES], axis=1, kind="stable")
    columns = result.to_columns()
    assert list(columns) == ["input", "label", "index", "probability", "label_2", "index_2", "probability_2", "logits"]
    assert columns["input"].tolist() == ["0", "1", "2"]
    for place, suffix in enumerate(("", "_2")):
        index = ranked[:, place]
        assert columns[f"index{suffix}"].tolist() == index.tolist()
        assert columns[f"label{suffix}"].tolist() == [signature.labels[at] for at in index]
        np.testing.assert_array_equal(columns[f"probability{suffix}"], expected[PROBABILITIES][range(3), index])
    np.testing.assert_array_equal(columns["logits"], expected[LOGITS])
    assert result.failures == ()
    assert result.counts == Counts(num_inputs=3, num_predicted=3)


def test_bad_items_of_a_batch_are_failures_with_stage_and_reason(
    shared_bundle: Bundle, backend: Backend, pixels: NDArray[np.uint8]
) -> None:
    items = [
        Item.of_bytes("text", b"this is text"),
        Item.of_bytes("good", png(pixels[0])),
        unreadable("gone", "cannot be read: gone"),
        Item.of_pixels("floats", pixels[0].astype(np.float32)),  # type: ignore[arg-type]
        Item.of_pixels("large", np.zeros((9, 9, 1), np.uint8)),
        Item.of_pixels("fine", pixels[1]),
    ]
    result = predict_batch(backend.run, signature_of(shared_bundle), items)
    assert result.rows.names == ["good", "fine"]
    assert result.rows.places is not None
    assert result.rows.places.tolist() == [1, 5]
    assert result.to_columns()["index"].tolist() == backend.run(pixels[:2])[LOGITS].argmax(1).tolist()
    assert [(failure.input, failure.stage) for failure in result.failures] == [
        ("text", "decode"),
        ("gone", "read"),
        ("floats", "decode"),
        ("large", "decode"),
    ]
    assert [failure.reason for failure in result.failures] == [
        "not an image: Pillow recognises no format in its content",
        "cannot be read: gone",
        f"has pixels float32 {pixels[0].shape}, expected uint8 {pixels[0].shape}: arrays are not resized",
        f"has pixels uint8 (9, 9, 1), expected uint8 {pixels[0].shape}: arrays are not resized",
    ]
    assert result.counts == Counts(num_inputs=6, num_predicted=2)


@pytest.mark.parametrize("items", [[], [Item.of_bytes("text", b"this is text")]])
def test_a_batch_without_a_good_item_runs_no_inference(shared_bundle: Bundle, items: list[Item]) -> None:
    def run(feed: object) -> dict[str, NDArray[np.float32]]:
        raise AssertionError("nothing to run")

    options = PredictOptions(logits=True)
    result = predict_batch(run, signature_of(shared_bundle), items, options)
    assert result.counts == Counts(num_inputs=len(items))
    assert [failure.input for failure in result.failures] == [item.name for item in items]
    assert {name: len(values) for name, values in result.to_columns().items()} == dict.fromkeys(
        ("input", "label", "index", "probability", "logits"), 0
    )
    assert result.to_columns()["logits"].shape == (0, 10)


def test_an_array_and_an_engine_give_the_rows_of_the_backend(
    shared_bundle: Bundle, backend: Backend, pixels: NDArray[np.uint8]
) -> None:
    engine = open_engine(shared_bundle, PredictOptions(num_threads=1))
    array = Pixels("x", pixels[:4])
    result = predict_batch(engine.run, engine.signature, array)
    assert result.to_columns()["input"].tolist() == ["x[0]", "x[1]", "x[2]", "x[3]"]
    several = predict_batch(engine.run, engine.signature, Batch((array[:1], Images([]), array[1:])))
    for columns in (result.to_columns(), several.to_columns()):
        # another batch size may add in another order
        np.testing.assert_allclose(
            columns["probability"], backend.run(pixels[:4])[PROBABILITIES].max(1), atol=1e-5, rtol=1e-5
        )


def test_labels_of_items_are_counted(shared_bundle: Bundle, backend: Backend, pixels: NDArray[np.uint8]) -> None:
    signature = signature_of(shared_bundle)
    right = [signature.labels[index] for index in backend.run(pixels[:3])[LOGITS].argmax(1)]
    wrong = next(label for label in signature.labels if label != right[1])
    items = [Item.of_pixels(str(at), pixels[at], label=label) for at, label in enumerate((right[0], wrong, "unknown"))]
    items.append(Item.of_bytes("text", b"", label=right[0]))
    assert predict_batch(backend.run, signature, items).counts == Counts(4, 3, num_labelled=2, num_correct=1)


def test_a_top_k_beyond_the_classes_is_a_usage_error(shared_bundle: Bundle, backend: Backend) -> None:
    with pytest.raises(UsageError, match="expected 1 to 10"):
        predict_batch(backend.run, signature_of(shared_bundle), [], PredictOptions(top_k=11))
