"""Readers: each opens a file as a command would, uses what it finds, and returns what the command would print."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz import seeds
from benchmarks.fuzz.watch import Deed, watched, working_in
from onward.bundle import MANIFEST, Bundle, digest_file, manifest_digest
from onward.bundle.keys import read_public_key
from onward.bundle.signing import check_signature

__all__ = ["READERS", "Reader"]

#: A forged signature may ask for images of any size; only those of at most so many values are run.
MAX_VALUES = 1 << 20


@dataclass(frozen=True)
class Reader:
    """One reader.

    Args:
        name: In the table and in the names of cases.
        suffix: The ending of its file.
        seeds: Whole files to begin with.
        read: Opens a file in a folder of its own, uses it, and returns what is printed.
    """

    name: str
    suffix: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], str]


def _decode(path: Path) -> str:
    """Everything that predict reads of an input before the model runs."""
    from onward.sources import open_sources

    return _decode_source(open_sources([path], seeds.SIGNATURE))


def _decode_listed(path: Path) -> str:
    from onward.sources import open_sources

    # a folder in the list is searched, and "/" is the whole machine
    paths = path.read_bytes().replace(b"/", b"_")
    (working := path.parent / "working").mkdir(exist_ok=True)
    with working_in(working):
        return _decode_source(open_sources(["-"], seeds.SIGNATURE, stdin=io.BytesIO(paths)))


def _decode_source(source: Any) -> str:
    from onward.prediction.batch import Batch, decode_batch
    from onward.prediction.summary import Seconds
    from onward.sinks.text import json_line

    failures: list[Any] = []
    for block in source.blocks():
        for piece in (block[at : at + 64] for at in range(0, len(block), 64)):
            failures += decode_batch(Batch((piece,)), seeds.SIGNATURE, Seconds()).failures
    source.count()
    return "".join(json_line(vars(item)).decode().rstrip("\n") for item in failures)


def _inspect(path: Path) -> str:
    """`onward inspect`, for people and for machines."""
    from onward.cli.inspect import inspect

    return _printed(lambda: inspect(path)) + _printed(lambda: inspect(path, as_json=True))


def _printed(action: Callable[[], None]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        action()
    return printed.getvalue()


def _forged(path: Path, name: str) -> Path:
    """A copy of the kept bundle with this file in place of another one, and a manifest that agrees."""
    folder = path.parent / "bundle"
    if not folder.exists():
        shutil.copytree(seeds.BUNDLE, folder)
    document = json.loads((seeds.BUNDLE / MANIFEST).read_text())
    shutil.copyfile(path, folder / name)
    for entry in (*document["files"], *(item["file"] for item in document["artifacts"])):
        if entry["path"] == name:
            entry |= vars(digest_file(folder, folder / name))
    document["manifest_sha256"] = manifest_digest(document)
    (folder / MANIFEST).write_text(json.dumps(document))
    return folder


def _manifest(path: Path) -> str:
    folder = _forged(path, MANIFEST)
    data = path.read_bytes()
    with contextlib.suppress(ValueError, RecursionError, TypeError, SystemError, AttributeError):
        document = json.loads(data)
        data = json.dumps(document | {"manifest_sha256": manifest_digest(document)}).encode()
    (folder / MANIFEST).write_bytes(data)
    printed = _inspect(folder)
    bundle = Bundle.open(folder)
    bundle.check()
    return printed + _use(bundle)


def _use(bundle: Bundle) -> str:
    """Verify the ONNX file, and classify one sample with it."""
    import onward
    from onward.bundle.verification import verify
    from onward.cli.commands import _print_verifications
    from onward.feed import draw
    from onward.signature import Signature

    signature = bundle.signature
    if not isinstance(signature, Signature) or math.prod(signature.image_shape) > MAX_VALUES:
        return ""
    results = verify(bundle, artifacts=[bundle.artifacts[0].name] if bundle.artifacts else None)
    with onward.load(bundle.path, artifact=bundle.artifacts[0].name) as model:
        model(draw(bundle.signature, 1, np.random.default_rng(0)))
    return _printed(lambda: _print_verifications(results))


def _parity(path: Path) -> str:
    return str(sorted(Bundle.open(_forged(path, "parity.json")).parity()))[:0]


def _golden(path: Path) -> str:
    return _verified(_forged(path, "golden.npz"))


def _golden_outputs(path: Path) -> str:
    return _verified(_forged(path, "golden/onnx.npz"))


def _verified(folder: Path) -> str:
    from onward.bundle.verification import verify_backend
    from onward.cli.commands import _print_verifications

    bundle = Bundle.open(folder)
    result = verify_backend(bundle, bundle.artifact("onnx"), _backend())
    return _printed(lambda: _print_verifications([result]))


@functools.cache
def _backend() -> Any:
    from onward.backends import open_artifact

    bundle = Bundle.open(seeds.BUNDLE)
    return open_artifact(bundle, bundle.artifact("onnx"))


def _onnx(path: Path) -> str:
    return _use(Bundle.open(_forged(path, "model.onnx")))


def _program(format: str, path: Path) -> str:
    """Open and run a .pt2 or TorchScript file of a trusted bundle: what passes the check is PyTorch's to open."""
    from onward.errors import BackendError

    _run_whole_program(format)
    folder = _forged(path, f"model.{format}")
    with watched(path.parent / "working"):
        try:
            _run_program(folder, format)
        except BackendError:  # PyTorch's refusal of what passed the check
            return ""
    return ""


@functools.cache
def _run_whole_program(format: str) -> None:
    """Once: what PyTorch does at its first file is not what a file does."""
    _run_program(seeds.BUNDLE, format)


def _run_program(folder: Path, format: str) -> None:
    from onward.backends import open_artifact
    from onward.bundle.trust import Trust
    from onward.feed import draw

    bundle = Bundle.open(folder, Trust(by_word=True))
    open_artifact(bundle, bundle.artifact(format)).run(draw(bundle.signature, 1, np.random.default_rng(0)))


def _signature(path: Path) -> str:
    """A bundle with a damaged signature: whatever opens with the key holds what was signed."""
    from onward.bundle.trust import Trust

    folder, key = path.parent / "signed", path.parent / "key.pub"
    if not folder.exists():
        shutil.copytree(seeds.BUNDLE, folder)
        key.write_bytes(seeds.signing_key().public.pem)
    shutil.copyfile(path, folder / "model.sig")
    Bundle.open(folder, Trust.of(key=key))
    if check_signature(folder, key) != seeds.signed_digests():
        raise Deed("a forged signature was taken for a true one")
    return ""


def _public_key(path: Path) -> str:
    return read_public_key(path).fingerprint


def _metadata(path: Path) -> str:
    import onnx

    model = onnx.load(seeds.BUNDLE / "model.onnx")
    text = path.read_bytes().decode(errors="replace")
    onnx.helper.set_model_props(model, {"onward.signature": text, "onward.provenance": text, "note": text})
    path.write_bytes(model.SerializeToString())
    return _inspect(path)


def _checkpoint(path: Path) -> str:
    from onward_training.checkpoint import Checkpoint

    printed = _inspect(path)
    Checkpoint.load(path).network()
    return printed


def _weights(path: Path) -> str:
    from onward_training.external import weights_entries
    from onward_training.external.weights import read_weights

    said: list[str] = []
    read_weights(path, notify=said.append)
    weights_entries(path)
    return ""


def _report(path: Path) -> str:
    from onward.benchmarking.page import write_page
    from onward.benchmarking.regression import compare_reports
    from onward.benchmarking.report import Report
    from onward.cli.bench_tables import gate_parts, print_parts, report_parts
    from onward.cli.markdown import markdown_of

    report = Report.load(path)
    current = _current()
    gates = [compare_reports(*pair, fail_above=0.05) for pair in ((report, current), (report, report))]
    write_page(path.with_suffix(".html"), report)

    def show() -> None:
        parts = [*report_parts(report), *(part for gate in gates for part in gate_parts(gate, str(path)))]
        print_parts(parts)
        print(markdown_of(str(path), parts))

    return _printed(show)


@functools.cache
def _current() -> Any:
    from onward.benchmarking.report import Report

    return Report.from_json(json.loads(seeds.reports()[0]))


def _journal(path: Path) -> str:
    from onward.prediction import journal
    from onward.prediction.output import open_output
    from onward.sinks import open_sink
    from onward.tasks import task_of

    lines, check = path.read_bytes().split(b"\n"), ""
    if sum(lines[0][:64]) % 2:  # as somebody would who computes the checks anew
        for at, line in enumerate(lines[:-1]):
            body = line.partition(journal.CHECK)[0]
            check = journal._check(check, body)
            lines[at] = body + journal.CHECK + check.encode() + journal.END
    out = path.parent / "rows.csv"
    path.with_name(".rows.csv.journal").write_bytes(b"\n".join(lines))
    path.with_name(".rows.csv.errors.part").write_bytes(b"")
    path.with_name(".rows.csv.part").write_bytes(seeds.CSV_HEADER)
    request: Mapping[str, Any] = {"model": "0" * 64, "top_k": 1, "logits": False, "inputs": ["a"], "column": None}
    sink = open_sink(out, task_of(seeds.SIGNATURE).columns({"top_k": 1, "logits": False}))
    try:
        with open_output(out, sink, request, True):
            return ""
    finally:
        for item in path.parent.glob("*rows.csv*"):
            item.unlink()


def _readers() -> list[Reader]:
    found = [
        Reader(f"image {kind.lower()}", f".{kind.lower()}", functools.partial(seeds.images, kind), _decode)
        for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "ICO")
    ]
    found += [
        Reader(kind, suffix, functools.partial(seeds.sources, kind), _decode)
        for kind, suffix in (
            ("npy", ".npy"), ("npz", ".npz"), ("idx", ".idx"), ("csv", ".csv"), ("parquet", ".parquet"), ("tar", ".tar")
        )
    ]  # fmt: skip
    return [
        *found,
        Reader("list of paths", ".txt", functools.partial(seeds.sources, "paths"), _decode_listed),
        Reader("manifest", ".json", functools.partial(seeds.of_bundle, MANIFEST), _manifest),
        Reader("signature", ".sig", seeds.signatures, _signature),
        Reader("public key", ".pub", lambda: [seeds.signing_key().public.pem], _public_key),
        Reader("parity report", ".json", functools.partial(seeds.of_bundle, "parity.json"), _parity),
        Reader("golden record", ".npz", functools.partial(seeds.of_bundle, "golden.npz"), _golden),
        Reader("golden outputs", ".npz", functools.partial(seeds.of_bundle, "golden/onnx.npz"), _golden_outputs),
        Reader("ONNX artifact", ".onnx", functools.partial(seeds.of_bundle, "model.onnx"), _onnx),
        Reader("ONNX header", ".onnx", functools.partial(seeds.of_bundle, "model.onnx"), _inspect),
        Reader("ONNX metadata", ".json", _signatures, _metadata),
        Reader(".pt2 header", ".pt2", functools.partial(seeds.of_bundle, "model.pt2"), _inspect),
        Reader("TorchScript header", ".torchscript", functools.partial(seeds.of_bundle, "model.torchscript"), _inspect),
        Reader(".pt2 program", ".pt2", functools.partial(seeds.programs, "pt2"), functools.partial(_program, "pt2")),
        Reader(
            "TorchScript program",
            ".torchscript",
            functools.partial(seeds.programs, "torchscript"),
            functools.partial(_program, "torchscript"),
        ),
        Reader("benchmark report", ".json", seeds.reports, _report),
        Reader("journal", ".jsonl", seeds.journals, _journal),
        Reader("checkpoint", ".pt", seeds.checkpoints, _checkpoint),
        Reader("weights, zip", ".pt", functools.partial(seeds.weights, "zip"), _weights),
        Reader("weights, legacy", ".pt", functools.partial(seeds.weights, "legacy"), _weights),
        Reader("safetensors", ".safetensors", seeds.safetensors, _weights),
    ]


def _signatures() -> list[bytes]:
    document = json.loads((seeds.BUNDLE / MANIFEST).read_text())
    return [json.dumps(document["signature"]).encode(), json.dumps(document["provenance"]).encode()]


READERS: dict[str, Reader] = {reader.name: reader for reader in _readers()}
