"""Measurement of one member of the zoo: exported under the gate with the defaults of `onward export`.

`python -m benchmarks.zoo.member MEMBER OUT` exports one member, given as JSON, in its own process. Its memory is freed
afterwards, and a crash or a hang loses only its own row.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.zoo.bare import culprit, measure_bare
from benchmarks.zoo.source import MAX_GMACS, ROOT, SEED, Member, Source
from benchmarks.zoo.timm_source import TIMM
from benchmarks.zoo.torchvision_source import TORCHVISION

__all__ = ["SOURCES", "build", "digest_of_settings", "measure", "members"]

SOURCES: Mapping[str, Source] = {source.library: source for source in (TORCHVISION, TIMM)}
PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")
#: Files and rooms that do not influence how a network is exported and judged.
NOT_RELEVANT = {"api", "commands", "demo", "demo_page", "report", "signature_options", "__main__"}


def members(libraries: Sequence[str] = tuple(SOURCES), *, max_gmacs: float = MAX_GMACS) -> list[Member]:
    """The members of the libraries, the cheapest of each first."""
    return [member for name in libraries for member in SOURCES[name].members(max_gmacs)]


def build(member: Member) -> tuple[Any, Any]:
    """The network with live random weights, and its signature."""
    import torch

    from benchmarks.zoo.alive import make_alive

    torch.manual_seed(SEED)
    network, signature = SOURCES[member.library].build(member)
    make_alive(network, signature, seed=SEED)
    return network, signature


def digest_of_settings() -> str:
    """A digest of what a result depends on: versions, seed, and the code that builds, exports and judges."""
    parts = [f"{package} {version(package)}" for package in PACKAGES] + [str(SEED)]
    parts += [ast.dump(ast.parse(path.read_text(encoding="utf-8"))) for path in _code()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _code() -> Iterator[Path]:
    for path in sorted((ROOT / "export").rglob("*.py")):
        if not NOT_RELEVANT & {path.stem, *path.parts}:
            yield path
    yield ROOT / "runtime" / "onward" / "parity.py"
    yield from (Path(__file__).with_name(f"{name}.py") for name in ("member", "alive", "bare", "source"))
    yield from (Path(__file__).with_name(f"{name}_source.py") for name in SOURCES)


def measure(member: Member) -> dict[str, Any]:
    """Export a member to all formats and return the result.

    Returns:
        `outcome` is `passed`, `partly` where some formats are not published, or `refused`, the latter two with
        `reason`: format -> why not. Figures of the artifacts, seconds of each stage. `bare` and `culprit` if ONNX did
        not pass.
    """
    row = {"member": asdict(member), "settings": digest_of_settings()} | _export(member)
    if "onnx" in row.get("reason", {}):
        bare = measure_bare(json.dumps(asdict(member)))
        row |= {"bare": bare, "culprit": culprit(bare)}
    return row


def _export(member: Member) -> dict[str, Any]:
    from onward.errors import OnwardError
    from onward_export.model_to_export import ModelToExport
    from onward_export.options import FORMATS
    from onward_export.publish import publish
    from onward_export.stages import StageClock

    network, signature = build(member)
    stages = StageClock(lambda stage: None)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="onward-zoo-") as folder:
        try:
            bundle = publish(ModelToExport(network, signature), Path(folder, member.name), on_stage=stages.begin)
        except OnwardError as error:
            reason = str(error).partition(" See ")[0].replace(folder, "")  # the page is deleted with the folder
            return {
                "outcome": "refused",
                "reason": dict.fromkeys(FORMATS, reason),
                "seconds": time.perf_counter() - began,
            }
        parity = bundle.parity()
        row: dict[str, Any] = {
            "outcome": "partly" if parity["not_published"] else "passed",
            "seconds": time.perf_counter() - began,
            "stages": stages.seconds(),
            "artifacts": [
                {"name": artifact.name, "size_bytes": artifact.file.size_bytes, "rows": item["comparisons"]}
                for artifact, item in zip(bundle.artifacts, parity["artifacts"], strict=True)
            ],
        }
        if parity["not_published"]:
            row["reason"] = {item["format"]: item["reason"] for item in parity["not_published"]}
        if "onnx" in {artifact.name for artifact in bundle.artifacts}:
            row |= _onnx_figures(parity, bundle.path / bundle.preferred("onnx").file.path)
        return row


def _onnx_figures(parity: Mapping[str, Any], path: Path) -> dict[str, Any]:
    import onnx

    (weights,) = (item["weights"] for item in parity["artifacts"] if item["artifact"] == "onnx")
    num_nodes = len(onnx.load(path, load_external_data=False).graph.node)
    return {"num_nodes": num_nodes, "num_folds": len(weights["folds"])}


def main(member: str, out: str) -> None:
    """Measure a member, given as JSON, and write its result."""
    from onward.files import written_whole

    row = measure(Member(**json.loads(member)))
    with written_whole(Path(out)) as path:
        path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
