"""Import weights: a weights file of any origin, together with its network, becomes a Checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onward.errors import UsageError
from onward.signature import AnySignature, Signature, of_images
from onward_training.checkpoint import Checkpoint, is_checkpoint
from onward_training.data import load
from onward_training.external import ExternalWeights, arguments_for, load_state_dict, read_weights
from onward_training.model_names import is_user_code
from onward_training.models import build_checked, free_parameters
from onward_training.models.libraries import signature_of_weights
from onward_training.options import NetworkSpec
from onward_training.tasks import network_task_of

__all__ = ["import_weights", "open_checkpoint", "published_signature", "stated_arguments"]


def open_checkpoint(
    path: Path,
    network: NetworkSpec,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    signature: AnySignature | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    exif: str | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """Open a checkpoint, or import a weights file as one.

    Args:
        path: Of either.
        network: For weights: their network. For a checkpoint, `model` names the user code that it may run.
        data: For weights: the data set that gives image size, labels, mean and std.
        data_dir: Folder with the data set's files.
        signature: For weights: instead of the data set's.
        mean: For weights: instead of the data set's; one number or one per channel.
        std: For weights: instead of the data set's; one number or one per channel.
        exif: For weights: whether to `apply` or `ignore` the EXIF orientation of images.
        notify: Called with a note about what was assumed.

    Raises:
        CheckpointError: The file cannot be read, or the weights do not fit the network.
        DataError: The data set cannot be read.
        UsageError: The network or the signature of the weights is unknown; or `exif` is given and the file is a
            checkpoint, which says it itself.
    """
    if network.entry is None and (is_checkpoint(path) or (network.model is None and not path.exists())):
        if exif is not None:
            raise UsageError(
                f"{path} is a checkpoint, and its signature says whether images are turned: leave --exif out."
            )
        return Checkpoint.load(path, model=network.model)
    if signature is None and data is not None:
        signature = load(data, data_dir=data_dir).signature
    if isinstance(signature, Signature):
        signature = replace(
            signature,
            mean=_per_channel(mean, signature.channels) or signature.mean,
            std=_per_channel(std, signature.channels) or signature.std,
        )
    checkpoint = import_weights(path, network, signature=signature, data=data or "", notify=notify)
    if exif is None:
        return checkpoint
    return replace(checkpoint, signature=of_images(checkpoint.signature).with_exif(exif))


def import_weights(
    path: Path,
    spec: NetworkSpec,
    *,
    signature: AnySignature | None = None,
    data: str = "",
    notify: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """Read a weights file and load it into its network.

    Args:
        path: A state_dict in any of the forms that `read_weights` knows.
        spec: The network.
        signature: Its inputs and outputs; needed unless the weights are torchvision's own.
        data: The data set's name in the checkpoint.
        notify: Called with a note about what was assumed.

    Returns:
        A checkpoint without history. It is trusted, because the caller names the network.

    Raises:
        CheckpointError: The file cannot be read, or the weights do not fit the network.
        UsageError: The network or the signature is unknown.
    """
    weights = read_weights(path, allow_globals=spec.allow_globals, entry=spec.entry, model=spec.model, notify=notify)
    name = spec.model or weights.model
    if name is None:
        raise UsageError(f"{path} holds weights ({weights.kind}) but does not name their network: add --model.")
    if spec.model is None and is_user_code(name):  # a file from somebody else may name any function
        raise UsageError(
            f"{path} names {name} as its network, which is code outside Onward. If you trust it, add --model {name}"
        )
    arguments = {**(weights.arguments if name == weights.model else {}), **spec.arguments}
    if signature is None:
        signature, known_arguments = published_signature(name, path, notify)
        arguments = known_arguments | arguments
    arguments = stated_arguments(weights, name, signature, arguments, path=path, notify=notify) | arguments
    network, signature = build_checked(name, signature, arguments, output=spec.output, weights=weights.state_dict)
    load_state_dict(network, weights, path=path, notify=notify)
    network_task_of(signature).adapt(network, spec.final_activation, spec.output)  # raises now, not at the first use
    return Checkpoint(
        architecture=name,
        arguments=arguments,
        signature=signature,
        state_dict=network.state_dict(),
        data=data,
        final_activation=spec.final_activation,
        output=spec.output,
        provenance={
            "weights": path.name,
            "weights_kind": weights.kind,
            "weights_entry": weights.entry,
            "weights_file_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
        is_trusted=True,
    )


def stated_arguments(
    weights: ExternalWeights,
    name: str,
    signature: AnySignature,
    given: Mapping[str, Any],
    *,
    path: Path,
    notify: Callable[[str], None],
) -> dict[str, Any]:
    """The values in the file that are parameters of the user's network class, except those that were given.

    Args:
        weights: The file's content.
        name: Of the network; other networks than user code take none.
        signature: What it gives is not taken from the file, e.g. the number of classes.
        given: Arguments from the command line.
        path: Of the file, for messages.
        notify: Called with the values that were found.

    Raises:
        CheckpointError: The file has two values for a parameter.
        UsageError: There is no such user code.
    """
    if not is_user_code(name):
        return {}
    arguments = arguments_for(weights.stated, free_parameters(name, signature), given, path)
    if arguments:
        listing = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        notify(f"{path.name} gives {name} the arguments {listing}; --model-args overrides them")
    return arguments


def published_signature(name: str, path: Path, notify: Callable[[str], None]) -> tuple[AnySignature, dict[str, Any]]:
    """The signature that a checkpoint holds, or that torchvision publishes for its own weights; and further arguments.

    Args:
        name: Of the network.
        path: Of the weights.
        notify: Called if torchvision's default weights are assumed, because the file has another name than its own.

    Raises:
        UsageError: The signature of the weights is unknown.
    """
    if is_checkpoint(path):
        return Checkpoint.load(path).signature, {}
    library, _, rest = name.partition(":")
    if library != "torchvision":
        raise UsageError(
            f"the inputs and labels of {path} are unknown: name the data set that it was trained on (--data), or give "
            f"--input-size, --labels, --mean and --std."
        )
    signature, entry, is_named, arguments = signature_of_weights(rest, path)
    if not is_named:
        notify(f"{path.name} is not the name of a weights file of torchvision's; assuming {entry} of {rest}")
    return signature, arguments


def _per_channel(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    return values * channels if values is not None and len(values) == 1 else values
