from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onward.backends import open_artifact
from onward.backends.onnxruntime_backend import BoundSession, SessionBackend, pinned_memory
from onward.backends.providers import CUDA, available_providers
from onward.bundle import Bundle
from onward.tasks.classification import OUTPUTS

ROOT = Path(__file__).parents[3]
LAW = settings(max_examples=30, deadline=None)


@pytest.fixture(scope="module")
def backend(shared_bundle: Bundle) -> SessionBackend:
    opened = open_artifact(shared_bundle, shared_bundle.artifact("onnx"))
    assert isinstance(opened, SessionBackend)
    return opened


@pytest.fixture(scope="module")
def bound(backend: SessionBackend) -> BoundSession:
    """The path that a card takes, on the processor."""
    return BoundSession(backend.session, OUTPUTS)


@pytest.fixture(scope="module")
def digits_pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)


def test_the_processor_is_run_without_binding(backend: SessionBackend) -> None:
    assert backend.bound is None


@LAW
@given(st.integers(0, 40))
def test_a_bound_run_gives_the_bits_of_a_plain_one(
    backend: SessionBackend, bound: BoundSession, digits_pixels: NDArray[np.uint8], count: int
) -> None:
    images = digits_pixels[:count]
    for found, expected in zip(bound.run({"image": images}), backend.run(images).values(), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "view",
    [
        lambda images: images[:, :, ::-1],
        lambda images: images.transpose(0, 2, 1, 3),
        lambda images: np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape),
    ],
    ids=["mirrored", "transposed", "read-only"],
)
def test_the_memory_layout_of_a_batch_does_not_matter(
    backend: SessionBackend,
    bound: BoundSession,
    digits_pixels: NDArray[np.uint8],
    view: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> None:
    images = view(digits_pixels)
    for found, expected in zip(bound.run({"image": images}), backend.run(images).values(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_outputs_stay_when_the_next_batch_is_run(bound: BoundSession, digits_pixels: NDArray[np.uint8]) -> None:
    first = bound.run({"image": digits_pixels[:8]})
    kept = [array.copy() for array in first]
    for _ in range(20):
        bound.run({"image": digits_pixels[8:16]})
    for found, expected in zip(first, kept, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_threads_do_not_write_into_each_others_batches(
    backend: SessionBackend, bound: BoundSession, digits_pixels: NDArray[np.uint8]
) -> None:
    assert_threads_agree(backend, bound, digits_pixels)


def test_staged_memory_gives_the_same_bits_from_several_threads(shared_bundle: Bundle) -> None:
    """In a process of its own, because memory for the processor is registered with onnxruntime for good."""
    result = subprocess.run(
        [sys.executable, "-c", STAGED, shared_bundle.path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if result.stdout.startswith("skip"):
        pytest.skip(result.stdout)
    assert (result.returncode, result.stdout.strip()) == (0, "staged"), result.stderr


STAGED = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np, onnxruntime as ort
from onward.backends import open_artifact
from onward.backends.onnxruntime_backend import BoundSession, _is_shared
from onward.bundle import Bundle
from onward.tasks.classification import OUTPUTS

memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_DEVICE_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
assert not _is_shared(memory)  # nobody registered it
ort.create_and_register_allocator(memory, None)
if not _is_shared(memory):
    sys.exit(print("skip: this onnxruntime hands out no memory to write to"))
bundle = Bundle.open(sys.argv[1])
backend = open_artifact(bundle, bundle.artifact("onnx"))
bound = BoundSession(backend.session, OUTPUTS, memory=memory)
images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), np.uint8)
batches = [images[at : at + size] for at in range(0, 40, 4) for size in (0, 1, 8)] * 20
batches += [batch[:, ::-1] for batch in batches]
expected = [backend.run(batch) for batch in batches]
with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda batch: bound.run({"image": batch}), batches))
for outputs, wanted in zip(found, expected, strict=True):
    for array, name in zip(outputs, OUTPUTS, strict=True):
        np.testing.assert_array_equal(array, wanted[name])
print("staged")
"""


def test_without_a_card_there_is_no_pinned_memory() -> None:
    if Path("/dev/nvidia0").exists() and CUDA in available_providers():
        pytest.skip("this machine has a card")
    assert pinned_memory() is None


@pytest.mark.skipif(CUDA not in available_providers(), reason=f"this onnxruntime has no {CUDA}")
def test_a_card_is_run_bound_if_it_gives_out_pinned_memory(
    shared_bundle: Bundle, digits_pixels: NDArray[np.uint8]
) -> None:
    if not Path("/dev/nvidia0").exists():
        pytest.skip("onnxruntime-gpu is installed, and this machine has no NVIDIA device")
    backend = open_artifact(shared_bundle, shared_bundle.artifact("onnx"), provider="cuda")
    assert isinstance(backend, SessionBackend)
    memory = pinned_memory()
    assert (backend.bound is None) == (memory is None)
    assert_threads_agree(backend, BoundSession(backend.session, OUTPUTS, memory=memory), digits_pixels)


def assert_threads_agree(backend: SessionBackend, bound: BoundSession, images: NDArray[np.uint8]) -> None:
    batches = [images[at : at + 8] for at in range(0, 32, 4)] * 25
    expected = [backend.session.run(OUTPUTS, {"image": batch}) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for outputs, wanted in zip(pool.map(lambda batch: bound.run({"image": batch}), batches), expected, strict=True):
            for found, array in zip(outputs, wanted, strict=True):
                np.testing.assert_array_equal(found, array)
