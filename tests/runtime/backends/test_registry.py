"""Each backend of the registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

import onward
from onward.backends import BACKENDS, Threads, backend_for, backends_of, open_artifact, open_backend, registry
from onward.backends.backend import Backend
from onward.backends.providers import CPU
from onward.bundle import Bundle
from onward.errors import BackendError
from onward.feed import check_feed
from onward.signature import Signature
from onward.tasks.classification import OUTPUTS
from tests.bundles import path_of
from tests.needs import FORMATS, needs_pt2, needs_torch

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
NAMES = {
    "onnx": "onnxruntime, openvino",
    "torchscript": "torchscript",
    "pt2": "torch, torch-channels-last, torch-compile, pt2",
}


def require(name: str) -> None:
    if name and BACKENDS[name].format != "onnx":
        pytest.importorskip("torch", reason="PyTorch is not installed here")
    if name and BACKENDS[name].format not in FORMATS:
        pytest.skip("PyTorch before 2.9 writes no .pt2 without pickles")
    if name == "openvino" and not os.environ.get("CI"):
        pytest.importorskip("openvino", reason="openvino is not installed: `make test` installs it")
    if name == "torch-compile" and not os.environ.get("CI") and not shutil.which(os.environ.get("CXX", "g++")):
        pytest.skip("there is no C++ compiler here, which torch.compile needs")


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest, shared_bundle: Bundle) -> Backend:
    require(request.param)
    artifact = shared_bundle.artifact(BACKENDS[request.param].format)
    return open_artifact(shared_bundle, artifact, threads=Threads(1), backend=request.param)


def test_every_backend_gives_what_the_golden_record_says(backend: Backend, shared_bundle: Bundle) -> None:
    golden = shared_bundle.golden()
    if "compiled" in backend.name:
        golden = golden.select({"real": 2})  # batches of 1 and 2: each size is seconds of compiling
    verdict = golden.judge(backend.name, backend.run)
    assert verdict.passed, verdict


def test_infer_gives_what_run_names(backend: Backend, pixels: NDArray[np.uint8]) -> None:
    assert backend.signature is not None
    assert (backend.inputs, backend.outputs) == (("image",), OUTPUTS)
    found = backend.infer(check_feed(pixels[:2], backend.signature))
    expected = backend.run(pixels[:2])
    assert [array.dtype for array in found] == [np.float32, np.float32]
    for array, name in zip(found, backend.outputs, strict=True):
        np.testing.assert_array_equal(array, expected[name])


def test_what_infer_gave_stays_and_what_it_took_is_untouched(backend: Backend, pixels: NDArray[np.uint8]) -> None:
    images = pixels[:2].copy()
    found = backend.infer({"image": images})
    kept = [array.copy() for array in found]
    backend.infer({"image": pixels[2:4].copy()})
    np.testing.assert_array_equal(images, pixels[:2])
    for array, copy in zip(found, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
    images[...] = 0  # a result that lay in the input's memory would change now
    for array, copy in zip(found, kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_arrays_of_any_memory_give_the_same(backend: Backend, pixels: NDArray[np.uint8]) -> None:
    images = pixels[:2]
    read_only = np.frombuffer(images.tobytes(), np.uint8).reshape(images.shape)
    expected = backend.infer({"image": images.copy()})
    for laid_out in (read_only, np.asfortranarray(images), images[::-1].copy()[::-1]):
        for array, wanted in zip(backend.infer({"image": laid_out}), expected, strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_threads_do_not_write_into_each_others_batches(backend: Backend, pixels: NDArray[np.uint8]) -> None:
    batches = [pixels[at : at + 2] for at in range(0, 40, 2)] * 5
    expected = [backend.run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(backend.run, batches), expected, strict=True):
            for name in OUTPUTS:
                np.testing.assert_array_equal(found[name], wanted[name])


@pytest.mark.parametrize(
    ("format", "backend_name", "name"),
    [
        ("onnx", "onnxruntime", "onnx (CPU)"),
        ("onnx", "openvino", "onnx openvino (CPU)"),
        ("torchscript", "torchscript", "torchscript (CPU)"),
        pytest.param("pt2", None, "pt2 (CPU)", marks=(needs_torch, needs_pt2)),
        ("pt2", "torch", "pt2 (CPU)"),
        ("pt2", "pt2", "pt2 loaded (CPU)"),
        ("pt2", "torch-channels-last", "pt2 channels-last (CPU)"),
    ],
)
def test_a_backend_says_what_runs_it(shared_bundle: Bundle, format: str, backend_name: str | None, name: str) -> None:
    require(backend_name or "")
    assert open_artifact(shared_bundle, shared_bundle.artifact(format), backend=backend_name).name == name


@pytest.mark.parametrize("format", FORMATS)
def test_an_unknown_backend_is_a_backend_error(shared_bundle: Bundle, format: str) -> None:
    with pytest.raises(BackendError) as caught:
        open_artifact(shared_bundle, shared_bundle.artifact(format), backend="tvm")
    assert str(caught.value) == f"a {format} artifact is run by {NAMES[format]}, not by 'tvm'."


@needs_pt2
def test_a_backend_of_another_format_is_a_backend_error(shared_bundle: Bundle) -> None:
    with pytest.raises(
        BackendError, match="a pt2 artifact is run by torch, torch-channels-last, torch-compile, pt2, not by"
    ):
        open_artifact(shared_bundle, shared_bundle.artifact("pt2"), backend="onnxruntime")


@needs_torch
@needs_pt2
def test_channels_last_is_the_layout_of_every_activation(tmp_path: Path) -> None:
    from torch import channels_last, nn

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    signature = Signature(8, 8, 3, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), ("a", "b", "c"))
    bundle = onward.export(network, tmp_path / "model", signature=signature, formats=("pt2",))
    last: Any = open_artifact(bundle, bundle.artifact("pt2"), backend="torch-channels-last")
    eager: Any = open_artifact(bundle, bundle.artifact("pt2"))
    assert all(item.is_contiguous(memory_format=channels_last) for item in activations(last.module))
    assert all(item.is_contiguous() for item in activations(eager.module)[1:])  # [0]: the pixels, permuted
    assert bundle.golden().judge("pt2", last.run).passed


@needs_torch
def test_on_another_device_a_view_copies_where_the_strides_allow_no_view() -> None:
    import torch

    from onward.backends.torch_backend import VARIANTS

    class Rows(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
            return (image.view(2, 12),)

    def run(device: str) -> Any:
        module = VARIANTS["eager"](torch.export.export(Rows(), (torch.zeros(2, 3, 4),)), torch.device(device))
        return module(torch.zeros(2, 4, 3, device=device).transpose(1, 2))

    with pytest.raises(RuntimeError, match="view size is not compatible"):
        run("cpu")  # the processor's own strides are those of the export
    assert run("meta")[0].shape == (2, 12)


def activations(module: Any) -> list[Any]:
    """Those of four axes; of a colour image, because with one channel both layouts are one."""
    import torch
    from torch import Tensor

    seen: list[Tensor] = []

    class Watch(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            result = super().run_node(n)
            if n.op == "call_function" and isinstance(result, Tensor) and result.ndim == 4:
                seen.append(result)
            return result

    with torch.inference_mode():
        Watch(module).run(torch.zeros(2, 8, 8, 3, dtype=torch.uint8))
    assert len(seen) > 4
    return seen


@needs_torch
@needs_pt2
def test_compiling_makes_constants_of_the_weights(
    shared_bundle: Bundle, pixels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the pixels is left to be passed to the code: with weights as arguments it would run as well."""
    from torch._inductor import freezing

    passed: list[int] = []
    freeze = freezing.freeze

    def watch(*arguments: Any) -> Any:
        graph, kept = freeze(*arguments)
        passed.append(len(kept))
        return graph, kept

    monkeypatch.setattr(freezing, "freeze", watch)
    opened = open_artifact(shared_bundle, shared_bundle.artifact("pt2"), backend="torch-compile")
    for _ in range(2):
        opened.run(pixels[:2])
    assert passed == [1]


@needs_torch
@needs_pt2
def test_a_package_that_compiling_lacks_is_named(
    shared_bundle: Bundle, pixels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import freezing

    def freeze(*arguments: Any) -> Any:  # as PyTorch 2.9 and older, before Python 3.12
        raise ModuleNotFoundError("No module named 'setuptools'", name="setuptools")

    monkeypatch.setattr(freezing, "freeze", freeze)
    opened = open_artifact(shared_bundle, shared_bundle.artifact("pt2"), backend="torch-compile")
    with pytest.raises(BackendError, match=r"it needs the package setuptools.*: `pip install setuptools`$"):
        opened.run(pixels[:2])


@needs_torch
@needs_pt2
def test_without_a_compiler_compiling_is_a_backend_error(shared_bundle: Bundle) -> None:
    message = run_python(
        SPOILT.format(path=str(shared_bundle.path), format="pt2", backend="torch-compile"), CXX="no-such-compiler"
    )
    assert message.startswith("the backend 'torch-compile' needs a C++ compiler, and there is none here: install g++")


def test_without_openvino_its_backend_is_a_backend_error(shared_bundle: Bundle) -> None:
    code = "import sys; sys.modules['openvino'] = None\n" + SPOILT
    message = run_python(code.format(path=str(shared_bundle.path), format="onnx", backend="openvino"))
    assert message == (
        "the backend 'openvino' needs OpenVINO, which is not installed here: `pip install 'onward[openvino]'` adds it."
    )


SPOILT = """
from pathlib import Path
from onward.backends import open_artifact
from onward.bundle import Bundle
from onward.errors import BackendError
bundle = Bundle.open(Path({path!r}))
try:
    open_artifact(bundle, bundle.artifact({format!r}), backend={backend!r})
except BackendError as error:
    print(error)
"""


def run_python(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def test_openvino_runs_on_the_processor_only(shared_bundle: Bundle) -> None:
    require("openvino")
    artifact = shared_bundle.artifact("onnx")
    with pytest.raises(BackendError, match="OpenVINO runs on cpu, not on 'cuda'"):
        open_artifact(shared_bundle, artifact, provider="cuda", backend="openvino")


@pytest.mark.parametrize("data", [b"", b"\0", b"not a model at all" * 100], ids=len)
def test_what_openvino_cannot_read_is_a_backend_error(shared_bundle: Bundle, data: bytes) -> None:
    require("openvino")
    with pytest.raises(BackendError, match="cannot open the ONNX file"):
        open_backend("onnx", data, shared_bundle.signature, backend="openvino")


@pytest.fixture(scope="module")
def tensor_bundle() -> Bundle:
    """Two float inputs, the first of which its network writes into; its weights in a file beside the model."""
    return Bundle.open(path_of("two-inputs"))


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "torch-compile"])
def test_several_inputs_in_any_order_are_left_as_they_were(tensor_bundle: Bundle, name: str) -> None:
    require(name)
    backend = open_artifact(tensor_bundle, tensor_bundle.artifact(BACKENDS[name].format), backend=name)
    assert tensor_bundle.golden().judge(backend.name, backend.run).passed
    generator = np.random.default_rng(0)
    feed = {name: generator.standard_normal((4, 6), np.float32) for name in ("second", "first")}
    before = {name: array.copy() for name, array in feed.items()}
    backend.run(feed)
    for name, array in feed.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("format", FORMATS[1:])
def test_pytorchs_formats_need_a_signature(shared_bundle: Bundle, format: str) -> None:
    data = shared_bundle.read(shared_bundle.artifact(format).file)
    with pytest.raises(BackendError, match=f"a {format} artifact needs a signature"):
        open_backend(format, data, None)


# The registry: every table of backends is made from it.


def test_every_entry_names_a_backend_that_can_be_imported() -> None:
    for spec in BACKENDS.values():
        require(spec.name)
        assert issubclass(cast(type, spec.load()), Backend)
        assert spec.module in sys.modules


def test_the_first_backend_of_a_format_is_the_preferred_one() -> None:
    assert {format: backend_for(format).name for format in NAMES} == {
        "onnx": "onnxruntime",
        "torchscript": "torchscript",
        "pt2": "torch",
    }
    assert backend_for("pt2", "torch-compile") is BACKENDS["torch-compile"]
    assert backends_of("tflite") == ()


def test_what_is_missing_and_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "is_installed", lambda distribution: distribution == "onnxruntime")
    reasons = {name: spec.unavailable_reason("cpu") for name, spec in BACKENDS.items()}
    assert reasons == dict.fromkeys(
        ("torch", "torch-channels-last", "torch-compile", "torchscript", "pt2"), "PyTorch is not installed"
    ) | {"onnxruntime": "", "openvino": "OpenVINO is not installed"}
    assert BACKENDS["torch"].install_command == "pip install 'onward[training]'"
    with pytest.raises(BackendError) as caught:
        BACKENDS["pt2"].load()
    assert str(caught.value) == (
        "the backend 'pt2' needs PyTorch, which is not installed here: `pip install 'onward[training]'` adds it. "
        "An ONNX artifact does not need PyTorch."
    )


@pytest.mark.parametrize(
    ("name", "requested", "chosen"),
    [
        ("torch", ["cpu", "tensorrt", "cuda,cpu"], ["cpu", "cuda,cpu"]),
        ("torch", ["tensorrt"], ("cpu",)),
        ("openvino", ["cuda,cpu"], ("cpu",)),
        ("onnxruntime", ["tensorrt", "cpu"], ["tensorrt", "cpu"]),
    ],
)
def test_a_backend_takes_the_requested_providers_that_it_can_run_on(
    name: str, requested: list[str], chosen: list[str]
) -> None:
    assert BACKENDS[name].choose_providers(requested) == chosen


def test_without_a_request_a_backend_takes_what_this_machine_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        registry, "available_providers", lambda: ["CUDAExecutionProvider", "AzureExecutionProvider", CPU]
    )
    monkeypatch.setattr(registry, "NVIDIA_DRIVER", tmp_path / "version")
    names = ("torch", "onnxruntime", "openvino")
    assert [BACKENDS[name].choose_providers(()) for name in names] == [("cpu",), ("cpu", "cuda"), ("cpu",)]
    (tmp_path / "version").touch()
    assert [BACKENDS[name].choose_providers(()) for name in names] == [("cpu", "cuda"), ("cpu", "cuda"), ("cpu",)]
