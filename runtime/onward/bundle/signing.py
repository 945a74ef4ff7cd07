"""Signing: who made a bundle.

The signature is the file `model.sig` beside the manifest: a Sigstore bundle with a DSSE envelope around an in-toto
statement, which has the digest of every file. It is the format of sigstore/model-transparency: `model_signing verify
key` checks signatures of Onward, and Onward checks those of `model_signing sign key`.

Sources: github.com/secure-systems-lab/dsse (protocol.md), in-toto.io/Statement/v1, model_signing/signature/v1.0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onward.bundle.bundle import MANIFEST, SIGNATURE, Bundle, digest_file
from onward.bundle.keys import PrivateKey, PublicKey, read_private_key, read_public_key
from onward.document import Document, parse
from onward.errors import BundleError
from onward.files import written_whole
from onward.limits import MAX_DOCUMENT_BYTES, mebibytes

__all__ = ["Signed", "check_signature", "sign", "signature_text"]

SIGSTORE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"


@dataclass(frozen=True)
class Signed:
    """What `sign` did.

    Args:
        path: The signature's file.
        num_files: How many files it covers.
        fingerprint: Of the public key that checks it.
    """

    path: Path
    num_files: int
    fingerprint: str


def sign(bundle: Bundle, key: Path, passphrase: Callable[[], str | None] = lambda: None) -> Signed:
    """Sign every file of a bundle. An earlier signature is replaced.

    Args:
        bundle: An opened bundle.
        key: The private key's file.
        passphrase: Called for the passphrase if that file is encrypted.

    Raises:
        BundleError: A file is missing, changed, or not named by the manifest.
        OutputError: The signature cannot be written.
        UsageError: The key cannot be read.
    """
    private = read_private_key(key, passphrase)
    bundle.check()
    digests = {file.path: file.sha256 for file in bundle.every_file}
    digests[MANIFEST] = digest_file(bundle.path, bundle.path / MANIFEST).sha256
    path = bundle.path / SIGNATURE
    with written_whole(path) as staged:
        staged.write_text(signature_text(bundle.path.resolve().name, digests, private), encoding="utf-8")
    return Signed(path, len(digests), private.public.fingerprint)


def signature_text(name: str, digests: Mapping[str, str], key: PrivateKey) -> str:
    """The content of a signature's file.

    Args:
        name: What the statement calls the bundle; nobody checks it.
        digests: POSIX path -> SHA-256 of every file.
        key: The private key.
    """
    payload = json.dumps(_statement(name, digests)).encode()
    document = {
        "mediaType": SIGSTORE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.fingerprint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(key.sign(_encoded(payload))).decode(), "keyid": ""}],
        },
    }
    return json.dumps(document) + "\n"


def check_signature(folder: Path, key: Path) -> Mapping[str, str]:
    """Check that a key signed the bundle in a folder. Nothing but the signature is read.

    Args:
        folder: The bundle's folder.
        key: The public key's file.

    Returns:
        POSIX path -> SHA-256 of every file that was signed, the manifest among them.

    Raises:
        BundleError: There is no signature, it is damaged, or another key made it.
        UsageError: The key cannot be read.
    """
    public = read_public_key(key)
    path = folder / SIGNATURE
    if not path.is_file() or path.is_symlink():
        raise BundleError(
            f"{folder} is not signed: it has no {SIGNATURE}, and a key was given. Ask whoever made it for the signed "
            "bundle, or leave out the key."
        )
    if (size_bytes := path.stat().st_size) > MAX_DOCUMENT_BYTES:
        raise BundleError(f"{path} has {mebibytes(size_bytes)}, at most {mebibytes(MAX_DOCUMENT_BYTES)}.")
    document = parse(path.read_bytes(), str(path), BundleError)
    envelope = document["dsseEnvelope"]
    payload = _bytes_of(envelope["payload"])
    _expect(envelope["payloadType"], PAYLOAD_TYPE)
    first = next(iter(envelope["signatures"]), None)  # `model_signing` reads no other
    if first is None or not public.verifies(_bytes_of(first["sig"]), _encoded(payload)):
        raise BundleError(f"{folder} {_why_not(document, public, key)}")
    return _digests_of(parse(payload, f"the statement of {path}", BundleError))


def _why_not(document: Document, public: PublicKey, key: Path) -> str:
    material = document.get("verificationMaterial")
    named = material.get("publicKey") if material else None
    hint = named.get("hint") if named else None
    if hint is not None and hint.value != public.fingerprint:
        other = hint.read(str)[:12]
        return f"was signed by another key: {key} is {public.fingerprint[:12]}, the signature names {other}."
    return f"has a signature that does not hold: {key} did not make it, or it was changed. Do not use this bundle."


def _statement(name: str, digests: Mapping[str, str]) -> dict[str, Any]:
    ordered = sorted(digests.items(), key=lambda item: Path(item[0]))  # as model_signing orders them
    whole = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in ordered)).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": whole}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE],
            },
            "resources": [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in ordered],
        },
    }


def _digests_of(statement: Document) -> dict[str, str]:
    _expect(statement["_type"], STATEMENT_TYPE)
    _expect(statement["predicateType"], PREDICATE_TYPE)
    predicate = statement["predicate"]
    _expect(predicate["serialization"]["method"], "files")
    digests: dict[str, str] = {}
    for resource in predicate["resources"]:
        _expect(resource["algorithm"], "sha256")
        name = resource["name"]
        if name.read(str) in digests:
            raise name.broken("is named twice")
        digests[name.read(str)] = resource["digest"].read(str)
    return digests


def _encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _bytes_of(text: Document) -> bytes:
    try:
        return base64.b64decode(text.read(str), validate=True)
    except (binascii.Error, ValueError) as error:
        raise text.broken("is not base64") from error


def _expect(part: Document, value: str) -> None:
    if part.value != value:
        part.refuse(repr(value))
