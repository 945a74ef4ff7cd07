"""Classifier: an opened bundle that takes images and gives predictions. `onward.load` returns one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.backends import Backend, Threads, open_artifact
from runtime.bundle import Bundle
from runtime.errors import FeedError
from runtime.images import prepare, read_image
from runtime.signature import LOGITS, PROBABILITIES, Signature

__all__ = ["Classifier", "Predictions", "default_batch_size", "load"]

BATCH_BYTES = 4 << 20
MAX_BATCH = 1024


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of a batch.

    Args:
        labels: The most probable label of each image.
        indices: Its class index, int `(batch,)`.
        probabilities: float32 `(batch, classes)`.
        logits: float32 `(batch, classes)`.
    """

    labels: tuple[str, ...]
    indices: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)


class Classifier:
    """A model ready to run, usable as a context manager.

    Args:
        bundle: Where it comes from.
        backend: What runs it.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self.backend = backend

    @property
    def signature(self) -> Signature:
        """What goes in and what comes out."""
        return self.bundle.signature

    def __call__(self, images: NDArray[np.uint8] | Image.Image | Path | str | bytes | Sequence[object]) -> Predictions:
        """Classify one image or many.

        Args:
            images: uint8 `(height, width, channels)` or `(batch, height, width, channels)` of the signature's
                size; or a Pillow image, a path or the bytes of an image file, of any size; or a list of these.

        Raises:
            FeedError: An array disagrees with the signature.
            ImageError: An image cannot be read.
        """
        pixels = self._pixels(images)
        size = default_batch_size(self.signature)
        parts = [self.backend.run(pixels[at : at + size]) for at in range(0, max(len(pixels), 1), size)]
        logits = np.concatenate([part[LOGITS] for part in parts])
        probabilities = np.concatenate([part[PROBABILITIES] for part in parts])
        indices = probabilities.argmax(1)
        labels = tuple(self.signature.labels[index] for index in indices)
        return Predictions(labels, indices, probabilities, logits)

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del self.backend

    def _pixels(self, images: object) -> NDArray[np.uint8]:
        if isinstance(images, np.ndarray):
            return images[None] if images.shape == self.signature.image_shape else images
        many = [self._one(image) for image in (images if isinstance(images, (list, tuple)) else [images])]
        shapes = {image.shape for image in many}
        if len(shapes) > 1:
            raise FeedError(f"the images of a list have the shapes {sorted(shapes)}, expected one shape.")
        return np.stack(many) if many else np.empty((0, *self.signature.image_shape), np.uint8)

    def _one(self, image: object) -> NDArray[np.uint8]:
        if isinstance(image, np.ndarray):
            return image
        if isinstance(image, (str, Path)):
            return read_image(Path(image), self.signature)
        if isinstance(image, bytes):
            return read_image(image, self.signature)
        if isinstance(image, Image.Image):
            return prepare(image, self.signature)
        raise FeedError(f"a {type(image).__name__} is no image; expected an array, a Pillow image, a path or bytes.")


def load(
    path: str | Path, *, artifact: str = "onnx", provider: str = "cpu", threads: Threads | None = None
) -> Classifier:
    """Open a bundle for classifying.

    Args:
        path: The bundle's folder.
        artifact: `onnx`, which needs no PyTorch, `torchscript` or `pt2`.
        provider: An execution provider, asked for strictly.
        threads: Of one inference; by default every core that this process may use.

    Raises:
        BackendError: The artifact cannot be run here.
        BundleError: There is no bundle, or it was changed.
        ProviderError: The provider is missing or did not take the model.
    """
    bundle = Bundle.open(path)
    backend = open_artifact(bundle, bundle.artifact(artifact), provider=provider, threads=threads)
    return Classifier(bundle, backend)


def default_batch_size(signature: Signature) -> int:
    """The power of two that holds up to 4 MiB of pixels, from 1 to 1,024 images."""
    height, width, channels = signature.image_shape
    fitting = max(1, BATCH_BYTES // (height * width * channels))
    return int(min(MAX_BATCH, 1 << (fitting.bit_length() - 1)))
