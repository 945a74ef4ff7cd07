"""Classifier: an opened model that takes images or tensors and gives predictions. `onward.load` returns one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onward.backends import Threads, open_artifact
from onward.backends.backend import Backend
from onward.backends.providers import AnyProvider
from onward.bundle import Artifact, Bundle
from onward.bundle.trust import NO_TRUST, Trust
from onward.errors import FeedError
from onward.feed import Feed, from_pixels, num_samples, take
from onward.images.decode import prepare, read_image
from onward.signature import AnySignature, Signature
from onward.tasks import task_of
from onward.tasks.classification import Predictions

if TYPE_CHECKING:
    from onward.bundle.verification import Verification

__all__ = ["Classifier", "default_batch_size", "load"]

BATCH_BYTES = 4 << 20
MAX_BATCH = 1024


class Classifier:
    """A model ready to run, usable as a context manager, and by several threads at once.

    Args:
        bundle: The bundle that it comes from.
        artifact: Which of the bundle's artifacts.
        backend: What runs the artifact.
    """

    def __init__(self, bundle: Bundle, artifact: Artifact, backend: Backend) -> None:
        self.bundle = bundle
        self.artifact = artifact
        self.backend = backend
        self.task = task_of(bundle.signature)

    @property
    def signature(self) -> AnySignature:
        """What goes in and what comes out."""
        return self.bundle.signature

    def __call__(self, images: Feed | Image.Image | Path | str | bytes | Sequence[object]) -> Predictions:
        """Classify one image or many.

        Args:
            images: uint8 `(height, width, channels)` or `(batch, height, width, channels)` of the signature's
                size; or a Pillow image, a path or the bytes of an image file, of any size; or a list of these.
                For a model that takes tensors: an array `(batch, …)`, or a dictionary of them by name.

        Returns:
            What the task makes of the outputs: `Predictions` for a classifier.

        Raises:
            FeedError: An array disagrees with the signature.
            ImageError: An image cannot be read.
        """
        feed = self._feed(images)
        size = default_batch_size(self.signature)
        starts = range(0, max(num_samples(feed), 1), size)
        parts = [self.backend.run(take(feed, slice(at, at + size))) for at in starts]
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        predictions: Predictions = self.task.predictions(outputs)
        return predictions

    def verify(self) -> Verification:
        """Prove again that the opened artifact is as close to the mathematical model as PyTorch is.

        Returns:
            The noise ratios on this machine, and whether the outputs equal the building machine's bit for bit.
            `passed` is the verdict.

        Raises:
            BundleError: A file of the bundle is missing or changed.
        """
        from onward.bundle.verification import verify_backend

        self.bundle.check()
        return verify_backend(self.bundle, self.artifact, self.backend)

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del self.backend

    def _feed(self, images: object) -> Feed:
        if not isinstance(self.signature, Signature):
            if isinstance(images, (Mapping, np.ndarray)):
                return images
            raise FeedError(
                f"the model takes tensors, {self.signature.describe()}: expected an array or a dictionary of them, "
                f"not a {type(images).__name__}."
            )
        pixels = self._pixels(images, self.signature)
        # pixels that do not fit the signature stay as they are: the backend refuses them and says why
        return from_pixels(pixels, self.signature) if pixels.dtype == np.uint8 and pixels.ndim == 4 else pixels

    def _pixels(self, images: object, signature: Signature) -> NDArray[np.uint8]:
        if isinstance(images, np.ndarray):
            is_one = images.shape == signature.image_shape or (signature.dynamic_size and images.ndim == 3)
            return images[None] if is_one else images
        many = [self._one(image, signature) for image in (images if isinstance(images, (list, tuple)) else [images])]
        shapes = {image.shape for image in many}
        if len(shapes) > 1:
            raise FeedError(f"the images of a list have the shapes {sorted(shapes)}, expected one shape.")
        return np.stack(many) if many else np.empty((0, *signature.image_shape), np.uint8)

    def _one(self, image: object, signature: Signature) -> NDArray[np.uint8]:
        if isinstance(image, np.ndarray):
            return image
        if isinstance(image, (str, Path)):
            return read_image(Path(image), signature)
        if isinstance(image, bytes):
            return read_image(image, signature)
        if isinstance(image, Image.Image):
            return prepare(image, signature)
        raise FeedError(f"a {type(image).__name__} is no image; expected an array, a Pillow image, a path or bytes.")


def load(
    path: str | Path,
    *,
    artifact: str = "onnx",
    provider: AnyProvider = "cpu",
    threads: Threads | None = None,
    trust: Trust = NO_TRUST,
) -> Classifier:
    """Open a model of a bundle.

    Args:
        path: The bundle's folder.
        artifact: `onnx`, which needs no PyTorch, `torchscript` or `pt2`.
        provider: An execution provider, without a fallback; or several in order, `cuda,cpu`; or a request with
            options.
        threads: How many threads one inference may use; by default one for each core that this process may use.
        trust: What the user says about who made the bundle.

    Raises:
        BackendError: The artifact cannot be run here.
        BundleError: There is no bundle, or it was changed.
        ProviderError: The provider is missing or did not take the model.
        SignatureError: The model's task is unknown here.
        TrustError: The artifact can run code, and the bundle is not trusted.
    """
    bundle = Bundle.open(path, trust)
    chosen = bundle.artifact(artifact)
    return Classifier(bundle, chosen, open_artifact(bundle, chosen, provider=provider, threads=threads))


def default_batch_size(signature: AnySignature) -> int:
    """The power of two that holds up to 4 MiB of pixels or numbers, from 1 to 1,024 samples."""
    if isinstance(signature, Signature):
        values = math.prod(signature.image_shape)
    else:
        values = sum(math.prod(size or 1 for size in item.shape) for item in signature.inputs)
    fitting = max(1, BATCH_BYTES // values)
    return int(min(MAX_BATCH, 1 << (fitting.bit_length() - 1)))
