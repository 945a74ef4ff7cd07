"""Seeds: whole files of every kind, made in memory or taken from the bundle that tests/ keeps."""

from __future__ import annotations

import functools
import gzip
import importlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from PIL import Image

from benchmarks.zoo.source import ROOT
from onward.bundle import MANIFEST, Bundle, digest_file
from onward.bundle.keys import PrivateKey
from onward.bundle.signing import signature_text
from onward.signature import Signature

__all__ = [
    "BUNDLE",
    "CSV_HEADER",
    "SIGNATURE",
    "checkpoints",
    "images",
    "journals",
    "of_bundle",
    "programs",
    "reports",
    "safetensors",
    "signatures",
    "signed_digests",
    "signing_key",
    "sources",
    "weights",
]

#: The bundle of digits that is kept to show that format 1 opens for ever.
BUNDLE = ROOT / "tests" / "runtime" / "bundle" / "bundles" / "format-1"
#: The staged rows beside a journal: a header, and no row yet.
CSV_HEADER = b"input,label,index,probability\n"
SIGNATURE = Signature(8, 8, 1, (0.3,), (0.4,), tuple("0123456789"))


def images(kind: str) -> list[bytes]:
    """Small images of a format of Pillow's, in several modes."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 3), np.uint8)
    found = []
    for mode in ("RGB", "L", "P", "RGBA", "1", "I;16"):
        stream = io.BytesIO()
        image = Image.fromarray(pixels) if mode != "I;16" else Image.fromarray(pixels[..., 0].astype(np.uint16))
        try:
            (image.convert(mode) if mode != "I;16" else image).save(stream, kind)
        except (OSError, ValueError, KeyError):  # the format has no such mode
            continue
        found.append(stream.getvalue())
    return found


def sources(kind: str) -> list[bytes]:
    """Arrays, tables, lists and archives of images."""
    arrays = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    made: dict[str, Callable[[], list[bytes]]] = {
        "npy": lambda: [_npy(arrays), _npy(np.asfortranarray(arrays)), _npy(arrays[..., 0])],
        "npz": lambda: [_npz(images=arrays, labels=np.arange(5)), _npz(images=arrays, labels=np.array(list("abcde")))],
        "idx": lambda: [_idx(arrays[..., 0]), gzip.compress(_idx(arrays[..., 0]), mtime=0)],
        "csv": lambda: [b'path,label\na.png,1\n"b ""x"".png",2\n', "p\u00e4th\timage\nc.png\ta\n".encode()],
        "paths": lambda: [b"a.png\nb/c.jpg\nd.npy\n", b"a.png\0b.png\0"],
        "parquet": _parquets,
        "tar": lambda: [_tar("w"), gzip.compress(_tar("w"), mtime=0), _tar("w:bz2"), _tar("w:xz")],
    }
    return made[kind]()


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _npz(**arrays: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _idx(array: NDArray[np.uint8]) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def _parquets() -> list[bytes]:
    import pyarrow as pa
    from pyarrow import parquet

    png = images("PNG")[0]
    found = []
    for column in ([png] * 3, [{"bytes": png, "path": "a"}] * 3, ["a.png", "b.png", None]):
        stream = io.BytesIO()
        parquet.write_table(pa.table({"image": column, "label": [1, 2, 3]}), stream)
        found.append(stream.getvalue())
    return found


def _tar(mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in (("0.png", images("PNG")[0]), ("0.cls", b"3"), ("1.jpg", images("JPEG")[0])):
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return stream.getvalue()


@functools.cache
def _network() -> Any:
    import torch

    from onward_training.models import build

    torch.manual_seed(0)
    return build("perceptron", SIGNATURE, {})


def checkpoints() -> list[bytes]:
    """Checkpoints of Onward's."""
    from onward_training.checkpoint import Checkpoint, Epoch

    state = _network().state_dict()
    history = (Epoch(1, 0.5, 0.4, 0.9, 1.0),)
    found = Checkpoint("perceptron", {}, SIGNATURE, state, "digits", history, provenance={"best_epoch": 1})
    return [bytes(found.to_bytes())]


def weights(kind: str) -> list[bytes]:
    """Weights files of torch.save: `zip`, or `legacy` as before PyTorch 1.6."""
    import torch

    found = []
    state = _network().state_dict()
    for document in (state, {"state_dict": state, "epoch": 3, "hyper_parameters": {"a": 1}, "ema": {"model": state}}):
        stream = io.BytesIO()
        torch.save(document, stream, _use_new_zipfile_serialization=kind == "zip")
        found.append(stream.getvalue())
    return found


def safetensors() -> list[bytes]:
    """A file of safetensors."""
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in _network().state_dict().items()}
    return [save(tensors, {"a": "b"})]


def reports() -> list[bytes]:
    """Reports of `onward bench --json`."""
    kept = importlib.import_module("tests.runtime.benchmarking.reports")
    return [json.dumps(report.to_json()).encode() for report in kept.REPORTS.values()]


def journals() -> list[bytes]:
    """Journals of `onward predict`, with one commit and with two."""
    from onward.prediction.journal import Commit, Journal, Position, new_digest
    from onward.prediction.summary import Counts

    request = {"model": "0" * 64, "top_k": 1, "logits": False, "inputs": ["a"], "column": None}
    plan = {"batch_size": 8, "streams": 1, "threads": 1}
    found = []
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "journal")
            journal = Journal(path, request, None)
            for number in range(count):
                position = Position(Counts(number, number), "ab" * 16, plan)
                nothing = new_digest().hexdigest()
                journal.append(Commit(position, len(CSV_HEADER), 0, nothing, nothing))
            journal.close()
            found.append(path.read_bytes())
    return found


def of_bundle(name: str) -> list[bytes]:
    """A file of the kept bundle."""
    return [(Bundle.open(BUNDLE).path / name).read_bytes()]


@functools.cache
def signing_key() -> PrivateKey:
    """Always the same one, whose signatures are always the same, too."""
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))


def signed_digests() -> dict[str, str]:
    """What the signature of the kept bundle says."""
    bundle = Bundle.open(BUNDLE)
    return {file.path: file.sha256 for file in (*bundle.every_file, digest_file(BUNDLE, BUNDLE / MANIFEST))}


def signatures() -> list[bytes]:
    """The signature of the kept bundle."""
    return [signature_text("format-1", signed_digests(), signing_key()).encode()]


def programs(format: str) -> list[bytes]:
    """The program of the kept bundle, and what the planted attacks make of it."""
    attacks = importlib.import_module("tests.runtime.bundle.attacks")
    [whole] = of_bundle(f"model.{format}")
    found = [whole]
    for attack in {"pt2": attacks.PT2, "torchscript": attacks.TORCHSCRIPT}[format].values():
        members = attacks.read(whole)
        attack(members)
        found.append(attacks.written(members))
    return found
