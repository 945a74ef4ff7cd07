"""Bundles: the four networks of the peers' table, in all formats; exported once, then reused."""

from __future__ import annotations

from pathlib import Path

from benchmarks.export import networks
from onward.bundle import MANIFEST
from onward.cli.console import remark
from onward_export.model_to_export import ModelToExport
from onward_export.publish import publish

__all__ = ["NETWORKS", "bundle_paths"]

#: Network -> its batch sizes in the peers' table.
NETWORKS = {"classifier": (1, 1024), "cnn": (1, 32), "resnet18": (1, 32), "mobilenet_v3_small": (1, 32, 128)}


def bundle_paths(folder: Path) -> dict[str, Path]:
    """Network -> its bundle; missing ones are exported, which takes minutes."""
    paths = {}
    for name, network, signature in networks():
        paths[name] = folder / name
        if not (paths[name] / MANIFEST).is_file():
            remark(f"{name}: exporting …")
            publish(ModelToExport(network, signature), paths[name])
    return paths
