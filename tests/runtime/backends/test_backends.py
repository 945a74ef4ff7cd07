from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onward.backends import Threads, open_artifact, open_backend
from onward.backends.backend import Backend
from onward.bundle import Bundle
from onward.errors import BackendError, BundleError, FeedError
from onward.parity import MAX_NOISE_RATIO, regroup
from onward.tasks.classification import OUTPUTS, PROBABILITIES
from tests.needs import FORMATS, needs_pt2, needs_torch

TORCH = [pytest.param(name, marks=needs_torch) for name in FORMATS[1:]]
ALL = ["onnx", *TORCH]
LAW = settings(max_examples=30, deadline=None)


@pytest.fixture(scope="module", params=ALL)
def backend(request: pytest.FixtureRequest, shared_bundle: Bundle) -> Backend:
    return open_artifact(shared_bundle, shared_bundle.artifact(request.param))


@pytest.fixture(scope="module")
def images(digits: Any) -> NDArray[np.uint8]:
    """Real test images, uint8 `(40, 8, 8, 1)`."""
    return digits.test.images[:40]


@pytest.fixture(scope="module")
def tolerance(shared_bundle: Bundle) -> dict[str, float]:
    """How far two float32 computations of this network may be apart, by output.

    The gate lets each be `MAX_NOISE_RATIO` noise floors from the float64 reference, and so the two be twice that
    from each other.
    """
    noise = shared_bundle.golden().noise
    return {name: 2 * MAX_NOISE_RATIO * max(table[name].floor for table in noise.values()) for name in OUTPUTS}


def assert_close(
    found: dict[str, NDArray[np.float32]], expected: dict[str, NDArray[np.float32]], tolerance: dict[str, float]
) -> None:
    assert set(found) == set(expected) == set(OUTPUTS)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=0, atol=tolerance[name])


def test_every_backend_gives_the_outputs_of_the_checkpoints_network(
    backend: Backend, checkpoint: Any, images: NDArray[np.uint8], tolerance: dict[str, float]
) -> None:
    import torch

    from onward_export.deployable import Deployable

    with torch.inference_mode():
        outputs = Deployable(checkpoint.network(), checkpoint.signature)(torch.tensor(images))
    expected = {name: tensor.numpy() for name, tensor in zip(OUTPUTS, outputs, strict=True)}
    found = backend.run(images)
    assert_close(found, expected, tolerance)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_probabilities_are_probabilities(backend: Backend, images: NDArray[np.uint8]) -> None:
    probabilities = backend.run(images)[PROBABILITIES]
    assert probabilities.min() >= 0
    # Ten float32 terms, each rounded by up to half a unit in the last place of 1.
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=0, atol=10 * np.finfo(np.float32).eps)


@LAW
@given(st.integers(1, 41), st.integers(1, 40))
def test_splitting_a_batch_changes_nothing_but_rounding(
    backend: Backend, images: NDArray[np.uint8], tolerance: dict[str, float], batch_size: int, count: int
) -> None:
    assert_close(regroup(backend.run, images[:count], batch_size), backend.run(images[:count]), tolerance)


def test_the_same_batch_gives_the_same_bits(backend: Backend, images: NDArray[np.uint8]) -> None:
    first, second = backend.run(images), backend.run(images)
    for name in OUTPUTS:
        np.testing.assert_array_equal(first[name], second[name])


def test_outputs_stay_when_the_next_batch_is_run(backend: Backend, images: NDArray[np.uint8]) -> None:
    first = backend.run(images[:8])
    kept = {name: array.copy() for name, array in first.items()}
    backend.run(images[8:16])
    for name in OUTPUTS:
        np.testing.assert_array_equal(first[name], kept[name])


def test_the_input_is_left_as_it_was(backend: Backend, images: NDArray[np.uint8]) -> None:
    before = images.copy()
    backend.run(images)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    "view",
    [
        lambda images: images[:, :, ::-1],
        lambda images: images[::-2],
        lambda images: images.transpose(0, 2, 1, 3),
        lambda images: np.asfortranarray(images),
        lambda images: np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape),
    ],
    ids=["mirrored", "reversed", "transposed", "fortran", "read-only"],
)
def test_the_memory_layout_of_a_batch_does_not_matter(
    backend: Backend, images: NDArray[np.uint8], view: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> None:
    laid_out = view(images)
    expected = backend.run(np.ascontiguousarray(laid_out).copy())
    found = backend.run(laid_out)
    for name in OUTPUTS:
        np.testing.assert_array_equal(found[name], expected[name])


def test_an_empty_batch_gives_empty_outputs(backend: Backend, images: NDArray[np.uint8]) -> None:
    assert {array.shape for array in backend.run(images[:0]).values()} == {(0, 10)}


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((4, 8, 8), "the channel axis is missing"),
        ((4, 8, 8, 3), "it has 3 channels, the model takes 1"),
        ((4, 1, 8, 8), "the channel axis belongs last"),
        ((4, 9, 8, 1), ""),
        ((8, 8, 1), ""),
        ((8, 8), ""),
        ((4, 1, 8, 8, 1), ""),
    ],
)
def test_a_batch_of_another_shape_is_a_feed_error(backend: Backend, shape: tuple[int, ...], reason: str) -> None:
    with pytest.raises(FeedError) as caught:
        backend.run(np.zeros(shape, np.uint8))
    expected = f"input 'image' has shape {shape}, expected (batch, 8, 8, 1)" + (f": {reason}." if reason else ".")
    assert str(caught.value) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
def test_a_batch_of_another_dtype_is_a_feed_error(backend: Backend, dtype: type) -> None:
    with pytest.raises(FeedError, match=f"input 'image' is {np.dtype(dtype)}, expected uint8: raw pixels"):
        backend.run(np.zeros((4, 8, 8, 1), dtype))


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("onnx", "onnx (CPU)"),
        pytest.param("torchscript", "torchscript (CPU)", marks=needs_torch),
        pytest.param("pt2", "pt2 (CPU)", marks=(needs_torch, needs_pt2)),
    ],
)
def test_a_backend_says_what_it_is_and_where_it_runs(shared_bundle: Bundle, format: str, name: str) -> None:
    assert open_artifact(shared_bundle, shared_bundle.artifact(format)).name == name


@pytest.mark.parametrize("format", ALL)
def test_the_number_of_threads_changes_nothing_but_rounding(
    shared_bundle: Bundle, format: str, images: NDArray[np.uint8], tolerance: dict[str, float]
) -> None:
    artifact = shared_bundle.artifact(format)
    one, two = (open_artifact(shared_bundle, artifact, threads=Threads(count)).run(images) for count in (1, 2))
    assert_close(one, two, tolerance)


def test_whether_threads_wait_busily_changes_no_bit(shared_bundle: Bundle, images: NDArray[np.uint8]) -> None:
    artifact = shared_bundle.artifact("onnx")
    busy, asleep = (
        open_artifact(shared_bundle, artifact, threads=Threads(2, spin=spin)).run(images) for spin in (True, False)
    )
    for name in OUTPUTS:
        np.testing.assert_array_equal(busy[name], asleep[name])


def test_threads_are_those_given_or_the_cores_of_this_process() -> None:
    assert Threads(3).count == 3
    assert Threads().count >= 1


def foreign_zip() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("model/hello.txt", "no model")
    return data.getvalue()


@pytest.mark.parametrize("format", ALL)
@pytest.mark.parametrize("data", [b"", b"\0", b"not a model at all" * 100, foreign_zip()], ids=len)
def test_what_is_no_model_is_a_backend_error(shared_bundle: Bundle, format: str, data: bytes) -> None:
    with pytest.raises(BackendError, match="cannot open"):
        open_backend(format, data, shared_bundle.signature)


@pytest.mark.parametrize("format", ALL)
@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.75, 0.99])
def test_a_model_cut_short_is_a_backend_error(shared_bundle: Bundle, format: str, share: float) -> None:
    data = shared_bundle.read(shared_bundle.artifact(format).file)
    with pytest.raises(BackendError):
        open_backend(format, data[: int(share * len(data))], shared_bundle.signature)


@pytest.mark.parametrize(
    ("format", "other"),
    [pytest.param(*pair, marks=needs_torch if pair[0] != "onnx" else ()) for pair in permutations(FORMATS, 2)],
)
def test_a_model_of_another_format_is_a_backend_error(shared_bundle: Bundle, format: str, other: str) -> None:
    with pytest.raises(BackendError):
        open_backend(format, shared_bundle.read(shared_bundle.artifact(other).file), shared_bundle.signature)


def test_an_onnx_file_with_other_inputs_is_a_backend_error(shared_bundle: Bundle) -> None:
    onnx = pytest.importorskip("onnx", reason="makes a foreign ONNX file")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "foreign",
        [value("x", onnx.TensorProto.FLOAT, [1])],
        [value("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(BackendError, match=r"inputs and outputs \['x', 'y'\], expected"):
        open_backend("onnx", model.SerializeToString(), shared_bundle.signature)


def test_an_unknown_format_is_a_backend_error(shared_bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="format 'tflite', which this Onward cannot run"):
        open_backend("tflite", b"", shared_bundle.signature)


@pytest.mark.parametrize("format", TORCH)
def test_pytorch_runs_on_no_execution_provider_of_onnxruntime(shared_bundle: Bundle, format: str) -> None:
    with pytest.raises(BackendError, match="PyTorch runs on cpu or cuda, not on 'openvino'"):
        open_artifact(shared_bundle, shared_bundle.artifact(format), provider="openvino")


@pytest.mark.parametrize("format", TORCH)
def test_a_missing_cuda_device_is_a_backend_error(shared_bundle: Bundle, format: str) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("PyTorch has a CUDA device here")
    with pytest.raises(BackendError, match="finds no CUDA device here"):
        open_artifact(shared_bundle, shared_bundle.artifact(format), provider="cuda")


@pytest.mark.parametrize("format", ALL)
def test_an_artifact_that_was_changed_is_not_run(bundle: Bundle, format: str) -> None:
    artifact = bundle.artifact(format)
    path = bundle.locate(artifact.file)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BundleError, match="was changed"):
        open_artifact(bundle, artifact)
