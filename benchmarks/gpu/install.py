"""Joins the parts of the pack and unpacks them, on the other machine. It needs Python's standard library alone.

python3 benchmarks/gpu/install.py --parts /tmp/gpu-pack --target /tmp/gpu-site
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import json
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

__all__ = ["install", "problems"]


def install(parts: Path, target: Path) -> None:
    """Check every part, join and unpack them, and link NVIDIA's libraries.

    Raises:
        SystemExit: A part is missing or damaged; the message names each.
    """
    index = parts / "pack.json"
    if not index.is_file():
        raise SystemExit(f"{index} is missing: carry it with every part.")
    archives: dict[str, list[dict[str, Any]]] = json.loads(index.read_text(encoding="utf-8"))["archives"]
    if found := problems(parts, archives):
        raise SystemExit("; ".join(found))
    target.mkdir(parents=True, exist_ok=True)
    for members in archives.values():
        joined = io.BufferedReader(_Joined([parts / item["name"] for item in members]), 1 << 20)
        with tarfile.open(fileobj=joined, mode="r|xz") as archive:
            archive.extractall(target, filter="data")
    _link_nvidia(target)
    print(f"installed into {target}: export PYTHONPATH={target}")


def problems(parts: Path, archives: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A sentence for each part that is missing or differs from its SHA-256."""
    found = []
    for item in (item for members in archives.values() for item in members):
        path = parts / item["name"]
        if not path.is_file():
            found.append(f"{path} is missing")
        elif _sha256(path) != item["sha256"]:
            found.append(
                f"{path} is damaged: it has {path.stat().st_size} of {item['size_bytes']} bytes, or other ones"
            )
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Joined(io.RawIOBase):
    """Several files, one after the other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.stream: IO[bytes] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self.stream is None:
                if not self.paths:
                    return 0
                self.stream = self.paths.pop(0).open("rb")
            content = self.stream.read(len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)
            self.stream.close()
            self.stream = None


def _link_nvidia(target: Path) -> None:
    """Put a link to NVIDIA's wheels beside onnxruntime, which looks for CUDA's libraries only there.

    Source: onnxruntime, `preload_dlls`.
    """
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    link = target / "nvidia"
    if not folders:
        print("NVIDIA's wheels are not installed here: onnxruntime must find CUDA elsewhere", file=sys.stderr)
    elif not link.exists():
        link.symlink_to(folders[0], target_is_directory=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Join the parts of the pack and unpack them.")
    parser.add_argument("--parts", type=Path, required=True, help="folder of pack.json and the parts")
    parser.add_argument("--target", type=Path, required=True, help="folder to unpack to; put it on PYTHONPATH")
    arguments = parser.parse_args()
    install(arguments.parts.resolve(), arguments.target.resolve())


if __name__ == "__main__":
    main()
