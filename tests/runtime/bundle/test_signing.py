"""Signed bundles: keys, signatures, and what a bundle with a key is refused for."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import onward
from onward.bundle import MANIFEST, Bundle, digest_file
from onward.bundle.trust import Trust
from onward.errors import BundleError, OutputError, TrustError, UsageError
from tests.conftest import Onward
from tests.needs import needs_signing, needs_torch

pytestmark = needs_signing

SIGNATURE = "model.sig"
needs_model_signing = pytest.mark.skipif(
    importlib.util.find_spec("model_signing") is None, reason="model-signing is not installed here"
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of each algorithm."""
    folder = tmp_path_factory.mktemp("keys")
    for algorithm in ("p256", "ed25519"):
        onward.keygen(folder / f"{algorithm}.pem", algorithm=algorithm)
        onward.keygen(folder / f"other-{algorithm}.pem", algorithm=algorithm)
    return folder


@pytest.fixture(params=["p256", "ed25519"])
def signed(bundle: Bundle, keys: Path, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """A signed bundle that somebody else made, and the public key."""
    forge_manifest(bundle, "elsewhere")
    onward.sign(bundle.path, keys / f"{request.param}.pem")
    return bundle.path, keys / f"{request.param}.pub"


def forge_manifest(bundle: Bundle, made: str) -> None:
    """Another manifest, right in itself: what anybody can write who changes a bundle."""
    artifacts = tuple(
        replace(item, file=digest_file(bundle.path, bundle.path / item.file.path)) for item in bundle.artifacts
    )
    forged = replace(bundle, artifacts=artifacts, provenance={**bundle.provenance, "made": made})
    (bundle.path / MANIFEST).write_text(json.dumps(forged.to_json()))


def test_a_signed_bundle_opens_with_its_key_and_everything_in_it_is_trusted(signed: tuple[Path, Path]) -> None:
    path, key = signed
    assert not Bundle.open(path).may_open(Bundle.open(path).artifact("torchscript"))
    bundle = Bundle.open(path, Trust.of(key=key))
    assert all(bundle.may_open(artifact) for artifact in bundle.artifacts)
    assert (bundle.signature_state, Bundle.open(path).signature_state) == ("holds", "not checked")
    with onward.load(path, key=key) as classifier:
        assert classifier.verify().passed


def test_another_key_is_refused(signed: tuple[Path, Path], keys: Path) -> None:
    path, key = signed
    for other in set(keys.glob("*.pub")) - {key}:
        with pytest.raises(BundleError, match=rf"was signed by another key: {other} is "):
            Bundle.open(path, Trust.of(key=other))


def test_without_a_signature_a_key_is_an_error(bundle: Bundle, keys: Path) -> None:
    for call in (
        lambda: Bundle.open(bundle.path, Trust.of(key=keys / "p256.pub")),
        lambda: onward.verify(bundle, key=keys / "p256.pub"),
        lambda: onward.embed(bundle, "python", bundle.path.parent / "app", key=keys / "p256.pub"),
        lambda: onward.predict(bundle, bundle.path, "rows.csv", key=keys / "p256.pub"),
        lambda: onward.bench(bundle.path, key=keys / "p256.pub"),
    ):
        with pytest.raises(BundleError, match=r"is not signed: it has no model\.sig, and a key was given"):
            call()


def test_a_forged_bundle_passes_without_a_key_and_is_refused_with_one(signed: tuple[Path, Path], here: Onward) -> None:
    path, key = signed
    forge_manifest(Bundle.open(path), "by somebody else")
    assert here("verify", path, "--artifact", "onnx").returncode == 0
    done = here("verify", path, "--artifact", "onnx", "--key", key)
    assert (done.returncode, "manifest.json is not the one that was signed" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_a_changed_file_is_refused(signed: tuple[Path, Path], name: str) -> None:
    path, key = signed
    content = bytearray((path / name).read_bytes())
    content[-1] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} was changed"):
        onward.verify(path, key=key)


def test_the_signature_is_checked_before_the_manifest_is_parsed(signed: tuple[Path, Path], keys: Path) -> None:
    path, key = signed
    (path / MANIFEST).write_text("not JSON")
    with pytest.raises(BundleError, match="another key"):
        Bundle.open(path, Trust.of(key=keys / "other-p256.pub"))
    with pytest.raises(BundleError, match="is not the one that was signed"):
        Bundle.open(path, Trust.of(key=key))


def _change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((path / SIGNATURE).read_text())
    edit(document)
    (path / SIGNATURE).write_text(json.dumps(document))


def _statement(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    return found


def _with_another_digest(document: dict[str, Any]) -> None:
    statement = _statement(document)
    statement["predicate"]["resources"][0]["digest"] = "0" * 64
    document["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_with_another_digest, "has a signature that does not hold"),
        (lambda document: document["dsseEnvelope"].update(signatures=[]), "has a signature that does not hold"),
        (lambda document: document["dsseEnvelope"]["signatures"][0].update(sig="AAAA"), "does not hold"),
        (lambda document: document["dsseEnvelope"]["signatures"][0].update(sig="?"), "sig is not base64"),
        (lambda document: document["dsseEnvelope"].update(payloadType="text/plain"), "payloadType is 'text/plain'"),
        (lambda document: document.pop("dsseEnvelope"), "dsseEnvelope is missing"),
        (lambda document: document.pop("verificationMaterial"), ""),  # only a hint: the signature holds
    ],
)
def test_a_damaged_signature_is_a_sentence(
    signed: tuple[Path, Path], edit: Callable[[dict[str, Any]], None], said: str
) -> None:
    path, key = signed
    _change(path, edit)
    if not said:
        Bundle.open(path, Trust.of(key=key))
        return
    with pytest.raises(BundleError, match=said):
        Bundle.open(path, Trust.of(key=key))


def test_a_signature_of_another_bundle_is_refused(signed: tuple[Path, Path], keys: Path, tmp_path: Path) -> None:
    path, key = signed
    shutil.copytree(path, tmp_path / "second")
    forge_manifest(Bundle.open(tmp_path / "second"), "again")
    onward.sign(tmp_path / "second", key.with_suffix(".pem"))
    shutil.copy(tmp_path / "second" / SIGNATURE, path / SIGNATURE)
    with pytest.raises(BundleError, match="is not the one that was signed"):
        Bundle.open(path, Trust.of(key=key))


def test_a_bundle_is_whole_before_it_is_signed(bundle: Bundle, keys: Path) -> None:
    (bundle.path / "golden" / "extra").write_text("")
    with pytest.raises(BundleError, match="extra is not named by the manifest"):
        onward.sign(bundle, keys / "p256.pem")
    assert not (bundle.path / SIGNATURE).exists()


def test_a_second_signature_replaces_the_first(signed: tuple[Path, Path], keys: Path) -> None:
    path, key = signed
    onward.sign(path, keys / "other-p256.pem")
    Bundle.open(path, Trust.of(key=keys / "other-p256.pub"))
    with pytest.raises(BundleError, match="another key"):
        Bundle.open(path, Trust.of(key=key))


def test_a_private_key_is_its_owners_and_no_key_is_replaced(tmp_path: Path) -> None:
    pair = onward.keygen(tmp_path / "keys" / "mine.pem")
    assert (pair.private.name, pair.public.name) == ("mine.pem", "mine.pub")
    assert stat.S_IMODE(pair.private.stat().st_mode) == 0o600
    before = pair.private.read_bytes()
    with pytest.raises(OutputError, match="exists, and a key is never replaced"):
        onward.keygen(pair.private)
    pair.private.unlink()
    with pytest.raises(OutputError, match="exists, and a key is never replaced"):  # the public one
        onward.keygen(pair.private)
    assert not pair.private.exists()
    assert before


def test_an_encrypted_key_needs_its_passphrase(bundle: Bundle, tmp_path: Path) -> None:
    pair = onward.keygen(tmp_path / "key.pem", passphrase="secret")
    assert b"ENCRYPTED" in pair.private.read_bytes()
    with pytest.raises(UsageError, match="is encrypted: its passphrase is needed"):
        onward.sign(bundle, pair.private)
    with pytest.raises(UsageError, match="the passphrase is wrong"):
        onward.sign(bundle, pair.private, passphrase="guess")
    signed = onward.sign(bundle, pair.private, passphrase="secret")
    assert signed.fingerprint == pair.fingerprint
    Bundle.open(bundle.path, Trust.of(key=pair.public))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is not a public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is not a public key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\n", "is a private key, expected a public one"),
        (b"x" * 100_000, "too large to be a key"),
    ],
)
def test_a_file_that_is_no_public_key_is_a_sentence(
    bundle: Bundle, tmp_path: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "key.pub").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        Bundle.open(bundle.path, Trust.of(key=tmp_path / "key.pub"))


def test_keys_of_other_kinds_are_a_sentence(bundle: Bundle, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, x25519

    for key in (ec.generate_private_key(ec.SECP256K1()), x25519.X25519PrivateKey.generate()):
        (tmp_path / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        with pytest.raises(UsageError, match="is a key of another kind, expected Ed25519, P-256"):
            onward.sign(bundle, tmp_path / "key.pem")


def test_the_commands(bundle: Bundle, tmp_path: Path, here: Onward, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key.pem"
    pair = json.loads(here("keygen", "--out", key, "--json").stdout)
    done = here("sign", bundle.path, "--key", key)
    assert (done.returncode, f"next: onward verify {bundle.path} --key {pair['public']}" in done.stdout) == (0, True)
    assert "was not checked" in here("verify", bundle.path, "--artifact", "onnx").stdout
    monkeypatch.setenv("ONWARD_KEY", pair["public"])
    verified = here("verify", bundle.path, "--artifact", "onnx", "--json")
    assert json.loads(verified.stdout)["signature"] == "holds"
    refused = here("keygen", "--out", tmp_path / "second.pem", "--encrypt")
    assert (refused.returncode, "ONWARD_PASSPHRASE" in refused.stderr) == (2, True)
    assert not (tmp_path / "second.pem").exists()


@needs_torch
def test_with_a_key_programs_run(signed: tuple[Path, Path]) -> None:
    path, key = signed
    with pytest.raises(TrustError):
        onward.load(path, artifact="torchscript")
    assert not any(result.skipped for result in onward.verify(path, key=key))


@needs_model_signing
def test_model_signing_checks_a_signed_bundle(bundle: Bundle, keys: Path) -> None:
    onward.sign(bundle, keys / "p256.pem")
    done = _model_signing("verify", bundle.path, "--public_key", keys / "p256.pub")
    assert (done.returncode, done.stdout.strip()) == (0, "Verification succeeded")
    with (bundle.path / "model.onnx").open("ab") as file:
        file.write(b"\0")
    (bundle.path / "golden" / "extra").write_text("")
    done = _model_signing("verify", bundle.path, "--public_key", keys / "p256.pub")
    assert done.returncode == 1
    assert "Hash mismatch for 'model.onnx'" in done.stderr
    assert "Extra files found" in done.stderr


@needs_model_signing
def test_a_signature_of_model_signing_is_checked(bundle: Bundle, keys: Path) -> None:
    assert _model_signing("sign", bundle.path, "--private_key", keys / "p256.pem").returncode == 0
    Bundle.open(bundle.path, Trust.of(key=keys / "p256.pub"))
    with pytest.raises(BundleError, match="another key"):
        Bundle.open(bundle.path, Trust.of(key=keys / "other-p256.pub"))


def _model_signing(verb: str, path: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_signing", verb, "key", path, "--signature", path / SIGNATURE, *options]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
