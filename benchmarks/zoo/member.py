"""Member: one network of the zoo, exported under the gate and measured.

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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["MAX_GMACS", "Member", "digest_of_settings", "measure", "members"]

ROOT = Path(__file__).parents[2]
SEED, NUM_SAMPLES = 0, 16
#: Multiply-adds for one image, in 10^9. The gate runs about 500 images of a member, 50 of them in float64, which is
#: slow: 1e9 take 15 to 20 seconds of one core. A member with more gets smaller images.
MAX_GMACS = 6.0
#: torchvision's networks halve an image five times, and some of them need whole patches of 32 or 16 pixels.
STEP = 32
#: An ONNX file holds less than 2^31 bytes, 4 of them a parameter.
MAX_PARAMETERS = 2**29
PACKAGES = ("torch", "torchvision", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")
#: Files and rooms that do not influence how a network is exported and judged.
NOT_RELEVANT = {"api", "commands", "demo", "demo_page", "report", "signature_options", "__main__"}


@dataclass(frozen=True)
class Member:
    """A builder of torchvision, with the figures that torchvision publishes.

    Args:
        name: Its name in `torchvision.models.list_models`.
        side: The side of its images here, in pixels.
        native_side: The side of the images that it was made for.
        gmacs: Multiply-adds for one image of `side`, in 10^9.
        num_parameters: Parameters of the network with 1,000 classes.
    """

    name: str
    side: int
    native_side: int
    gmacs: float
    num_parameters: int

    @property
    def left_out(self) -> str | None:
        """The reason why it is not exported, or None."""
        if self.num_parameters < MAX_PARAMETERS:
            return None
        return f"{self.num_parameters / 1e6:,.0f} million parameters do not fit into one ONNX file of 2 GB."


def members(*, max_gmacs: float = MAX_GMACS) -> list[Member]:
    """Every classification builder of torchvision, the cheapest first.

    Args:
        max_gmacs: A network with more multiply-adds gets smaller images, where the architecture allows.

    Source: torchvision, `WeightsEnum.meta`.
    """
    from torchvision import models

    found = []
    for name in models.list_models(module=models):
        weights = models.get_model_weights(name).DEFAULT
        (native,) = weights.transforms().crop_size
        native_gmacs = float(weights.meta["_ops"])
        # ViT's image_size is an argument, and Swin pads its windows, though their metadata name no smaller size
        smallest = STEP if name.startswith(("vit", "swin")) else max(weights.meta["min_size"])
        side = _side(native, smallest, native_gmacs, max_gmacs)
        gmacs = native_gmacs * (side / native) ** 2
        found.append(Member(name, side, native, gmacs, int(weights.meta["num_params"])))
    return sorted(found, key=lambda member: (member.gmacs, member.name))


def _side(native: int, smallest: int, gmacs: float, max_gmacs: float) -> int:
    if gmacs <= max_gmacs:
        return native
    affordable = int(native * (max_gmacs / gmacs) ** 0.5) // STEP * STEP
    return min(native, max(affordable, -(-smallest // STEP) * STEP))


def digest_of_settings() -> str:
    """A digest of what a result depends on: versions, samples, and the code that exports and judges."""
    parts = [f"{package} {version(package)}" for package in PACKAGES] + [f"{SEED} {NUM_SAMPLES}"]
    parts += [ast.dump(ast.parse(path.read_text(encoding="utf-8"))) for path in _code()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _code() -> Iterator[Path]:
    for path in sorted((ROOT / "export").rglob("*.py")):
        if not NOT_RELEVANT & {path.stem, *path.parts}:
            yield path
    yield ROOT / "runtime" / "onward" / "parity.py"
    yield from (Path(__file__), Path(__file__).with_name("alive.py"))


def measure(member: Member) -> dict[str, Any]:
    """Export a member to all formats and return the result.

    Returns:
        `outcome` is `passed`, or `refused` with the `reason`; figures of the artifacts, seconds of each stage.
    """
    from onward.errors import OnwardError
    from onward_export.model_to_export import ModelToExport
    from onward_export.publish import publish

    began = time.perf_counter()
    network, signature = _build(member)
    stages: list[tuple[str, float]] = []
    row: dict[str, Any] = {"member": asdict(member), "settings": digest_of_settings()}
    with tempfile.TemporaryDirectory(prefix="onward-zoo-") as folder:
        try:
            bundle = publish(
                ModelToExport(network, signature),
                Path(folder, member.name),
                num_samples=NUM_SAMPLES,
                on_stage=lambda stage: stages.append((stage, time.perf_counter())),
            )
        except OnwardError as error:
            reason = str(error).partition(" See ")[0]  # the page is deleted with the folder
            return row | {"outcome": "refused", "reason": reason, "seconds": time.perf_counter() - began}
        row |= {"outcome": "passed", "seconds": time.perf_counter() - began}
        artifacts = [
            {"name": artifact.name, "size_bytes": artifact.file.size_bytes, "rows": item["comparisons"]}
            for artifact, item in zip(bundle.artifacts, bundle.parity()["artifacts"], strict=True)
        ]
        weights = bundle.parity()["artifacts"][0]["weights"]
        path = bundle.path / bundle.preferred("onnx").file.path
        return row | _export_figures(stages, path) | {"num_folds": len(weights["folds"]), "artifacts": artifacts}


def _build(member: Member) -> tuple[Any, Any]:
    import torch

    from benchmarks.zoo.alive import make_alive
    from onward_training.models.libraries import signature_of_weights, torchvision_network

    signature, *_, arguments = signature_of_weights(member.name, Path(member.name))
    signature = replace(signature, height=member.side, width=member.side)
    if member.name.startswith("vit"):
        arguments["image_size"] = member.side
    elif member.name.startswith("maxvit"):
        arguments["input_size"] = (member.side, member.side)
    torch.manual_seed(SEED)
    network = torchvision_network(member.name, signature, **arguments)
    make_alive(network, signature, seed=SEED)
    return network, signature


def _export_figures(stages: Sequence[tuple[str, float]], path: Path) -> dict[str, Any]:
    import onnx

    begun = dict(stages)
    return {
        "export_s": begun["parity gate"] - begun["torch.export"],
        "num_nodes": len(onnx.load(path, load_external_data=False).graph.node),
    }


def main(member: str, out: str) -> None:
    from onward.files import written_whole

    row = measure(Member(**json.loads(member)))
    with written_whole(Path(out)) as path:
        path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
