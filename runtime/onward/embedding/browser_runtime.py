"""Browser runtime: onnxruntime-web, which a page needs to run the model; it is not a part of Onward.

It comes from an npm package that the user names, unpacked or as .tgz, or npm downloads the pinned version if the user
allows it. A downloaded package stays in the user's cache.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from onward.errors import UsageError

__all__ = ["INTEGRITY", "VERSION", "BrowserRuntime"]

VERSION = "1.30.0"
#: SHA-512 of the package, in npm's notation.
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
#: WebAssembly with SIMD and threads.
WASM_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
#: WebGPU; a page loads these only if it uses WebGPU.
WEBGPU_FILES = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
NOTICES = ("LICENSE", "ThirdPartyNotices.txt")
NPM_TIMEOUT_S = 600


@dataclass(frozen=True)
class BrowserRuntime:
    """Where onnxruntime-web comes from, and which of its files a page gets.

    Args:
        source: The unpacked npm package, or its .tgz; by default the one in the cache.
        download: Whether npm may download it if it is in neither place.
        webgpu: Whether the page gets WebGPU: 27 MB more to serve, loaded only if it is used.
    """

    source: Path | None = None
    download: bool = False
    webgpu: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The files of its folder dist/ that a page needs."""
        return WASM_FILES + (WEBGPU_FILES if self.webgpu else ())

    def read(self) -> dict[str, bytes]:
        """File name -> content, with the licence and `version.json` (package, version, whether it has WebGPU).

        Raises:
            UsageError: It is missing, is not onnxruntime-web, or cannot be downloaded.
        """
        source = self.source or self._cached()
        try:
            files = _read_folder(source, self.names) if source.is_dir() else _read_archive(source, self.names)
            version = json.loads(files.pop("package.json"))["version"]
        except (OSError, KeyError, ValueError, TypeError, tarfile.TarError) as error:
            raise UsageError(
                f"{source} is not the npm package onnxruntime-web, unpacked or as .tgz: {error}."
            ) from error
        document = {"package": "onnxruntime-web", "version": version, "licence": "MIT", "webgpu": self.webgpu}
        return files | {"version.json": (json.dumps(document, indent=2) + "\n").encode()} | _notices()

    def _cached(self) -> Path:
        cached = _cache_folder() / f"onnxruntime-web-{VERSION}.tgz"
        if cached.is_file():
            _check_integrity(cached)
            return cached
        if not self.download:
            raise UsageError(
                f"a page needs onnxruntime-web {VERSION}, which is not in the cache. Let npm download it (33 MB, once) "
                "with --download, or give the npm package, unpacked or as .tgz, with --onnxruntime-web."
            )
        _fetch(cached)
        return cached


def _notices() -> dict[str, bytes]:
    """The licence files that must be served, too. They are in onnxruntime's Python package, not in the npm package."""
    package = find_spec("onnxruntime")
    folders = [Path(place) for place in (package.submodule_search_locations or ())] if package else []
    return {name: (folder / name).read_bytes() for folder in folders for name in NOTICES if (folder / name).is_file()}


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onward"


def _fetch(cached: Path) -> None:
    """Let npm download the package, and keep it only if its digest is the pinned one."""
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError("npm is not installed; it is needed to download onnxruntime-web.")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent", "--pack-destination", folder]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=NPM_TIMEOUT_S)
        except (subprocess.SubprocessError, OSError) as error:
            reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
            raise UsageError(f"npm could not download onnxruntime-web {VERSION}: {' '.join(reason)}") from error
        fetched = Path(folder) / f"onnxruntime-web-{VERSION}.tgz"
        _check_integrity(fetched)
        cached.parent.mkdir(parents=True, exist_ok=True)
        staged = cached.with_suffix(f".{os.getpid()}.part")
        shutil.move(fetched, staged)
        staged.replace(cached)


def _check_integrity(archive: Path) -> None:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != INTEGRITY:
        raise UsageError(f"{archive} is not onnxruntime-web {VERSION} as it was published: its SHA-512 differs.")


def _read_folder(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    return {"package.json": (folder / "package.json").read_bytes()} | {
        name: (folder / "dist" / name).read_bytes() for name in names
    }


def _read_archive(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    wanted = {"package/package.json": "package.json"} | {f"package/dist/{name}": name for name in names}
    files = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.name in wanted else None
            if content is not None:
                files[wanted[member.name]] = content.read()
    missing = sorted(set(wanted.values()) - set(files))
    if missing:
        raise KeyError(f"{', '.join(missing)} is not in it")
    return files
