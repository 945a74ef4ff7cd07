"""`onward keygen` and `onward sign`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from onward.cli.console import AsJson, BundlePath, print_json, say, say_next
from onward.errors import UsageError

__all__ = ["keygen", "sign"]

#: Holds the passphrase of a private key where nobody can be asked, as in CI.
PASSPHRASE = "ONWARD_PASSPHRASE"


def keygen(
    out: Annotated[
        Path, typer.Option(help="The private key's file. The public key is written beside it, as .pub.")
    ] = Path("key.pem"),
    algorithm: Annotated[
        str, typer.Option(help="p256, which `model_signing verify key` reads, too, or ed25519.")
    ] = "p256",
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help=f"Ask for a passphrase, or take it from ${PASSPHRASE}.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a pair of keys: the private one signs bundles, the public one checks them.

    Examples:
        onward keygen --out key.pem
    """
    from onward.bundle.keys import generate_keys

    passphrase = _passphrase(confirm=True) if encrypt else None
    if encrypt and passphrase is None:
        raise UsageError(f"there is no terminal to ask for the passphrase; ${PASSPHRASE} can have it.")
    pair = generate_keys(out, algorithm=algorithm, passphrase=passphrase)
    if as_json:
        print_json({"private": str(pair.private), "public": str(pair.public), "fingerprint": pair.fingerprint})
        return
    say(f"private key: {pair.private}. Keep it to yourself; who has it can sign as you.")
    say(f"public key:  {pair.public}, SHA-256 {pair.fingerprint[:12]}…. Give it to whoever gets your bundles.")
    say_next(("sign", "BUNDLE", "--key", pair.private))


def sign(
    bundle: BundlePath,
    key: Annotated[Path, typer.Option(metavar="PRIVATE_KEY", help="The private key: a PEM file of `onward keygen`.")],
    as_json: AsJson = False,
) -> None:
    """Sign every file of a bundle, so that others can check who made it: writes model.sig into it.

    Examples:
        onward sign artifacts/digits --key key.pem
        onward verify artifacts/digits --key key.pub
    """
    from onward.bundle import Bundle
    from onward.bundle.signing import sign as run

    signed = run(Bundle.open(bundle), key, lambda: _passphrase(confirm=False))
    if as_json:
        print_json({"path": str(signed.path), "num_files": signed.num_files, "fingerprint": signed.fingerprint})
        return
    say(f"{bundle} is signed: {signed.num_files} files, by the key with SHA-256 {signed.fingerprint[:12]}…")
    say_next(("verify", bundle, "--key", key.with_suffix(".pub")))


def _passphrase(*, confirm: bool) -> str | None:
    """From the environment, or from the person at the terminal; None where there is neither."""
    if given := os.environ.get(PASSPHRASE):
        return given
    if not sys.stdin.isatty():
        return None
    return str(typer.prompt("passphrase", hide_input=True, confirmation_prompt=confirm, err=True))
