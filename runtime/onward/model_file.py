"""Model files: what a path is, by its content and without loading it, and what to do if another kind is expected."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from onward.errors import BundleError, CheckpointError, did_you_mean
from onward.zip_files import BROKEN_ZIP, open_zip

__all__ = ["MANIFEST", "Kind", "check_model_file", "kind_of", "not_a_bundle"]

Kind = Literal["missing", "folder", "bundle", "onnx", "checkpoint", "weights", "torchscript", "pt2", "file"]
MANIFEST = "manifest.json"
#: What the pickle of a checkpoint contains, in all its versions.
CHECKPOINT_MARK = b"onward.checkpoint"
#: Names of weights files, whose content is looked at when they are opened.
WEIGHTS_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar")
MAX_PICKLE_BYTES = 16 << 20
PROGRAMS: dict[str, Kind] = {
    "constants.pkl": "torchscript",
    "archive_format": "pt2",
    "serialized_exported_program.json": "pt2",
}
TITLES: dict[Kind, str] = {
    "bundle": "a bundle",
    "folder": "a folder",
    "onnx": "an ONNX file",
    "checkpoint": "a checkpoint",
    "weights": "a weights file",
    "torchscript": "a TorchScript file",
    "pt2": "a .pt2 file",
    "file": "a file",
}


def kind_of(path: Path) -> Kind:
    """What a path is. A damaged file has the kind that its beginning or its name says."""
    if path.is_dir():
        return "bundle" if (path / MANIFEST).is_file() else "folder"
    if not path.is_file():
        return "missing"
    if path.suffix == ".onnx":
        return "onnx"
    try:
        with open_zip(path) as archive:
            return _kind_of_archive(archive)
    except (OSError, *BROKEN_ZIP):
        return "weights" if path.suffix in WEIGHTS_SUFFIXES else "file"


def _kind_of_archive(archive: zipfile.ZipFile) -> Kind:
    members = archive.namelist()
    names = {name.rpartition("/")[2] for name in members}
    if program := next((kind for name, kind in PROGRAMS.items() if name in names), None):
        return program
    pickled = next((name for name in members if name.endswith("data.pkl")), None)
    if pickled is None:
        return "file"
    with archive.open(pickled) as member:
        return "checkpoint" if CHECKPOINT_MARK in member.read(MAX_PICKLE_BYTES) else "weights"


def not_a_bundle(path: Path) -> BundleError:
    """The error for a path that is no bundle: what it is, and the command or the path that works."""
    kind = kind_of(path)
    if kind == "missing":
        checkpoint = _checkpoint_beside(path)
        near = did_you_mean(path.name, [item.name for item in _siblings(path) if kind_of(item) == "bundle"])
        makes = f"`onward export {checkpoint or 'CHECKPOINT'} --out {path}` makes a bundle."
        return BundleError(f"{path} is not a bundle: there is no such folder. {makes}{near}")
    if kind in ("folder", "bundle"):
        return BundleError(
            f"{path} is not a bundle: it has no {MANIFEST}. `onward export CHECKPOINT --out {path}` makes a bundle."
        )
    if (path.parent / MANIFEST).is_file():
        return BundleError(f"{path} is a file of a bundle, expected the bundle's folder: {path.parent}")
    beside = path.with_suffix("")
    if beside != path and kind_of(beside) == "bundle":
        hint = f"The bundle beside it: {beside}"
    elif kind == "checkpoint":
        hint = f"`onward export {path}` makes a bundle of it."
    elif kind == "weights":
        hint = f"`onward export {path} --model NAME` makes a bundle of it, and `onward inspect {path}` says more."
    else:
        hint = f"A bundle is a folder with a {MANIFEST}; `onward export` makes one."
    return BundleError(f"{path} is {TITLES[kind]}, expected a bundle. {hint}")


def check_model_file(path: Path, *, is_foreign: bool = False) -> None:
    """Check that a path may be a checkpoint or a weights file, before anything heavy is imported to read it.

    Args:
        path: The file.
        is_foreign: Whether it holds weights that training or export begin with.

    Raises:
        CheckpointError: It does not exist, or is something else for certain.
    """
    kind = kind_of(path)
    if kind == "missing":
        if path.exists():
            raise CheckpointError(f"{path} is not a regular file.")
        near = did_you_mean(path.name, [item.name for item in _siblings(path) if item.suffix in WEIGHTS_SUFFIXES])
        creates = "" if is_foreign else f" `onward train --out {path}` creates it."
        raise CheckpointError(f"{path} does not exist.{creates}{near}")
    if kind in ("bundle", "folder", "onnx"):
        beside = _checkpoint_beside(path)
        hint = f" The checkpoint beside it: {beside}" if beside else " `onward train` writes checkpoints."
        raise CheckpointError(f"{path} is {TITLES[kind]}, expected a checkpoint or a weights file.{hint}")


def _checkpoint_beside(path: Path) -> Path | None:
    """`artifacts/fashion.pt` for the bundle `artifacts/fashion` or a file in it."""
    folders = (path, path.parent) if path.suffix == ".onnx" else (path,)
    places = [folder.with_name(f"{folder.name}.pt") for folder in folders if folder.name]
    return next((place for place in places if kind_of(place) == "checkpoint"), None)


def _siblings(path: Path) -> list[Path]:
    return sorted(path.parent.iterdir()) if path.parent.is_dir() else []
