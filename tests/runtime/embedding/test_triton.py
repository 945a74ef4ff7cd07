from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onward
from onward.bundle import Bundle
from onward.embedding import embed
from onward.embedding.triton import write_repository
from onward.errors import BundleError, UsageError
from tests.bundles import path_of
from tests.needs import needs_onnx

#: ONNX's name, Triton's name, and the name of NVIDIA's protocol, of a data type.
DATA_TYPES = [
    ("FLOAT", "TYPE_FP32", "FP32"), ("INT64", "TYPE_INT64", "INT64"), ("INT32", "TYPE_INT32", "INT32"),
    ("UINT8", "TYPE_UINT8", "UINT8"), ("BOOL", "TYPE_BOOL", "BOOL"),
]  # fmt: skip
HOSTILE = (
    '"quoted"',
    "back\\slash",
    "'; drop",
    "<script>alert(1)</script>",
    "täglich 猫",
    "tab\tand\rreturn",
    " ",
    "}{#",
)
LAW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(bundle: Bundle, folder: Path, name: str) -> None:
    """The repository of the bundle's float32 model."""
    write_repository(bundle, bundle.preferred("onnx"), folder, name)


@pytest.fixture(scope="module")
def bundles(shared_bundle: Bundle) -> dict[str, Bundle]:
    return {"digits": shared_bundle} | {
        name: Bundle.open(path_of(name)) for name in ("planes", "any-size", "five-inputs")
    }


@pytest.fixture(scope="session")
def schema() -> Any:
    """NVIDIA's published schema, as their client's package has it, without the gRPC that it is made for."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        if os.environ.get("CI"):
            pytest.fail("under CI, tritonclient of the dev group must be there")
        pytest.skip("tritonclient is not installed")
    path = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_labels(bundle: Bundle, labels: tuple[str, ...]) -> Bundle:
    return replace(bundle, signature=replace(bundle.signature, labels=labels))


def read_config(schema: Any, folder: Path, name: str = "model") -> Any:
    return text_format.Parse((folder / name / "config.pbtxt").read_text("ascii"), schema.ModelConfig())


@needs_onnx
@pytest.mark.parametrize("kind", ["digits", "planes", "any-size", "five-inputs"])
def test_the_configuration_says_of_every_tensor_what_the_onnx_file_says(
    bundles: dict[str, Bundle], schema: Any, tmp_path: Path, kind: str
) -> None:
    write(bundles[kind], tmp_path, "model")
    config = read_config(schema, tmp_path)
    import onnx

    graph = onnx.load(tmp_path / "model" / "1" / "model.onnx").graph
    to_triton = {getattr(onnx.TensorProto, name): triton for name, triton, _ in DATA_TYPES}
    for said, tensors in ((config.input, graph.input), (config.output, graph.output)):
        assert [item.name for item in said] == [tensor.name for tensor in tensors]
        for item, tensor in zip(said, tensors, strict=True):
            batch, *sides = tensor.type.tensor_type.shape.dim
            assert batch.dim_param, "Triton's batches need an axis of any size"
            expected = [-1 if side.dim_param else side.dim_value for side in sides]
            shape = list(item.reshape.shape) if item.HasField("reshape") else list(item.dims)
            assert shape == expected
            assert len(item.dims) > 0
            assert schema.DataType.Name(item.data_type) == to_triton[tensor.type.tensor_type.elem_type]
    assert (config.name, config.backend, config.default_model_filename) == ("model", "onnxruntime", "model.onnx")


def test_batches_are_as_large_as_those_of_onward(bundles: dict[str, Bundle], schema: Any, tmp_path: Path) -> None:
    write(bundles["digits"], tmp_path, "model")
    config = read_config(schema, tmp_path)
    assert config.max_batch_size == 1024
    assert list(config.dynamic_batching.preferred_batch_size) == [1024]
    assert 0 < config.dynamic_batching.max_queue_delay_microseconds < 1000
    assert schema.ModelInput.Format.Name(config.input[0].format) == "FORMAT_NHWC"


def test_a_gpu_computes_in_whole_float32(bundles: dict[str, Bundle], schema: Any, tmp_path: Path) -> None:
    write(bundles["digits"], tmp_path, "model")
    (accelerator,) = read_config(schema, tmp_path).optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})


def test_the_model_runs_from_where_it_was_put_with_its_weights_beside_it(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    write(bundles["any-size"], tmp_path, "model")
    folder = tmp_path / "model" / "1"
    assert sorted(path.name for path in folder.iterdir()) == ["model.onnx", "model.onnx.data"]
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 9, 3), np.uint8)
    logits, _ = ort.InferenceSession(folder / "model.onnx").run(None, {"image": images})
    np.testing.assert_array_equal(logits, onward.load(bundles["any-size"].path)(images).logits)


@LAW
@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])), min_size=2, unique=True))
def test_every_class_has_its_line(bundles: dict[str, Bundle], tmp_path_factory: Any, labels: list[str]) -> None:
    folder = tmp_path_factory.mktemp("labels")
    write(with_labels(bundles["digits"], tuple(labels)), folder, "model")
    assert (folder / "model" / "labels.txt").read_bytes().decode().split("\n")[:-1] == labels


@LAW
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_is_read_back_as_it_was(
    bundles: dict[str, Bundle], schema: Any, tmp_path_factory: Any, text: str
) -> None:
    folder = tmp_path_factory.mktemp("licence")
    bundle = bundles["digits"]
    write(replace(bundle, provenance={**bundle.provenance, "licence": text}), folder, "model")
    parameters = read_config(schema, folder).parameters
    assert parameters["licence"].string_value == text
    assert parameters["sha256"].string_value == bundle.artifact("onnx").file.sha256


def test_hostile_labels_stand_in_the_label_file_alone(bundles: dict[str, Bundle], schema: Any, tmp_path: Path) -> None:
    write(with_labels(bundles["digits"], HOSTILE), tmp_path, "model")
    config = read_config(schema, tmp_path)
    assert [item.label_filename for item in config.output] == ["labels.txt", "labels.txt"]
    assert list(config.output[0].dims) == [len(HOSTILE)]
    assert not any(label in (tmp_path / "model" / "config.pbtxt").read_text() for label in HOSTILE if label.strip())


def test_a_label_that_no_line_can_hold_is_refused(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"label .*Export the model with"):
        write(with_labels(bundles["digits"], ("two\nlines", "b")), tmp_path, "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\\b", "a b", 'a"', "-rf", "a\n", "ä"])
def test_a_name_that_is_no_safe_folder_is_refused(bundles: dict[str, Bundle], tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a Triton model"):
        write(bundles["digits"], tmp_path / "out", name)
    assert not (tmp_path / "out").exists()


def test_a_changed_model_is_not_served(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.path / "model.onnx"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError):
        write(bundle, tmp_path / "out", "model")


class ModelServer(BaseHTTPRequestHandler):
    """What Triton's protocol answers of one model, by onnxruntime: enough to try the README's commands."""

    session: ort.InferenceSession
    labels: list[str]
    name: str

    def do_GET(self) -> None:
        assert self.path == f"/v2/models/{self.name}"
        names = {f"tensor({kind})": name for kind, name in zip(
            ("float", "int64", "int32", "uint8", "bool"), (name for *_, name in DATA_TYPES), strict=True
        )}  # fmt: skip
        inputs = [
            {
                "name": item.name,
                "datatype": names[item.type],
                "shape": [
                    side if isinstance(side, int) else -1 for side in (*item.shape, *[1] * (len(item.shape) < 2))
                ],
            }
            for item in self.session.get_inputs()
        ]
        self.answer({"name": self.name, "inputs": inputs})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        feed = {}
        for item, taken in zip(request["inputs"], self.session.get_inputs(), strict=True):
            array = np.array(item["data"]).reshape(item["shape"])
            assert (array.dtype == bool) == (item["datatype"] == "BOOL")
            dtype = {"FP32": "float32"}.get(item["datatype"], item["datatype"].lower())
            feed[item["name"]] = array.astype(dtype).reshape(item["shape"][: len(taken.shape)])
        (output,) = request["outputs"]
        (values,) = self.session.run([output["name"]], feed)
        best = np.argsort(-values[0])[: output["parameters"]["classification"]]
        self.answer({"outputs": [{"data": [f"{values[0][at]:f}:{at}:{self.labels[at]}" for at in best]}]})

    def answer(self, document: dict[str, Any]) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[int]:
    session = ort.InferenceSession(folder / "1" / "model.onnx")
    labels = (folder / "labels.txt").read_text().splitlines()
    handler = type("Handler", (ModelServer,), {"session": session, "labels": labels, "name": folder.name})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("kind", ["digits", "planes", "any-size", "five-inputs"])
def test_the_example_of_the_readme_fits_every_model(bundles: dict[str, Bundle], tmp_path: Path, kind: str) -> None:
    embed(bundles[kind], "triton", tmp_path / "app")
    (model,) = (path for path in (tmp_path / "app").iterdir() if path.is_dir())
    readme = (tmp_path / "app" / "README.md").read_text()
    assert "$name" not in readme
    assert "This was not tested with a server." in readme
    (program,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    with serve(model) as port:
        result = subprocess.run(
            [sys.executable, "-c", program.replace(":8000", f":{port}").replace("localhost", "127.0.0.1")],
            capture_output=True, text=True, check=False, timeout=60, env=os.environ | {"no_proxy": "*"},
        )  # fmt: skip
    assert not result.stderr
    (found,) = eval(result.stdout)
    assert len(found["data"]) == min(3, bundles[kind].signature.num_classes)
    assert re.fullmatch(r"\d\.\d+:\d:\w+", found["data"][0])
