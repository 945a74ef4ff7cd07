"""Adoption: weights that somebody else saved, and the network that they are of, become a Checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onward.errors import UsageError
from onward.signature import AnySignature, Signature
from onward_training.checkpoint import Checkpoint, is_checkpoint
from onward_training.data import load
from onward_training.external import fit, read_weights
from onward_training.models import as_logits_network, build_checked, is_user_code
from onward_training.models.libraries import signature_of_weights

__all__ = ["adopt", "known_signature", "open_checkpoint"]


def open_checkpoint(
    path: Path,
    *,
    model: str | None,
    arguments: Mapping[str, Any],
    final_activation: str = "auto",
    output: str | None = None,
    data: str | None = None,
    data_dir: Path | None = None,
    signature: AnySignature | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    allow_globals: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """A checkpoint of ours, or one made of somebody's weights.

    Args:
        path: Of either.
        model: For weights, what they are of; for a checkpoint, the user's code that it may run.
        arguments: Further arguments of that.
        final_activation: What the network ends in.
        output: Which of the values that it returns holds the logits.
        data: Names the data set that gives image size, labels, mean and std.
        data_dir: Where its files are.
        signature: All of these, instead.
        mean: Instead of the data set's.
        std: Instead of the data set's.
        allow_globals: Classes that the weights' file may ask for.
        tell: Told what was supposed.

    Raises:
        CheckpointError: The file cannot be read, or the weights do not fit.
        DataError: The data set cannot be read.
        UsageError: It is not said what the weights are of, or what the images are.
    """
    if is_checkpoint(path) or (model is None and not path.exists()):
        return Checkpoint.load(path, model=model)
    if signature is None and data is not None:
        signature = load(data, data_dir=data_dir).signature
    if isinstance(signature, Signature):
        signature = replace(
            signature,
            mean=_each(mean, signature.channels) or signature.mean,
            std=_each(std, signature.channels) or signature.std,
        )
    return adopt(
        path,
        model=model,
        arguments=arguments,
        signature=signature,
        final_activation=final_activation,
        output=output,
        data=data or "",
        allow_globals=allow_globals,
        tell=tell,
    )


def adopt(
    path: Path,
    *,
    model: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    signature: AnySignature | None = None,
    final_activation: str = "auto",
    output: str | None = None,
    data: str = "",
    allow_globals: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """Read weights and put them into their network.

    Args:
        path: A state_dict in any of the wrappings that `read_weights` knows.
        model: What the weights are of, as `onward_training.models.build` takes it; needed unless the file says so.
        arguments: Its further arguments; over those that the file holds.
        signature: What goes in and comes out; needed unless the weights are torchvision's own.
        final_activation: What the network ends in.
        output: Which of the values that it returns holds the logits.
        data: What names a data set of real images for it.
        allow_globals: Classes that the file may ask for.
        tell: Told what was supposed.

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
    if model is None and is_user_code(name):  # a file of somebody's may name any function
        raise UsageError(f"{path} says that it is of {name}, which is code: if it is yours, add --model {name}")
    chosen = {**(weights.arguments if name == weights.model else {}), **(arguments or {})}
    if signature is None:
        signature, more = known_signature(name, path, tell)
        chosen = more | chosen
    network, signature = build_checked(name, signature, chosen, output=output)
    fit(network, weights, path=path)
    as_logits_network(network, signature, final_activation, output)  # so that an end that cannot be had is said now
    return Checkpoint(
        architecture=name,
        arguments=chosen,
        signature=signature,
        state_dict=network.state_dict(),
        data=data,
        final_activation=final_activation,
        output=output,
        provenance={
            "weights": path.name,
            "weights_kind": weights.kind,
            "weights_file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
        is_trusted=True,
    )


def known_signature(name: str, path: Path, tell: Callable[[str], None]) -> tuple[AnySignature, dict[str, Any]]:
    """What a checkpoint of ours, or torchvision of its own weights, says of a file; and arguments that go with it.

    Args:
        name: Of the network.
        path: Of the weights.
        tell: Told where they are taken for torchvision's default ones, though they do not have the name of any.

    Raises:
        UsageError: Of other weights nothing is known.
    """
    if is_checkpoint(path):
        return Checkpoint.load(path).signature, {}
    library, _, rest = name.partition(":")
    if library != "torchvision":
        raise UsageError(
            f"what {path} takes and gives is not known: name a data set that it was trained on (--data), or say it "
            f"(--input-size, --labels, --mean, --std)."
        )
    signature, entry, is_named, arguments = signature_of_weights(rest, path)
    if not is_named:
        tell(f"{path.name} has the name of none of torchvision's weights; it is taken for {entry} of {rest}")
    return signature, arguments


def _each(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    return values * channels if values is not None and len(values) == 1 else values
