"""`make gpu-pack`: what a machine without a package registry lacks, in parts small enough to be carried.

Two archives: Onward's wheel, and the libraries. They hold installed files, so that the other machine only unpacks them
(`install.py`). Each is cut into parts of at most 60 MB; pack.json has their order and SHA-256. The archive of the
libraries is kept: a second run makes only Onward's again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from onward.cli.console import remark

__all__ = ["cut", "pack", "pack_index"]

ROOT = Path(__file__).parents[2]
PACK = ROOT / "dist" / "gpu-pack"
#: Built for CUDA 13, as is the PyTorch of the machine that it is packed for.
RUNTIME = "onnxruntime-gpu==1.31.0"
#: What such a machine may lack or have in other versions, and what these need; all are pure Python.
LIBRARIES = ("typer", "rich")
PYTHON, PLATFORM = "3.12", "x86_64-manylinux_2_28"
MAX_PART_BYTES = 60_000_000
#: Between size and time: 3 makes 200 MB of the libraries in four minutes, 6 takes twice as long and saves 2 %.
PRESET = 3


def pack(out: Path, *, runtime: str = RUNTIME, max_part_bytes: int = MAX_PART_BYTES) -> list[Path]:
    """Make the pack anew; the paths of the parts."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("part-*"):
        old.unlink()
    archives = {"libraries.tar.xz": _libraries(out, runtime), "onward.tar.xz": _onward(out)}
    made: dict[str, list[Path]] = {}
    for name, archive in archives.items():
        first = 1 + sum(map(len, made.values()))
        made[name] = list(cut(archive, out, first=first, max_part_bytes=max_part_bytes))
    pack_index(out, made)
    return [part for parts in made.values() for part in parts]


def pack_index(out: Path, archives: Mapping[str, Sequence[Path]]) -> None:
    """Write pack.json: archive -> its parts in order, each with size and SHA-256."""
    index = {
        name: [{"name": part.name, "size_bytes": part.stat().st_size, "sha256": _sha256(part)} for part in parts]
        for name, parts in archives.items()
    }
    (out / "pack.json").write_text(json.dumps({"format": 1, "archives": index}, indent=1) + "\n", encoding="utf-8")


def cut(archive: Path, out: Path, *, first: int, max_part_bytes: int) -> Iterator[Path]:
    """Cut a file into part-NN files, from the number `first` on."""
    with archive.open("rb") as stream:
        number = first
        while content := stream.read(max_part_bytes):
            path = out / f"part-{number:02}"
            path.write_bytes(content)
            yield path
            number += 1


def _libraries(out: Path, runtime: str) -> Path:
    wanted = "\n".join([runtime, *LIBRARIES, PYTHON, PLATFORM, (ROOT / "requirements.txt").read_text(encoding="utf-8")])
    path = out / f"libraries-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}.tar.xz"
    if not path.is_file():
        remark(f"{runtime} and {', '.join(LIBRARIES)}: fetching, then compressing, which takes minutes …")
        with tempfile.TemporaryDirectory(dir=out) as folder:
            _install(Path(folder), ["--constraints", str(ROOT / "requirements.txt"), *LIBRARIES])
            _install(Path(folder), ["--no-deps", runtime])
            _compress(Path(folder), path)
    return path


def _onward(out: Path) -> Path:
    path = out / "onward.tar.xz"
    with tempfile.TemporaryDirectory(dir=out) as folder:
        wheels, site = Path(folder, "wheels"), Path(folder, "site")
        options = ["--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(wheels)]
        _uv("build", *options, str(ROOT))
        (wheel,) = wheels.glob("*.whl")
        _install(site, ["--no-deps", str(wheel)])
        _compress(site, path)
    return path


def _install(folder: Path, what: Sequence[str]) -> None:
    target = ["--target", str(folder), "--python-version", PYTHON, "--python-platform", PLATFORM]
    _uv("pip", "install", "--quiet", "--only-binary", ":all:", *target, *what)


def _uv(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", *arguments], check=True)


def _compress(folder: Path, path: Path) -> None:
    staged = path.with_suffix(".partial")
    with lzma.open(staged, "w", preset=PRESET) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        for item in sorted(folder.rglob("*")):
            if item.is_file() and "__pycache__" not in item.parts and item.name != ".lock":
                archive.add(item, item.relative_to(folder).as_posix())
    staged.rename(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.pack", description="Make the pack for another machine."
    )
    parser.add_argument("--out", type=Path, default=PACK, help="folder of the parts")
    parser.add_argument("--runtime", default=RUNTIME, help=f"the build of onnxruntime [default: {RUNTIME}]")
    arguments = parser.parse_args()
    for part in pack(arguments.out, runtime=arguments.runtime):
        remark(f"{part}: {part.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
