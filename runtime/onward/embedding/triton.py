"""Triton: writes a model repository for NVIDIA's Triton Inference Server from a bundle.

Source: triton-inference-server, `model_config.proto`, docs/user_guide/model_configuration.md and batcher.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from onward.bundle import Artifact, Bundle
from onward.bundle.onnx_content import read_onnx
from onward.classifier import default_batch_size
from onward.errors import UsageError
from onward.signature import CLASSES, Input, Signature

__all__ = ["write_repository"]

VERSION = "1"
#: The name that Triton's onnxruntime backend looks for.
MODEL = "model.onnx"
LABELS = "labels.txt"
#: The name is used as a folder, as a part of URLs and in metrics.
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
DATA_TYPES = {
    "float32": "TYPE_FP32",
    "int64": "TYPE_INT64",
    "int32": "TYPE_INT32",
    "uint8": "TYPE_UINT8",
    "bool": "TYPE_BOOL",
}
FORMATS = {"pixels": "FORMAT_NHWC", "tensor": "FORMAT_NCHW"}
#: The longest time that a request waits for others to share its batch: short compared with an inference.
MAX_QUEUE_DELAY_US = 100


def write_repository(bundle: Bundle, onnx: Artifact, folder: Path, name: str) -> str:
    """Write `NAME/config.pbtxt`, `NAME/labels.txt` and `NAME/1/model.onnx`, with its external weights.

    Args:
        bundle: An opened bundle.
        onnx: Its ONNX artifact.
        folder: The repository.
        name: The model's name on the server: letters, digits, `_`, `.` and `-`.

    Returns:
        The path of the model file in the repository.

    Raises:
        BundleError: A file was changed.
        UsageError: The name has other characters, or a label does not fit on one line.
    """
    if not SAFE_NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be the name of a Triton model: use letters, digits, _, . and - only.")
    labels = _label_lines(bundle.signature.labels)
    version = folder / name / VERSION
    version.mkdir(parents=True)
    for path, content in read_onnx(bundle, onnx).items():
        # the model refers to the files beside it by a relative path
        beside = Path(path).relative_to(Path(onnx.file.path).parent)
        (version / (MODEL if path == onnx.file.path else beside)).write_bytes(content)
    (folder / name / LABELS).write_bytes(labels)
    (folder / name / "config.pbtxt").write_text("\n".join(_config(bundle, onnx, name)) + "\n", "ascii", newline="\n")
    return f"{name}/{VERSION}/{MODEL}"


def _label_lines(labels: tuple[str, ...]) -> bytes:
    r"""One label per line; Triton splits at `\n` and at nothing else.

    A label with a line break is refused: it would shift the labels of all later classes.
    """
    for label in labels:
        if "\n" in label:
            raise UsageError(
                f"label {label!r} has a line break, but Triton reads one label per line. "
                "Export the model with labels of one line each."
            )
    return "".join(f"{label}\n" for label in labels).encode()


def _config(bundle: Bundle, onnx: Artifact, name: str) -> Iterator[str]:
    """The lines of config.pbtxt, in protobuf's text format."""
    signature = bundle.signature
    max_batch_size = default_batch_size(signature)
    yield f"name: {_quote(name)}"
    yield 'backend: "onnxruntime"'
    yield f"default_model_filename: {_quote(MODEL)}"
    yield f"max_batch_size: {max_batch_size}"
    for item in signature.inputs:
        yield from _input(item, FORMATS[signature.interface] if isinstance(signature, Signature) else "")
    for output in signature.outputs:
        yield "output {"
        yield f"  name: {_quote(output.name)}"
        yield f"  data_type: {DATA_TYPES[output.dtype]}"
        yield from _dims(signature.sizes(output))
        if CLASSES in output.dims:
            yield f"  label_filename: {_quote(LABELS)}"
        yield "}"
    yield "dynamic_batching {"
    yield f"  preferred_batch_size: [ {max_batch_size} ]"  # Triton's default, too
    yield f"  max_queue_delay_microseconds: {MAX_QUEUE_DELAY_US}"
    yield "}"
    yield "# on every GPU, or on the CPU if there is none"
    yield "instance_group { kind: KIND_AUTO count: 1 }"
    yield "# TF32 keeps 10 of the 23 bits of a float32: with it no model is as accurate as PyTorch"
    yield "optimization {"
    yield "  execution_accelerators {"
    yield '    gpu_execution_accelerator { name: "cuda" parameters { key: "use_tf32" value: "0" } }'
    yield "  }"
    yield "}"
    yield "# threads per inference on the CPU; 0: all cores"
    yield from _parameter("intra_op_thread_count", "0")
    yield from _parameter("sha256", onnx.file.sha256)
    if bundle.provenance.get("licence"):
        yield from _parameter("licence", str(bundle.provenance["licence"]))


def _input(item: Input, layout: str) -> Iterator[str]:
    """The dimensions without the batch, which Triton adds in front."""
    yield "input {"
    yield f"  name: {_quote(item.name)}"
    yield f"  data_type: {DATA_TYPES[item.dtype]}"
    if layout:
        yield f"  format: {layout}"
    yield from _dims(item.shape)
    yield "}"


def _dims(sizes: Sequence[int | None]) -> Iterator[str]:
    if sizes:
        yield f"  dims: [ {', '.join('-1' if size is None else str(size) for size in sizes)} ]"
    else:  # one number per sample: dims must not be empty, so `(batch, 1)` is reshaped to `(batch,)`
        yield "  dims: [ 1 ]"
        yield "  reshape { shape: [ ] }"


def _parameter(key: str, value: str) -> Iterator[str]:
    yield f"parameters {{ key: {_quote(key)} value {{ string_value: {_quote(value)} }} }}"


def _quote(text: str) -> str:
    """A string of protobuf's text format: ASCII, all other bytes of its UTF-8 in octal."""
    escaped = (
        chr(byte) if 32 <= byte < 127 and byte not in b"\"'\\" else f"\\{byte:03o}"
        for byte in text.encode(errors="backslashreplace")
    )
    return f'"{"".join(escaped)}"'
