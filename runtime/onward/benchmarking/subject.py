"""Subject: the model that is timed: a bundle of ours, or any ONNX file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from onward.backends import Backend, Threads, open_artifact, open_backend
from onward.benchmarking.competitor import Competitor
from onward.benchmarking.custom_backend import is_own, open_own
from onward.benchmarking.tensor import Tensor
from onward.bundle import MANIFEST, Bundle, digest_file
from onward.bundle.onnx_header import read_outline
from onward.errors import BundleError, UsageError
from onward.tensor_signature import AnySignature

__all__ = ["Subject"]


@dataclass(frozen=True)
class Subject:
    """What is timed.

    Args:
        path: A bundle's folder, or an ONNX file.
        sizes: Name of a dynamic axis, beside the batch -> its size, for a file that is not ours.
    """

    path: Path
    sizes: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def bundle(self) -> Bundle | None:
        """The bundle, where it is one.

        Raises:
            BundleError: It is neither a bundle nor a file.
        """
        return None if self.path.is_file() and self.path.name != MANIFEST else Bundle.open(self.path)

    @cached_property
    def signature(self) -> AnySignature | None:
        """What a bundle takes and gives."""
        return self.bundle.signature if self.bundle else None

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """What a file takes that is not ours.

        Raises:
            BundleError: It is no ONNX file.
            UsageError: A dynamic axis has no size.
        """
        tensors = tuple(Tensor.of(value, self.sizes) for value in read_outline(self.path).inputs)
        unknown = set(self.sizes) - {name for tensor in tensors for name in tensor.dynamic}
        if unknown:
            raise UsageError(f"--dim names {min(unknown)!r}, which no input of {self.path} has.")
        return tensors

    @cached_property
    def fixed_batch(self) -> int | None:
        """The only batch size that it takes, if it does not take any."""
        if self.bundle is not None:
            return None
        sizes = {tensor.batch for tensor in self.tensors}
        return next(iter(sizes)) if len(sizes) == 1 else None

    @cached_property
    def family(self) -> str:
        """The same for subjects whose answers can be compared: they are fed the same."""
        return str(self.path) if self.bundle is not None else repr([(item.name, item.shape) for item in self.tensors])

    @cached_property
    def _size_bytes(self) -> int:
        """Of a file, with the weights beside it."""
        return sum(path.stat().st_size for path in (self.path, *self._beside))

    @property
    def digest(self) -> str:
        """Changes with whatever could change a figure: the manifest's, or that of the file and those beside it."""
        if self.bundle is not None:
            return str(Bundle.open(self.path).to_json()["manifest_sha256"])
        whole = hashlib.sha256()
        for path in (self.path, *self._beside):
            whole.update(digest_file(path.parent, path).sha256.encode())
        return whole.hexdigest()

    def check(self) -> None:
        """Look at every byte of a bundle.

        Raises:
            BundleError: It was changed.
        """
        if self.bundle is not None:
            self.bundle.check()

    def size_bytes(self, format: str) -> int | None:
        """Of the artifact, with the weights beside it; None where there is none."""
        if self.bundle is None:
            return self._size_bytes
        for artifact in self.bundle.artifacts:
            if artifact.name == format:
                return sum(file.size_bytes for file in (artifact.file, *self.bundle.beside(artifact)))
        return None

    def open(self, competitor: Competitor) -> Backend:
        """Open the model the way that a competitor says.

        Raises:
            BackendError, BundleError, ProviderError: As for `open_artifact`.
        """
        threads = Threads(competitor.threads)
        kind = competitor.kind
        if is_own(competitor.backend):
            return open_own(competitor.backend, self.model_path(kind.format), threads)
        if self.bundle is not None:
            artifact = self.bundle.artifact(kind.format)
            return open_artifact(
                self.bundle, artifact, provider=competitor.provider, threads=threads, runner=kind.runner
            )
        beside = {path.name: path.read_bytes() for path in self._beside}
        return open_backend(
            kind.format,
            self.path.read_bytes(),
            None,
            provider=competitor.provider,
            threads=threads,
            beside=beside,
            runner=kind.runner,
        )

    def model_path(self, format: str) -> Path:
        """The artifact's file, after its digest was checked."""
        if self.bundle is None:
            return self.path
        return self.bundle.locate(self.bundle.artifact(format).file)

    @cached_property
    def _beside(self) -> list[Path]:
        """Files of weights that the ONNX file names, in its own folder."""
        paths = [self.path.parent / item.location for item in read_outline(self.path).external]
        for path in paths:
            if path.parent != self.path.parent or path.is_symlink() or not path.is_file():
                raise BundleError(f"{self.path} keeps weights in {path}, which is not there, or not a file beside it.")
        return paths
