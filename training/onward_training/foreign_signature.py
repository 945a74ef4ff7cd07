"""Foreign signature: the inputs and labels of weights that Onward did not train.

Size, resize rule, mean and standard deviation are never guessed. They are stated (`StatedPreprocessing`), or the file
brings them, or torchvision or timm has published them for exactly these weights. A data set gives labels only: a
network that was trained at 96×96 with another mean runs on its images at 64×64 as well, with worse answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onward.errors import UsageError, some_of
from onward.signature import Signature, of_images
from onward_training.checkpoint import Checkpoint, is_checkpoint
from onward_training.data import Dataset
from onward_training.models.published_weights import KnownWeights, find_published, published_of
from onward_training.prepared_data import is_folder, load_prepared
from onward_training.preprocessing import StatedPreprocessing

__all__ = ["KnownSignature", "check_complete", "foreign_signature", "known_weights"]

MAX_NAMED = 5


@dataclass(frozen=True)
class KnownSignature:
    """The inputs and labels of weights, and the arguments of the network that belong to them."""

    signature: Signature
    arguments: Mapping[str, Any] = field(default_factory=dict)


def known_weights(model: str, path: Path, notify: Callable[[str], None] = lambda text: None) -> KnownWeights | None:
    """What a file brings, or what is published for it; None if neither is so.

    Args:
        model: The network's name.
        path: The file.
        notify: Called if the file has the name of published weights, and other content.
    """
    if not is_checkpoint(path):
        return find_published(model, path, notify)
    signature = of_images(Checkpoint.load(path).signature)
    return KnownWeights(
        "", model, lambda: StatedPreprocessing.of(signature), lambda: signature.labels, signature.num_classes,
        is_certain=True,
    )  # fmt: skip


def check_complete(chosen: StatedPreprocessing, path: Path, model: str, data: str | None) -> None:
    """Check that nothing about how images become the input of weights would have to be guessed.

    Args:
        chosen: What is stated or known.
        path: The weights.
        model: The network's name.
        data: The data set that is read, if there is one.

    Raises:
        UsageError: Something is missing; the message says what, and the options for it.
    """
    if missing := list(_missing(chosen, is_resized=data is None or is_folder(data), has_data=data is not None)):
        raise UsageError(_sentence(path, model, missing))


def foreign_signature(
    model: str,
    path: Path,
    stated: StatedPreprocessing,
    *,
    labels: tuple[str, ...] = (),
    data: str | None = None,
    data_dir: Path | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> KnownSignature:
    """The signature of weights that Onward did not train, and the arguments of the network that belong to it.

    Args:
        model: The network's name.
        path: The weights.
        stated: The options that were given.
        labels: The classes, if they were given.
        data: The data set that gives the labels otherwise.
        data_dir: Folder with the data set's files.
        notify: Called with a note about what was taken from where.

    Raises:
        DataError: The data set cannot be read.
        UsageError: Something is neither stated nor known; the message says what, and the options for it.
    """
    known = known_weights(model, path, notify)
    chosen = stated.or_of(known.preprocessing()) if known else stated
    check_complete(chosen, path, model, data)
    names = labels or _labels(known, is_needed=data is None)
    dataset = load_prepared(data, data_dir, chosen, classes=names) if data is not None else None
    if dataset is not None and not labels and not set(dataset.signature.labels) <= set(names):
        if known is not None and known.is_certain:
            _check_number(known, path, dataset)
        names = dataset.signature.labels
    if not names:
        raise UsageError(f"the labels of {path} are unknown: --labels names them, or --data a data set with them.")
    if known is not None and not known.is_certain and len(names) != known.num_classes:
        check_complete(stated, path, model, data)  # trained on from the published weights, so these may differ
        known = None
    if known is not None and known.name:
        notify(f"{path.name} is {known.name}: images become {_described(chosen)}")
    return KnownSignature(_signature(chosen, names, dataset), known.arguments if known else {})


def _check_number(known: KnownWeights, path: Path, dataset: Dataset) -> None:
    """Check that the classes of a data set, which have other names than those of the weights, may be the same ones."""
    labels = list(dataset.signature.labels)
    if len(labels) != known.num_classes:
        raise UsageError(
            f"{path.name} ({known.name or 'a checkpoint'}) has {known.num_classes:,} classes, and the data set "
            f"{dataset.name!r} others: {some_of(labels, MAX_NAMED)}. `onward train --weights {path}` begins with these "
            f"weights and learns the classes of a data set."
        )


def _labels(known: KnownWeights | None, *, is_needed: bool) -> tuple[str, ...]:
    try:
        return known.labels() if known is not None else ()
    except UsageError:
        if is_needed:
            raise
        return ()


def _signature(chosen: StatedPreprocessing, labels: tuple[str, ...], dataset: Dataset | None) -> Signature:
    if dataset is not None:
        shape = dataset.signature.image_shape
    else:
        assert chosen.image_size is not None
        assert chosen.channels is not None  # or it would be missing
        shape = (*chosen.image_size, chosen.channels)
    height, width, channels = shape
    neutral = Signature(height, width, channels, (0.0,) * channels, (1.0,) * channels, labels, chosen.rule())
    return chosen.on(neutral)


def _missing(chosen: StatedPreprocessing, *, is_resized: bool, has_data: bool) -> Iterator[tuple[str, str]]:
    """What is neither stated nor known, and an option that states it.

    Args:
        chosen: What is stated or known.
        is_resized: Whether images of any size come, and not the pixels of a data set of one size.
        has_data: Whether a data set says whether images are grey.
    """
    if is_resized and chosen.image_size is None:
        needs_channels = chosen.channels is None and not has_data
        yield ("size and channels", "--image-size 224x224x3") if needs_channels else ("size", "--image-size 224")
    elif is_resized and chosen.channels is None and not has_data:
        height, width = chosen.image_size or (224, 224)
        yield "number of channels", f"--image-size {height}x{width}x3"
    if is_resized and chosen.resize is None:
        yield "resize rule", "--resize shorter-side:256"
    if chosen.mean is None:
        yield "mean", "--mean 0.485,0.456,0.406"
    if chosen.std is None:
        yield "standard deviation", "--std 0.229,0.224,0.225"


def _sentence(path: Path, model: str, missing: list[tuple[str, str]]) -> str:
    *others, last = [what for what, _ in missing]
    listing = f"{', '.join(others)} and {last}" if others else last
    text = (
        f"{path} does not say how images become the input of its network: state the {listing} of its training, such as "
        f"{' '.join(option for _, option in missing)}."
    )
    first = next(iter(published_of(model)), None)
    is_of_timm = model.startswith("timm:")
    if first is None or (is_of_timm and first.model == model):
        return text
    if is_of_timm:
        return f"{text} If it is one of timm's own files, --model {first.model} or another tag says which."
    return f"{text} If it is {first.name}, give it its own name again: {first.file_name}."


def _described(chosen: StatedPreprocessing) -> str:
    height, width = chosen.image_size or (0, 0)
    rule = chosen.rule()
    how = f"{rule.describe()}, {rule.interpolation}"
    return f"{height}×{width} ({how}), mean {_numbers(chosen.mean)}, std {_numbers(chosen.std)}"


def _numbers(values: tuple[float, ...] | None) -> str:
    return ", ".join(f"{value:g}" for value in values or ())
