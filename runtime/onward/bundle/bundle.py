"""Bundle: a folder with a manifest, the artifacts, the golden record and the parity report.

docs/bundle_format.md describes format 1. Opening a bundle checks its manifest; opening an artifact checks the
artifact's digest; `check` checks the digest of every file. numpy is imported only where arrays are read, so that
`onward inspect` works without it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from onward.bundle.artifact import Artifact, FileDigest
from onward.bundle.trust import NO_TRUST, Trust, is_safe
from onward.document import Document, check_size, parse
from onward.errors import BundleError
from onward.model_file import MANIFEST, not_a_bundle
from onward.signature import AnySignature, signature_from_json

if TYPE_CHECKING:
    from onward.bundle.golden import GoldenRecord
    from onward.parity import Outputs

__all__ = ["FORMAT", "MANIFEST", "Artifact", "Bundle", "FileDigest", "digest_file", "manifest_digest"]

FORMAT = 1
GOLDEN = "golden.npz"
#: Between an artifact's name and `.npz`, in the name of the file of its simulated outputs.
SIMULATION = ".simulation"
PARITY_JSON = "parity.json"
PARITY_HTML = "parity.html"
#: What signs a bundle lies beside its manifest, which cannot name it.
SIGNATURE = "model.sig"
#: Files that desktops put into every folder that they show.
OF_DESKTOPS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Args:
        path: The folder.
        signature: What the model takes and gives.
        artifacts: In order of preference.
        files: Every other file that the manifest names.
        provenance: Versions, the checkpoint's digest, results of training.
        manifest_sha256: The digest of its manifest, and thereby of every file; empty if it was not opened.
        trust: What the user said about who made it.
    """

    path: Path
    signature: AnySignature
    artifacts: tuple[Artifact, ...]
    files: tuple[FileDigest, ...]
    provenance: Mapping[str, Any]
    manifest_sha256: str = field(default="", compare=False)
    trust: Trust = field(default=NO_TRUST, compare=False)

    @classmethod
    def open(cls, path: str | Path, trust: Trust = NO_TRUST) -> Bundle:
        """Open a bundle: check its signature, where a key was given, and its manifest.

        Args:
            path: The folder.
            trust: What the user says about who made it. It decides which artifacts may be opened.

        Raises:
            BundleError: There is no bundle, its signature does not hold, its manifest was changed, or a newer Onward
                wrote it.
        """
        path = Path(path)
        _recover(path)
        signed = trust.check_signature(path)
        content = _read_manifest(path)
        if signed is not None and signed.get(MANIFEST) != hashlib.sha256(content).hexdigest():
            raise BundleError(f"{path / MANIFEST} is not the one that was signed. Do not use this bundle.")
        document = _parse_manifest(path, content)
        artifacts = document["artifacts"].read(tuple[Artifact, ...])
        _check_names(document["artifacts"], artifacts)
        bundle = cls(
            path,
            signature_from_json(document["signature"]),
            artifacts,
            document["files"].read(tuple[FileDigest, ...]),
            document["provenance"].read(Mapping[str, Any]),
            document["manifest_sha256"].read(str),
            trust,
        )
        if signed is not None:
            bundle._check_signed(signed)
        return bundle

    def to_json(self) -> dict[str, Any]:
        """The manifest, with its own digest."""
        document = {
            "format": FORMAT,
            "signature": self.signature.to_json(),
            "artifacts": [artifact.to_json() for artifact in self.artifacts],
            "files": [asdict(file) for file in self.files],
            "provenance": dict(self.provenance),
        }
        return document | {"manifest_sha256": manifest_digest(document)}

    @property
    def every_file(self) -> tuple[FileDigest, ...]:
        """Every file that the manifest names, artifacts first."""
        return (*(artifact.file for artifact in self.artifacts), *self.files)

    @property
    def artifact_names(self) -> tuple[str, ...]:
        """The names of the artifacts, in order of preference."""
        return tuple(artifact.name for artifact in self.artifacts)

    @property
    def signature_state(self) -> str:
        """`holds` if the bundle was opened with a key, else `not checked`, or `none` if it is not signed."""
        if self.trust.key is not None:
            return "holds"
        return "not checked" if (self.path / SIGNATURE).is_file() else "none"

    def may_open(self, artifact: Artifact) -> bool:
        """Whether an artifact may be opened: it holds no code of its own, or the bundle is trusted."""
        return is_safe(artifact) or self.trust.covers(self.manifest_sha256)

    def artifact(self, name: str) -> Artifact:
        """The artifact of that name.

        Raises:
            BundleError: There is none; the message lists the names.
        """
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        raise BundleError(f"{self.path} has no artifact {name!r}; it has {self._names()}.")

    def preferred(self, format: str) -> Artifact:
        """The first float32 artifact of that format: the one to use where only the format matters.

        A lower precision is never chosen for the user: such an artifact runs only if it is named.

        Raises:
            BundleError: There is none; the message lists the names of the artifacts.
        """
        for artifact in self.artifacts:
            if artifact.format == format and artifact.is_float32:
                return artifact
        raise BundleError(f"{self.path} has no float32 artifact of format {format!r}; it has {self._names()}.")

    def read(self, file: FileDigest) -> bytes:
        """The content of a file, after its size and digest were compared with the manifest.

        Raises:
            BundleError: The file is missing, outside the bundle, or changed.
        """
        data = self._resolve(file).read_bytes()
        self._compare(file, len(data), hashlib.sha256(data).hexdigest())
        return data

    def locate(self, file: FileDigest) -> Path:
        """The path of a file, after its size and digest were compared with the manifest.

        Raises:
            BundleError: The file is missing, outside the bundle, or changed.
        """
        path = self._resolve(file)
        found = digest_file(self.path, path)
        self._compare(file, found.size_bytes, found.sha256)
        return path

    def beside(self, artifact: Artifact) -> list[FileDigest]:
        """The files that belong to an artifact: their names start with its file's, such as `model.onnx.data`."""
        return [file for file in self.files if file.path.startswith(f"{artifact.file.path}.")]

    def check(self) -> None:
        """Check every file that the manifest names, and that there is no other.

        Raises:
            BundleError: The first one that is missing, changed, or not named.
        """
        for file in self.every_file:
            self.locate(file)
        allowed = {self.path / part for part in (MANIFEST, SIGNATURE, *(file.path for file in self.every_file))}
        for path in _files_below(self.path):
            if path not in allowed and path.name not in OF_DESKTOPS:
                raise BundleError(
                    f"{path} is not named by the manifest; a bundle holds only what its manifest names. Remove it, or "
                    "export the bundle again."
                )

    def golden(self) -> GoldenRecord:
        """The golden record.

        Raises:
            BundleError: It is missing, changed, or does not fit the signature.
        """
        from onward.bundle.golden import GoldenRecord

        golden = GoldenRecord.load(self.read(self._file(GOLDEN)))
        golden.check(self.signature)
        return golden

    def golden_outputs(self, artifact: str) -> dict[str, Outputs]:
        """The outputs of the artifact of that name on the machine that built the bundle: kind -> output -> float32."""
        from onward.bundle.golden import load_outputs

        return dict(load_outputs(self.read(self._file(f"golden/{artifact}.npz"))))

    def golden_simulation(self, artifact: str) -> dict[str, Outputs]:
        """The outputs of an artifact of lower precision as its graph gives them in float64: kind -> output -> float64.

        Raises:
            BundleError: They are missing or changed.
        """
        return self.golden_outputs(f"{artifact}{SIMULATION}")

    def parity(self) -> dict[str, Any]:
        """The parity report that the gate wrote.

        Raises:
            BundleError: It is missing, changed, or no parity report.
        """
        file, name = self._file(PARITY_JSON), str(self.path / PARITY_JSON)
        check_size(self._resolve(file).stat().st_size, name, BundleError)
        document = parse(self.read(file), name, BundleError)
        document["passed"].read(bool)
        for artifact in document["artifacts"]:
            artifact["artifact"].read(str)
        return document.read(dict[str, Any])

    def _check_signed(self, signed: Mapping[str, str]) -> None:
        named = {file.path: file.sha256 for file in self.every_file}
        covered = {path: digest for path, digest in signed.items() if PurePosixPath(path).name not in OF_DESKTOPS}
        covered.pop(MANIFEST)
        if differing := sorted(path for path in named | covered if named.get(path) != covered.get(path)):
            raise BundleError(
                f"the signature of {self.path} and its manifest differ in {differing[0]}. Do not use this bundle."
            )

    def _names(self) -> str:
        return ", ".join(self.artifact_names)

    def _file(self, path: str) -> FileDigest:
        for file in self.files:
            if file.path == path:
                return file
        raise BundleError(f"{self.path} has no {path}: its manifest does not name it.")

    def _resolve(self, file: FileDigest) -> Path:
        relative = PurePosixPath(file.path)
        if relative.is_absolute() or ".." in relative.parts or "\\" in file.path or ":" in file.path:
            raise BundleError(f"the manifest of {self.path} names {file.path!r}, which is outside the bundle.")
        path = self.path
        try:
            for part in relative.parts:
                path = path / part
                if path.is_symlink():
                    raise BundleError(f"{path} is a symbolic link; a bundle holds plain files only.")
            is_there = path.is_file()
        except (OSError, ValueError) as error:
            raise BundleError(f"the manifest of {self.path} names a file with an impossible path: {error}.") from error
        if not is_there:
            raise BundleError(f"{path} is missing; the manifest names it.")
        return path

    def _compare(self, file: FileDigest, size_bytes: int, sha256: str) -> None:
        if size_bytes != file.size_bytes:
            raise BundleError(
                f"{self.path / file.path} was changed: it has {size_bytes} bytes, the manifest says {file.size_bytes}."
            )
        if sha256 != file.sha256:
            raise BundleError(
                f"{self.path / file.path} was changed: its SHA-256 begins {sha256[:12]}, the manifest says "
                f"{file.sha256[:12]}. Export the bundle again, or copy it again from its source."
            )


def digest_file(root: Path, path: Path) -> FileDigest:
    """Digest one file below `root`."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 18))
    with path.open("rb", buffering=0) as stream:
        while size := stream.readinto(buffer):
            digest.update(buffer[:size])
    return FileDigest(path.relative_to(root).as_posix(), digest.hexdigest(), path.stat().st_size)


def manifest_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own digest, in canonical JSON (sorted keys, no spaces, ASCII)."""
    body = {key: value for key, value in document.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def previous_path(path: Path) -> Path:
    """Where the old bundle at `path` is kept while a new one replaces it."""
    return path.parent / f".{path.name}.previous"


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file and every link below a folder; links are not followed."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in sorted(files))
        yield from (path for name in sorted(folders) if (path := Path(parent, name)).is_symlink())


def _check_names(document: Document, artifacts: tuple[Artifact, ...]) -> None:
    names = [artifact.name for artifact in artifacts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise document.broken(f"has two artifacts of the name {twice[0]!r}, expected each name once")


def _recover(path: Path) -> None:
    # Where the system cannot exchange two folders, a replacement takes two renames. A crash between them leaves the
    # old bundle, complete, at its temporary name: move it back.
    previous = previous_path(path)
    if not path.exists() and (previous / MANIFEST).is_file():
        previous.rename(path)


def _read_manifest(path: Path) -> bytes:
    manifest = path / MANIFEST
    if not manifest.is_file() or manifest.is_symlink():
        raise not_a_bundle(path)
    check_size(manifest.stat().st_size, str(manifest), BundleError)
    return manifest.read_bytes()


def _parse_manifest(path: Path, content: bytes) -> Document:
    manifest = path / MANIFEST
    document = parse(content, str(manifest), BundleError)
    version = document["format"].read(int)
    if version > FORMAT:
        raise BundleError(
            f"{path} is a bundle of format {version}; this Onward reads formats up to {FORMAT}. Update Onward."
        )
    if document["manifest_sha256"].value != manifest_digest(document.value):
        raise BundleError(f"{manifest} was changed: its digest is not the one that it states.")
    return document
