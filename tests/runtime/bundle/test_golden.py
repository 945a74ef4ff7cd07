from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onward.bundle import Bundle
from onward.bundle.golden import GoldenRecord, load_outputs, save_outputs
from onward.errors import BundleError
from onward.npz import read_arrays, write_arrays
from onward.parity import Noise

LAW = settings(max_examples=40, deadline=None)
KINDS = ("real", "random", "constant")
OUTPUTS = ("logits", "probabilities")


@st.composite
def records(draw: st.DrawFn) -> GoldenRecord:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, unique=True))
    count = draw(st.integers(1, 3))

    def table(dtype: type) -> dict[str, dict[str, Any]]:
        elements = st.floats(allow_nan=False, width=32)
        return {kind: {name: draw(arrays(dtype, (count, 2), elements=elements)) for name in OUTPUTS} for kind in kinds}

    figures = st.floats(0, exclude_min=True, allow_infinity=False)
    noise = st.builds(Noise, figures, figures, figures, st.booleans())
    return GoldenRecord(
        inputs={kind: draw(arrays(np.uint8, (count, 2, 3, 1))) for kind in kinds},
        reference=table(np.float64),
        eager=table(np.float32),
        noise={kind: {name: draw(noise) for name in OUTPUTS} for kind in kinds},
    )


def saved(record: GoldenRecord) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "golden.npz")
        record.save(path)
        return path.read_bytes()


def archive(**members: Any) -> bytes:
    data = io.BytesIO()
    np.savez(data, **members)
    return data.getvalue()


def assert_same(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        if isinstance(value, np.ndarray):
            assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape)
            np.testing.assert_array_equal(found[key], value)
        elif isinstance(value, Noise):
            assert found[key] == value
        else:
            assert_same(found[key], value)


@LAW
@given(records())
def test_what_is_saved_loads_equal(record: GoldenRecord) -> None:
    loaded = GoldenRecord.load(saved(record))
    for part in ("inputs", "reference", "eager", "noise"):
        assert_same(getattr(loaded, part), getattr(record, part))


@LAW
@given(records())
def test_the_same_record_gives_the_same_bytes(record: GoldenRecord) -> None:
    assert saved(record) == saved(GoldenRecord.load(saved(record)))


@LAW
@given(records())
def test_saved_outputs_load_equal(record: GoldenRecord) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "onnx.npz")
        save_outputs(path, record.eager)
        assert_same(load_outputs(path.read_bytes()), record.eager)


@LAW
@given(records(), st.dictionaries(st.sampled_from(KINDS), st.integers(0, 4)))
def test_a_selection_holds_the_first_samples_and_the_noise_of_all(record: GoldenRecord, counts: dict[str, int]) -> None:
    selected = record.select(counts)
    assert set(selected.inputs) == {kind for kind, count in counts.items() if count and kind in record.inputs}
    for kind, images in selected.inputs.items():
        np.testing.assert_array_equal(images, record.inputs[kind][: counts[kind]])
        assert selected.noise[kind] == record.noise[kind]
        for name in OUTPUTS:
            np.testing.assert_array_equal(selected.reference[kind][name], record.reference[kind][name][: counts[kind]])
            np.testing.assert_array_equal(selected.eager[kind][name], record.eager[kind][name][: counts[kind]])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"not an archive",
        archive(),
        archive(plain=np.zeros(3)),
        archive(**{"input/real": np.zeros(3, np.uint8)}),
        archive(**{"noise/real/logits": np.zeros(2)}),
        archive(**{"noise/real/logits": np.array([0.0, 1.0, 1.0, 1.0])}),
        archive(**{"noise/real/logits": np.array([1.0, np.nan, 1.0, 1.0])}),
        archive(**{"noise/real/logits": np.array([np.inf, 1.0, 1.0, 1.0])}),
        archive(**{"noise/real/logits": np.array("text")}),
    ],
)
def test_what_is_no_golden_record_is_a_bundle_error(data: bytes) -> None:
    with pytest.raises(BundleError):
        GoldenRecord.load(data)


@pytest.mark.parametrize("load", [GoldenRecord.load, load_outputs])
def test_a_single_array_is_a_bundle_error(load: Any) -> None:
    data = io.BytesIO()
    np.save(data, np.zeros(3))
    with pytest.raises(BundleError):
        load(data.getvalue())


def test_an_archive_that_says_it_is_encrypted_is_a_bundle_error() -> None:
    data = bytearray(archive(**{"input/real": np.zeros(3, np.uint8)}))
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flags of its one entry: APPNOTE.TXT, 4.3.12 and 4.4.4
    for load in (GoldenRecord.load, load_outputs):
        with pytest.raises(BundleError):
            load(bytes(data))


def test_pickled_objects_are_never_loaded() -> None:
    with pytest.raises(BundleError, match="holds Python objects, which are never loaded"):
        load_outputs(archive(**{"real/logits": np.array([{}], object)}))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_record_cut_short_is_a_bundle_error(shared_bundle: Bundle, data: st.DataObject) -> None:
    whole = (shared_bundle.path / "golden.npz").read_bytes()
    with pytest.raises(BundleError):
        GoldenRecord.load(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_record_is_a_bundle_error_or_a_record(shared_bundle: Bundle, data: st.DataObject) -> None:
    damaged = bytearray((shared_bundle.path / "golden.npz").read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert GoldenRecord.load(bytes(damaged)).inputs
    except BundleError:
        pass


def test_a_record_passes_its_own_eager_outputs(shared_bundle: Bundle) -> None:
    record = shared_bundle.golden()
    answers = {image.tobytes(): (kind, at) for kind, images in record.inputs.items() for at, image in enumerate(images)}

    def eager(images: Any) -> dict[str, Any]:
        rows = [answers[image.tobytes()] for image in images]
        return {name: np.stack([record.eager[kind][name][at] for kind, at in rows]) for name in OUTPUTS}

    verdict = record.judge("eager", eager)
    assert verdict.passed
    assert verdict.artifact == "eager"
    # One of the ways over which the noise floor was pooled, and so never above it.
    assert max(row.noise_ratio for row in verdict.comparisons) <= 1


def test_an_array_may_have_any_name(tmp_path: Path) -> None:
    named = {name: np.arange(3.0) for name in ("file", "allow_pickle", "args", "input/real/x")}
    write_arrays(tmp_path / "a.npz", named)
    found = dict(read_arrays((tmp_path / "a.npz").read_bytes(), "a.npz"))
    assert list(found) == list(named)
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(tmp_path / "b.npz", {"x": np.array([object()])})
