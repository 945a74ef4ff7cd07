from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from onward.embedding.browser_runtime import NOTICES, WASM_FILES, WEBGPU_FILES, BrowserRuntime
from onward.errors import UsageError


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The parts of the npm package that are looked at."""
    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "onnxruntime-web", "version": "1.30.0"}))
    for name in (*WASM_FILES, *WEBGPU_FILES):
        (folder / "dist" / name).write_bytes(name.encode())
    return folder


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_package_is_read_unpacked_or_not(package: Path, tmp_path: Path, is_packed: bool) -> None:
    source = package
    if is_packed:
        source = tmp_path / "onnxruntime-web.tgz"
        with tarfile.open(source, "w:gz") as archive:
            archive.add(package, "package")
    files = BrowserRuntime(source).read()
    assert json.loads(files.pop("version.json"))["version"] == "1.30.0"
    assert b"Microsoft" in files.pop("LICENSE")
    assert files.pop("ThirdPartyNotices.txt")
    assert files == {name: name.encode() for name in (*WASM_FILES, *WEBGPU_FILES)}


def test_without_webgpu_it_is_smaller(package: Path) -> None:
    files = BrowserRuntime(package, webgpu=False).read()
    assert set(files) == {*WASM_FILES, *NOTICES, "version.json"}
    assert json.loads(files["version.json"])["webgpu"] is False


def test_what_is_missing_is_named(package: Path, tmp_path: Path) -> None:
    (package / "dist" / WASM_FILES[-1]).unlink()
    with pytest.raises(UsageError, match=WASM_FILES[-1]):
        BrowserRuntime(package).read()
    archive = tmp_path / "short.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(package, "package")
    with pytest.raises(UsageError, match=WASM_FILES[-1]):
        BrowserRuntime(archive).read()


def test_links_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "links.tgz"
    with tarfile.open(path, "w:gz") as archive:
        content = json.dumps({"version": "1"}).encode()
        member = tarfile.TarInfo("package/package.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        for name in WASM_FILES:
            link = tarfile.TarInfo(f"package/dist/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    with pytest.raises(UsageError, match="not the npm package"):
        BrowserRuntime(path, webgpu=False).read()


def test_a_changed_download_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What npm brings, and what lies in the cache, is held against the digest that is pinned."""
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\nfor last; do :; done\necho other > "$last/onnxruntime-web-1.30.0.tgz"\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match="SHA-512"):
        BrowserRuntime(download=True).read()
    assert not list((tmp_path / "cache").rglob("*.tgz"))
    cached = tmp_path / "cache" / "onward" / "onnxruntime-web-1.30.0.tgz"
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_text("other")
    with pytest.raises(UsageError, match="SHA-512"):
        BrowserRuntime().read()


def test_npm_that_fails_or_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="not installed"):
        BrowserRuntime(download=True).read()
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    npm.chmod(0o755)
    with pytest.raises(UsageError, match="no network"):
        BrowserRuntime(download=True).read()
