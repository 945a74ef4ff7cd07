"""Classifier: an opened model that takes images or tensors and gives predictions. `onward.load` returns one."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onward.backends import Threads, backend_for, open_artifact
from onward.backends.backend import Backend
from onward.backends.providers import AnyProvider
from onward.bundle import Artifact, Bundle
from onward.bundle.trust import NO_TRUST, Trust
from onward.errors import BundleError, FeedError, ImageError, UsageError
from onward.feed import Feed, from_pixels, num_samples, take
from onward.images.decode import prepare, read_image
from onward.printable import printable
from onward.signature import AnySignature, Signature, of_images
from onward.tasks import task_of
from onward.tasks.classification import Predictions

if TYPE_CHECKING:
    from onward.bundle.verification import Verification

__all__ = ["Classifier", "default_batch_size", "load"]

BATCH_BYTES = 4 << 20
MAX_BATCH = 1024
#: Labels that the repr of a classifier names.
NUM_SHOWN_LABELS = 3


class Classifier:
    """A model ready to run, usable as a context manager, and by several threads at once.

    In a forked process the model is opened anew at the first call. Pickling stores the path and the options: the other
    process opens the bundle there, which must be the same one.

    Args:
        bundle: The bundle that it comes from.
        artifact: Which of the bundle's artifacts.
        provider: As for `load`.
        threads: As for `load`.
        exif: As for `load`.

    Raises:
        UsageError: `exif` is unknown, or the model takes tensors.
    """

    def __init__(
        self,
        bundle: Bundle,
        artifact: Artifact,
        *,
        provider: AnyProvider = "cpu",
        threads: Threads | None = None,
        exif: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.artifact = artifact
        self.task = task_of(bundle.signature)
        self._exif = exif
        self._signature = bundle.signature if exif is None else of_images(bundle.signature).with_exif(exif)
        self._open = partial(open_artifact, bundle, artifact, provider=provider, threads=threads)
        self._backend: Backend | None = self._open()
        self._process = os.getpid()

    @property
    def backend(self) -> Backend:
        """What runs the artifact in this process.

        Raises:
            UsageError: The classifier was closed.
        """
        if self._backend is None:
            raise UsageError(f"this classifier of {self.bundle.path} is closed; `onward.load` opens another one.")
        if self._process != os.getpid():  # the threads of a session do not survive a fork
            self._backend, self._process = self._open(), os.getpid()
        return self._backend

    def close(self) -> None:
        """Free the model's memory; `with` does it at its end. A closed classifier answers no more."""
        self._backend = None

    @property
    def signature(self) -> AnySignature:
        """What goes in and what comes out."""
        return self._signature

    def __call__(
        self, images: Feed | Image.Image | os.PathLike[str] | str | bytes | BinaryIO | Sequence[object]
    ) -> Predictions:
        """Classify one image or many.

        Args:
            images: uint8 `(height, width, channels)` or `(batch, height, width, channels)` of the signature's
                size; or a Pillow image, a path, an open file or the bytes of an image file, of any size; or a list of
                these.
                For a model that takes tensors: an array `(batch, …)`, or a dictionary of them by name.

        Returns:
            What the task makes of the outputs: `Predictions` for a classifier.

        Raises:
            FeedError: An array disagrees with the signature.
            ImageError: An image cannot be read.
            NoAnswer: The model's outputs are NaN or infinite; `places` of the error says for which images.
        """
        feed = self._feed(images)
        size = default_batch_size(self.signature)
        starts = range(0, max(num_samples(feed), 1), size)
        parts = [self.backend.run(take(feed, slice(at, at + size))) for at in starts]
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self.task.check_answered(outputs)
        predictions: Predictions = self.task.predictions(outputs)
        return predictions

    def verify(self) -> Verification:
        """Prove again that the opened artifact is as close to the mathematical model as PyTorch is.

        One of lower precision than float32 must give the outputs that it gave when it was built.

        Returns:
            The noise ratios on this machine, or `lower_precision`, and whether the outputs equal the building machine's
            bit for bit. `passed` is the verdict.

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
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Classifier], tuple[Any, ...]]:
        path, options = self.bundle.path.absolute(), {**self._open.keywords, "exif": self._exif}
        return _open_again, (path, self.artifact.name, options, self.bundle.trust, self.bundle.manifest_sha256)

    def __repr__(self) -> str:
        name = f"Classifier of {self.bundle.path}"
        if (backend := self._backend) is None:
            return printable(f"<{name}: closed>")
        library = backend_for(self.artifact.format).library
        threads = f"{backend.num_threads} thread{'s' if backend.num_threads > 1 else ''}"
        return printable(
            f"<{name}: {self.signature.describe()}{self._first_labels()}; {backend.name} in {library}, {threads}>"
        )

    def _first_labels(self) -> str:
        labels = self.signature.labels
        shown = ", ".join(labels[:NUM_SHOWN_LABELS]) + (", …" if len(labels) > NUM_SHOWN_LABELS else "")
        return f" ({shown})" if labels else ""

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
        if not isinstance(images, (list, tuple)):
            return self._named(images, "", signature)[None]
        many = [self._named(image, f"images[{place}]", signature) for place, image in enumerate(images)]
        for place, image in enumerate(many):
            if image.shape != many[0].shape:
                raise FeedError(
                    f"images[{place}] has the shape {image.shape}, but images[0] {many[0].shape}: expected one shape."
                )
        return np.stack(many) if many else np.empty((0, *signature.image_shape), np.uint8)

    def _named(self, image: object, name: str, signature: Signature) -> NDArray[np.uint8]:
        """The pixels of one image; an error names its place in the list, and its path."""
        try:
            return self._one(image, signature)
        except (FeedError, ImageError) as error:
            path = os.fsdecode(image) if isinstance(image, (str, os.PathLike)) else ""
            where = ", ".join(part for part in (name, path) if part and part not in str(error))
            raise type(error)(f"{where}: {error}" if where else str(error)) from error

    def _one(self, image: object, signature: Signature) -> NDArray[np.uint8]:
        if isinstance(image, np.ndarray):
            return image
        if isinstance(image, (str, os.PathLike)):
            return read_image(_path(image), signature)
        if isinstance(image, (bytes, bytearray, memoryview)):
            return read_image(bytes(image), signature)
        if isinstance(image, Image.Image):
            return prepare(image, signature)
        if callable(read := getattr(image, "read", None)):
            if isinstance(content := read(), bytes):
                return read_image(content, signature)
            raise FeedError("a file that was opened as text is no image; open it with mode 'rb'.")
        raise FeedError(
            f"a {type(image).__name__} is no image; expected an array, a Pillow image, a path, bytes or an open file."
        )


def load(
    path: str | os.PathLike[str],
    *,
    artifact: str = "onnx",
    provider: AnyProvider = "cpu",
    threads: Threads | None = None,
    trust: Trust = NO_TRUST,
    exif: str | None = None,
) -> Classifier:
    """Open a model of a bundle.

    Args:
        path: The bundle's folder.
        artifact: Its name: `onnx` or `onnx-int8`, which need no PyTorch, `torchscript` or `pt2`.
        provider: An execution provider, without a fallback; or several in order, `cuda,cpu`; or a request with
            options.
        threads: How many threads one inference may use; by default one for each core that this process may use.
        trust: What the user says about who made the bundle.
        exif: `apply` or `ignore` the EXIF orientation of images; by default as the signature says.

    Raises:
        BackendError: The artifact cannot be run here.
        BundleError: There is no bundle, or it was changed.
        ProviderError: The provider is missing or did not take the model.
        SignatureError: The model's task is unknown here.
        TrustError: The artifact can run code, and the bundle is not trusted.
    """
    bundle = Bundle.open(Path(path), trust)
    return Classifier(bundle, bundle.artifact(artifact), provider=provider, threads=threads, exif=exif)


def _open_again(path: Path, artifact: str, options: dict[str, Any], trust: Trust, manifest_sha256: str) -> Classifier:
    bundle = Bundle.open(path, trust)
    if bundle.manifest_sha256 != manifest_sha256:
        raise BundleError(f"{path} is not the bundle of the classifier that was pickled: load it again.")
    return Classifier(bundle, bundle.artifact(artifact), **options)


def _path(image: str | os.PathLike[str]) -> Path:
    text = os.fsdecode(image)
    if re.match("[a-zA-Z][a-zA-Z0-9+.-]+://", text):
        raise ImageError(f"{text} is an address, and Onward downloads nothing: pass the content as bytes.")
    return Path(text)


def default_batch_size(signature: AnySignature) -> int:
    """The power of two that holds up to 4 MiB of pixels or numbers, from 1 to 1,024 samples."""
    if isinstance(signature, Signature):
        values = math.prod(signature.image_shape)
    else:
        values = sum(math.prod(size or 1 for size in item.shape) for item in signature.inputs)
    fitting = max(1, BATCH_BYTES // values)
    return int(min(MAX_BATCH, 1 << (fitting.bit_length() - 1)))
