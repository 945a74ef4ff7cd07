"""Adoption: weights that somebody else saved, and the network that they are of, become a Checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.errors import UsageError
from runtime.signature import Signature
from training.checkpoint import Checkpoint
from training.foreign import fit, read_weights
from training.models import build_to_fit, with_logits
from training.models.libraries import signature_of_weights

__all__ = ["adopt", "known_signature"]


def adopt(
    path: Path,
    *,
    model: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    signature: Signature | None = None,
    end: str = "auto",
    data: str = "",
    allow_globals: Sequence[str] = (),
) -> Checkpoint:
    """Read weights and put them into their network.

    Args:
        path: A state_dict in any of the wrappings that `read_weights` knows.
        model: What the weights are of, as `training.models.build` takes it; needed unless the file says so.
        arguments: Its further arguments; over those that the file holds.
        signature: What goes in and comes out; needed unless the weights are torchvision's own.
        end: What the network ends in.
        data: What names a data set of real images for it.
        allow_globals: Classes that the file may ask for.

    Returns:
        A checkpoint without history, trusted, since the caller names the network.

    Raises:
        CheckpointError: The file cannot be read, or the weights do not fit.
        UsageError: It is not said what the weights are of, or what the images are.
    """
    weights = read_weights(path, allow_globals=allow_globals)
    name = model or weights.model
    if name is None:
        raise UsageError(f"{path} holds weights ({weights.kind}), and does not say of which network: add --model.")
    chosen = {**(weights.arguments if name == weights.model else {}), **(arguments or {})}
    if signature is None:
        signature, more = known_signature(name, path)
        chosen = more | chosen
    network, signature = build_to_fit(name, signature, chosen)
    fit(network, weights, path=path)
    with_logits(network, signature, end)  # so that an end that cannot be had is said now
    return Checkpoint(
        architecture=name,
        arguments=chosen,
        signature=signature,
        state_dict=network.state_dict(),
        data=data,
        end=end,
        provenance={
            "weights": path.name,
            "weights_kind": weights.kind,
            "weights_file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
        is_trusted=True,
    )


def known_signature(name: str, path: Path) -> tuple[Signature, dict[str, Any]]:
    """The signature of torchvision's own weights, and the arguments that go with them.

    Raises:
        UsageError: Of other weights nothing is known.
    """
    library, _, rest = name.partition(":")
    if library != "torchvision":
        raise UsageError(
            f"what {path} takes and gives is not known: name a data set that it was trained on (--data), or say it "
            f"(--input-size, --labels, --mean, --std)."
        )
    signature, _, arguments = signature_of_weights(rest, path)
    return signature, arguments
