"""Bundles: each network is exported by Onward, with its gate, and its compiled code is put into the cache."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.gpu.networks import bundle_of, network_of, path_of, pixels_for, torch_backend
from benchmarks.gpu.section import NETWORKS, Row, Setting, attempt
from onward.backends.backend import Backend
from onward.bundle import MANIFEST, Bundle
from onward.signature import of_images
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish

__all__ = ["run"]

FORMATS = ExportOptions(formats=("onnx", "pt2"))


def run(setting: Setting, name: str) -> Iterator[Row]:
    path = path_of(name, setting)
    kept = path.with_name(f"{path.name}.rows.json")
    if kept.is_file() and (path / MANIFEST).is_file():  # of an earlier run with the same work folder
        yield from json.loads(kept.read_text(encoding="utf-8"))
        return
    rows = []
    for row in _make(name, setting):
        rows.append(row)
        yield row
    kept.write_text(json.dumps(rows), encoding="utf-8")


def _make(name: str, setting: Setting) -> Iterator[Row]:
    torch.set_num_threads(max(1, torch.get_num_threads() // len(NETWORKS)))
    path = path_of(name, setting)
    if not (path / MANIFEST).is_file():
        network, signature = network_of(name, setting)
        publish(ModelToExport(network, signature), path, options=FORMATS)
    bundle = bundle_of(name, setting)
    for artifact in bundle.artifacts:
        yield {
            "network": name,
            "artifact": artifact.name,
            "noise_ratio_cpu": artifact.noise_ratio,
            "size_bytes": artifact.file.size_bytes,
        }
    if setting.device == "cuda":
        compiled = torch_backend(bundle, setting, "torch-compile")
        for batch_size in setting.compiled_batch_sizes:
            yield attempt({"network": name, "batch": batch_size}, partial(_compile, compiled, bundle, batch_size))


def _compile(backend: Backend, bundle: Bundle, batch_size: int) -> Row:
    began = time.perf_counter()
    backend.run(pixels_for(of_images(bundle.signature), batch_size))
    return {"compile_s": time.perf_counter() - began}
