"""Model under test: a bundle, or an ONNX file that Onward did not write.

The worker opens its model with this file, and that time is measured: what only samples and checks need is imported
elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.backends import Threads, open_artifact, open_backend
from onward.backends.backend import Backend
from onward.benchmarking.candidate import Candidate
from onward.benchmarking.custom_backend import is_custom, open_custom
from onward.bundle import MANIFEST, Artifact, Bundle, digest_file
from onward.bundle.onnx_header import TensorValue, read_header
from onward.bundle.trust import NO_TRUST, Trust
from onward.errors import BundleError, UsageError
from onward.signature import AnySignature

__all__ = ["ModelUnderTest", "OnnxInput"]

#: Dtypes that random values can be made of; numpy has no bfloat16 and no 4-bit integers.
RANDOM_DTYPES = (
    "float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
)  # fmt: skip


@dataclass(frozen=True)
class ModelUnderTest:
    """The model that is benchmarked.

    Args:
        path: A bundle's folder, or an ONNX file.
        sizes: Name of a dynamic axis other than the batch -> its size, for an ONNX file.
        trust: What the user says about who made a bundle.
    """

    path: Path
    sizes: Mapping[str, int] = field(default_factory=dict)
    trust: Trust = NO_TRUST

    @cached_property
    def bundle(self) -> Bundle | None:
        """The bundle; None for an ONNX file.

        Raises:
            BundleError: It is neither a bundle nor a file.
        """
        return None if self.path.is_file() and self.path.name != MANIFEST else Bundle.open(self.path, self.trust)

    @cached_property
    def signature(self) -> AnySignature | None:
        """The bundle's signature; None for an ONNX file."""
        return self.bundle.signature if self.bundle else None

    @cached_property
    def inputs(self) -> tuple[OnnxInput, ...]:
        """The inputs of an ONNX file.

        Raises:
            BundleError: It is not an ONNX file.
            UsageError: An input has no batch axis, or `sizes` names an axis that no input has.
        """
        inputs = tuple(OnnxInput.from_value(value, self.sizes) for value in read_header(self.path).inputs)
        unknown = set(self.sizes) - {name for item in inputs for name in item.dynamic_axes}
        if unknown:
            raise UsageError(f"--dim names {min(unknown)!r}, but no input of {self.path} has that axis.")
        return inputs

    @cached_property
    def fixed_batch(self) -> int | None:
        """The batch size that an ONNX file is limited to; None where any size will do."""
        if self.bundle is not None:
            return None
        sizes = {item.fixed_batch for item in self.inputs}
        return next(iter(sizes)) if len(sizes) == 1 else None

    @cached_property
    def input_key(self) -> str:
        """Equal for models that get the same inputs, so that their outputs can be compared."""
        return str(self.path) if self.bundle is not None else repr([(item.name, item.shape) for item in self.inputs])

    @property
    def digest(self) -> str:
        """Digest of everything that is run: the manifest's, or that of the ONNX file and its external data."""
        if self.bundle is not None:
            return Bundle.open(self.path).manifest_sha256
        whole = hashlib.sha256()
        for path in (self.path, *self._external_data):
            whole.update(digest_file(path.parent, path).sha256.encode())
        return whole.hexdigest()

    def check(self) -> None:
        """Check the digests of all files of a bundle.

        Raises:
            BundleError: A file was changed.
        """
        if self.bundle is not None:
            self.bundle.check()

    def runs(self, format: str) -> bool:
        """Whether there is a float32 file of this format."""
        if self.bundle is None:
            return format == "onnx"
        return any(artifact.format == format and artifact.is_float32 for artifact in self.bundle.artifacts)

    def artifact(self, candidate: Candidate) -> Artifact | None:
        """The artifact of a bundle that a candidate runs; None for an ONNX file.

        Raises:
            BundleError: The bundle has none for it.
        """
        if self.bundle is None:
            return None
        if candidate.artifact:
            return self.bundle.artifact(candidate.artifact)
        return self.bundle.preferred(candidate.format)

    def size_bytes(self, candidate: Candidate) -> int:
        """Size of the file that a candidate runs, external data included.

        Raises:
            BundleError: As for `artifact`.
        """
        artifact = self.artifact(candidate)
        if self.bundle is None or artifact is None:
            return self.onnx_bytes
        return sum(file.size_bytes for file in (artifact.file, *self.bundle.beside(artifact)))

    def open(self, candidate: Candidate) -> Backend:
        """Open the model with a candidate's backend.

        Raises:
            BackendError, BundleError, ProviderError: As for `open_artifact`.
        """
        threads = Threads(candidate.threads)
        if is_custom(candidate.backend):
            return open_custom(candidate.backend, self._file(candidate), threads)
        artifact = self.artifact(candidate)
        if self.bundle is not None and artifact is not None:
            return open_artifact(
                self.bundle, artifact, provider=candidate.provider, threads=threads, backend=candidate.backend
            )
        external = {path.name: path.read_bytes() for path in self._external_data}
        return open_backend(
            candidate.format,
            self.path.read_bytes(),
            None,
            provider=candidate.provider,
            threads=threads,
            beside=external,
            backend=candidate.backend,
        )

    def _file(self, candidate: Candidate) -> Path:
        """The artifact's path, after its digest was checked."""
        artifact = self.artifact(candidate)
        if self.bundle is None or artifact is None:
            return self.path
        return self.bundle.locate(artifact.file)

    @cached_property
    def onnx_bytes(self) -> int:
        """Size of an ONNX file, external data included.

        Raises:
            BundleError: It is not ONNX, or its external data cannot be read.
        """
        return sum(path.stat().st_size for path in (self.path, *self._external_data))

    @cached_property
    def _external_data(self) -> list[Path]:
        """The files with weights that the ONNX file names; they must be in its folder."""
        paths = [self.path.parent / item.location for item in read_header(self.path).external]
        for path in paths:
            if path.parent != self.path.parent or path.is_symlink() or not path.is_file():
                raise BundleError(
                    f"{self.path} has external data in {path}, which is missing, a link, or in another folder: "
                    "put the file beside the model."
                )
        return paths


@dataclass(frozen=True)
class OnnxInput:
    """One input of an ONNX file that Onward did not write.

    Args:
        name: Its name.
        dtype: numpy's name of its dtype.
        shape: For each axis its size, or the name of a dynamic axis; the first axis is the batch.
        sizes: Name of a dynamic axis -> its size.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    sizes: Mapping[str, int]

    @classmethod
    def from_value(cls, value: TensorValue, sizes: Mapping[str, int]) -> OnnxInput:
        """The input that the file's header describes.

        Raises:
            UsageError: The header gives no shape, or a scalar's.
        """
        if not value.shape:
            raise UsageError(f"input {value.name!r} has no batch axis in the file's header, so it cannot be timed.")
        return cls(value.name, value.dtype, value.shape, sizes)

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that it is limited to; None where any size will do."""
        return self.shape[0] if isinstance(self.shape[0], int) else None

    @property
    def dynamic_axes(self) -> tuple[str, ...]:
        """Names of its dynamic axes other than the batch."""
        return tuple(size for size in self.shape[1:] if isinstance(size, str))

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[Any]:
        """Random values: floats from a standard normal, uint8 from 0 to 255, other integers 0 and 1.

        0 and 1 are indices that every embedding has.

        Raises:
            UsageError: A dynamic axis has no size, or there are no random values of this dtype.
        """
        if self.dtype not in RANDOM_DTYPES:
            raise UsageError(
                f"input {self.name!r} is {self.dtype}, and Onward has no random values of that dtype: "
                "give inputs with `--input data.npz`."
            )
        shape = (count, *(self._size(size) for size in self.shape[1:]))
        if self.dtype.startswith("float"):
            return generator.standard_normal(shape, np.float32).astype(self.dtype)
        return generator.integers(0, 256 if self.dtype == "uint8" else 2, shape).astype(self.dtype)

    def check(self, array: NDArray[Any]) -> None:
        """Check inputs that the user gave.

        Raises:
            UsageError: The dtype, or the shape without the batch axis, disagrees.
        """
        if array.dtype != np.dtype(self.dtype) or array.ndim != len(self.shape):
            raise UsageError(
                f"--input has {self.name!r} as {array.dtype} {array.shape}, but the file takes {self.dtype} "
                f"{self.shape}."
            )
        for given, size in zip(array.shape[1:], self.shape[1:], strict=True):
            if isinstance(size, int) and given != size:
                raise UsageError(f"--input has {self.name!r} of shape {array.shape}, but the file takes {self.shape}.")

    def _size(self, size: int | str | None) -> int:
        if isinstance(size, int):
            return size
        if size is None or size not in self.sizes:
            raise UsageError(
                f"input {self.name!r} has dynamic axes, its shape is {self.shape}: give their sizes with "
                f"`--dim {size or 'NAME'}=SIZE`, or inputs with `--input data.npz`."
            )
        return self.sizes[size]
