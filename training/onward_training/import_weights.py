"""Import weights: a weights file of any origin, together with its network, becomes a Checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from onward.bundle.bundle import digest_file
from onward.errors import UsageError
from onward.signature import AnySignature, TensorSignature
from onward_training.checkpoint import Checkpoint, is_checkpoint
from onward_training.external import ExternalWeights, arguments_for, load_state_dict, read_weights
from onward_training.foreign_signature import KnownSignature, foreign_signature
from onward_training.model_names import is_user_code
from onward_training.models import build_checked, free_parameters
from onward_training.options import NetworkSpec
from onward_training.preprocessing import NOTHING_STATED, StatedPreprocessing
from onward_training.tasks import network_task_of

__all__ = ["import_weights", "open_checkpoint", "stated_arguments"]


def open_checkpoint(
    path: Path,
    network: NetworkSpec,
    *,
    data: str | None = None,
    data_dir: Path | None = None,
    stated: StatedPreprocessing = NOTHING_STATED,
    labels: tuple[str, ...] = (),
    signature: TensorSignature | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """Open a checkpoint, or import a weights file as one.

    Args:
        path: Of either.
        network: For weights: their network. For a checkpoint, `model` names the user code that it may run.
        data: For weights: the data set that gives the labels, unless they are known.
        data_dir: Folder with the data set's files.
        stated: For weights: the options that say how images become the network's input.
        labels: For weights: their classes, if they were given.
        signature: For weights of a network that takes tensors: its inputs and labels.
        notify: Called with a note about what was assumed.

    Raises:
        CheckpointError: The file cannot be read, or the weights do not fit the network.
        DataError: The data set cannot be read.
        UsageError: The network or the signature of the weights is unknown; or something is stated about a checkpoint,
            which says it itself.
    """
    if network.entry is None and (is_checkpoint(path) or (network.model is None and not path.exists())):
        stated.check_none(f"{path} is a checkpoint")
        if labels or signature is not None:
            raise UsageError(f"{path} is a checkpoint, and its signature has the inputs and labels: leave them out.")
        return Checkpoint.load(path, model=network.model)
    if signature is not None:
        stated.check_none("the model takes tensors")
        return import_weights(path, network, signature=signature, data=data or "", notify=notify)
    find = partial(foreign_signature, path=path, stated=stated, labels=labels, data=data, data_dir=data_dir)
    return import_weights(path, network, signature=partial(find, notify=notify), data=data or "", notify=notify)


def import_weights(
    path: Path,
    spec: NetworkSpec,
    *,
    signature: AnySignature | Callable[[str], KnownSignature],
    data: str = "",
    notify: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """Read a weights file and load it into its network.

    Args:
        path: A state_dict in any of the forms that `read_weights` knows.
        spec: The network.
        signature: Its inputs and outputs; or what finds them, once the name of the network is known.
        data: The data set's name in the checkpoint.
        notify: Called with a note about what was assumed.

    Returns:
        A checkpoint without history. It is trusted, because the caller names the network.

    Raises:
        CheckpointError: The file cannot be read, or the weights do not fit the network.
        UsageError: The network or the signature is unknown.
    """
    weights = read_weights(path, entry=spec.entry, notify=notify)
    name = spec.model or weights.model
    if name is None:
        raise UsageError(f"{path} holds weights ({weights.kind}) but does not name their network: add --model.")
    if spec.model is None and is_user_code(name):  # a file from somebody else may name any function
        raise UsageError(
            f"{path} names {name} as its network, which is code outside Onward. If you trust it, add --model {name}"
        )
    arguments = {**(weights.arguments if name == weights.model else {}), **spec.arguments}
    if not isinstance(signature, AnySignature):
        known = signature(name)
        signature, arguments = known.signature, {**known.arguments, **arguments}
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
            "weights_file_sha256": digest_file(path.parent, path).sha256,
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
