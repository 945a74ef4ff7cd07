"""Keys: pairs that sign bundles, in PEM files as OpenSSL reads and writes them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from onward.errors import OutputError, UsageError

__all__ = ["ALGORITHMS", "KeyPair", "PrivateKey", "PublicKey", "generate_keys", "read_private_key", "read_public_key"]

#: What `onward keygen` makes. `model_signing` reads keys on curves only.
ALGORITHMS = ("p256", "ed25519")
#: Curve -> the hash of its signatures, as `model_signing` pairs them.
HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
#: The size of an RSA key of 16,384 bits, which is none of ours, is below it.
MAX_KEY_BYTES = 64 << 10


@dataclass(frozen=True)
class PublicKey:
    """A key that checks signatures."""

    key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey

    @property
    def pem(self) -> bytes:
        """The content of its file."""
        return self.key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its PEM file, 64 hexadecimal digits: what a signature calls it."""
        return hashlib.sha256(self.pem).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether its private key made this signature of this message."""
        try:
            if isinstance(self.key, ec.EllipticCurvePublicKey):
                self.key.verify(signature, message, ec.ECDSA(HASHES[self.key.curve.name]))
            else:
                self.key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """A key that makes signatures."""

    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey

    @property
    def public(self) -> PublicKey:
        """The key that checks its signatures."""
        return PublicKey(self.key.public_key())

    def sign(self, message: bytes) -> bytes:
        """The signature of a message."""
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(message, ec.ECDSA(HASHES[self.key.curve.name]))
        return self.key.sign(message)


@dataclass(frozen=True)
class KeyPair:
    """Two files that `generate_keys` wrote.

    Args:
        private: Signs; only its owner may read it.
        public: Checks signatures; for everybody.
        fingerprint: SHA-256 of the public file.
    """

    private: Path
    public: Path
    fingerprint: str


def generate_keys(path: str | Path, *, algorithm: str = "p256", passphrase: str | None = None) -> KeyPair:
    """Make a new pair of keys. Existing files are never replaced: a lost private key cannot be made again.

    Args:
        path: The private key's file, such as `key.pem`. The public key is written beside it as `key.pub`.
        algorithm: `p256` (ECDSA on the curve P-256; `model_signing` checks such signatures, too) or `ed25519`.
        passphrase: Encrypts the private key's file.

    Raises:
        OutputError: A file exists, or cannot be written.
        UsageError: The algorithm is unknown, the passphrase is empty, or the path ends with `.pub`.
    """
    private, public = Path(path), Path(path).with_suffix(".pub")
    if algorithm not in ALGORITHMS:
        raise UsageError(f"there is no algorithm {algorithm!r}, expected {' or '.join(ALGORITHMS)}.")
    if private == public:
        raise UsageError(
            f"{private} would be the private key and the public one; choose another name, such as key.pem."
        )
    if passphrase == "":
        raise UsageError("the passphrase is empty. Leave it out for a key that is not encrypted.")
    for file in (private, public):
        if file.exists():
            raise OutputError(f"{file} exists, and a key is never replaced. Choose another name, or move it away.")
    key = PrivateKey(
        ec.generate_private_key(ec.SECP256R1()) if algorithm == "p256" else ed25519.Ed25519PrivateKey.generate()
    )
    encryption = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase.encode())
    )
    content = key.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    _write_new(private, content, 0o600)
    _write_new(public, key.public.pem, 0o644)
    return KeyPair(private, public, key.public.fingerprint)


def read_public_key(path: Path) -> PublicKey:
    """Read a public key.

    Raises:
        UsageError: The file is missing, or no public key that can be used here.
    """
    content = _read(path)
    if b"PRIVATE KEY-----" in content:
        raise UsageError(f"{path} is a private key, expected a public one: the .pub file that `onward keygen` wrote.")
    try:
        key = serialization.load_pem_public_key(content)
    except Exception as error:  # cryptography raises ValueError, its own and others
        raise UsageError(f"{path} is not a public key in PEM, such as `onward keygen` writes.") from error
    if isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in HASHES
    ):
        return PublicKey(key)
    raise UsageError(_unknown_kind(path))


def read_private_key(path: Path, passphrase: Callable[[], str | None] = lambda: None) -> PrivateKey:
    """Read a private key.

    Args:
        path: Its file.
        passphrase: Called for the passphrase if the file is encrypted; it may have none.

    Raises:
        UsageError: The file is missing, no private key that can be used here, or the passphrase is wrong.
    """
    content = _read(path)
    if b"-----BEGIN PUBLIC KEY-----" in content:
        raise UsageError(f"{path} is a public key, expected the private one: a bundle is signed with key.pem.")
    secret = None
    if b"ENCRYPTED" in content:
        given = passphrase()
        if given is None:
            raise UsageError(f"{path} is encrypted: its passphrase is needed.")
        secret = given.encode()
    try:
        key = serialization.load_pem_private_key(content, secret)
    except Exception as error:  # cryptography raises ValueError, its own and others
        what = "the passphrase is wrong" if secret is not None else "it is not a private key in PEM"
        raise UsageError(f"{path} cannot be read: {what}.") from error
    if isinstance(key, ed25519.Ed25519PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in HASHES
    ):
        return PrivateKey(key)
    raise UsageError(_unknown_kind(path))


def _unknown_kind(path: Path) -> str:
    return f"{path} is a key of another kind, expected Ed25519, P-256, P-384 or P-521: `onward keygen` makes a pair."


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise UsageError(f"the key {path} cannot be read: {error.strerror or error}.") from error
    if len(content) > MAX_KEY_BYTES:
        raise UsageError(f"{path} is too large to be a key.")
    return content


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
