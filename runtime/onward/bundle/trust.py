"""Trust: which files of a bundle may be opened.

An ONNX file is data for an interpreter. A .pt2 or TorchScript file is a program: PyTorch runs what it says, so such a
file is opened only if the user trusts whoever made it. That is so for bundles that this user exported on this machine
(their digests are remembered), for bundles with a signature that holds (`key`), and by word (`--trust`).
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onward.errors import TrustError, UsageError, missing_extra

if TYPE_CHECKING:
    from onward.bundle.artifact import Artifact
    from onward.bundle.bundle import Bundle

__all__ = ["NO_TRUST", "SKIPPED", "Trust", "check_may_open", "is_remembered", "is_safe", "remember", "state_folder"]

#: Formats that hold no code of their own. A format that is not listed is taken for one that does.
SAFE_FORMATS = ("onnx",)
#: Why an artifact was not opened, in the rows of `verify` and `bench`.
SKIPPED = "it can run code; --trust, or --key"
#: In the state folder: one file for each remembered manifest, named by its digest.
REMEMBERED = "exported"


@dataclass(frozen=True)
class Trust:
    """What the user says about who made a bundle.

    Args:
        by_word: The user trusts the bundle (`--trust`).
        key: A public key; the bundle must have a signature of it.
    """

    by_word: bool = False
    key: Path | None = None

    @classmethod
    def of(cls, trust: bool = False, key: str | Path | None = None) -> Trust:
        """From the options of a command, or the keywords of a function."""
        return cls(trust, None if key is None else Path(key))

    def check_signature(self, folder: Path) -> Mapping[str, str] | None:
        """Check the bundle's signature, before anything else in it is read.

        Returns:
            POSIX path -> SHA-256 of every file that was signed; None without a key.

        Raises:
            BundleError: There is no signature, or the key did not make it.
            UsageError: The key cannot be read, or `cryptography` is not installed.
        """
        if self.key is None:
            return None
        try:
            from onward.bundle.signing import check_signature
        except ModuleNotFoundError as error:
            sentence = missing_extra(error)
            if sentence is None:
                raise
            raise UsageError(f"the key was not used: {sentence}") from error
        return check_signature(folder, self.key)

    def covers(self, manifest_sha256: str) -> bool:
        """Whether a bundle is trusted whose manifest has this digest, and whose signature was checked with the key."""
        return self.by_word or self.key is not None or is_remembered(manifest_sha256)

    def to_json(self) -> dict[str, Any]:
        """For the processes of a benchmark; `Trust.of(**trust.to_json()) == trust`."""
        return {"trust": self.by_word, "key": None if self.key is None else str(self.key)}


NO_TRUST = Trust()


def is_safe(artifact: Artifact) -> bool:
    """Whether an artifact holds no code of its own."""
    return artifact.format in SAFE_FORMATS


def check_may_open(bundle: Bundle, artifact: Artifact) -> None:
    """Refuse an artifact that can run code, if nobody trusts the bundle.

    Raises:
        TrustError: With what to do.
    """
    if not bundle.may_open(artifact):
        raise TrustError(
            f"{artifact.file.path} of {bundle.path} was not opened: a {artifact.format} file can run code, and this "
            "bundle was not exported here by you. If you trust whoever made it, add --trust (trust=True in Python), or "
            "--key with the public key that signed it. The ONNX artifact runs without."
        )


def remember(manifest_sha256: str, path: Path) -> str:
    """Remember that this user exported a bundle on this machine, so that all of its artifacts may be opened.

    Args:
        manifest_sha256: The digest of its manifest.
        path: Its folder, for people who look into the state folder.

    Returns:
        Why it could not be remembered; empty if it was.
    """
    try:
        folder = state_folder() / REMEMBERED
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, staged = tempfile.mkstemp(dir=folder, prefix=".")  # mode 0600
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{path.resolve()}\n")
        Path(staged).replace(folder / manifest_sha256)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        return (
            f"{path} cannot be remembered as exported here: {reason}. Its .pt2 and TorchScript files will open "
            "with --trust only. $ONWARD_STATE names a folder that can be written."
        )
    return ""


def is_remembered(manifest_sha256: str) -> bool:
    """Whether this user exported, on this machine, the bundle whose manifest has this digest."""
    if not re.fullmatch("[0-9a-f]{64}", manifest_sha256):
        return False
    try:
        owner = (state_folder() / REMEMBERED / manifest_sha256).stat().st_uid
    except (OSError, RuntimeError):
        return False
    return not hasattr(os, "geteuid") or owner == os.geteuid()


def state_folder() -> Path:
    """Where Onward remembers things between runs: $ONWARD_STATE, else the platform's folder for a program's state.

    Raises:
        RuntimeError: The user has no home.
    """
    if own := os.environ.get("ONWARD_STATE"):
        return Path(own)
    if base := os.environ.get("XDG_STATE_HOME"):
        return Path(base) / "onward"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "onward"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "onward"
    return Path.home() / ".local" / "state" / "onward"
