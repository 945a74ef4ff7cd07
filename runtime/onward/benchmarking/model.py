"""Tensor: one input of an ONNX file that is not ours, and values for it.

Record: samples of which it is known what must come out, so that a fast wrong answer is seen while it is timed.

A bundle has its golden record, with float64 outputs and PyTorch's noise. Of any other file only this is known: what
it gave in its first inferences, which it has to give again.

Subject: the model that is timed: a bundle of ours, or any ONNX file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onward.backends import Threads, open_artifact, open_backend
from onward.backends.backend import Backend
from onward.benchmarking.custom_backend import is_own, open_own
from onward.benchmarking.spec import Competitor
from onward.bundle import MANIFEST, Bundle, digest_file
from onward.bundle.golden import GoldenRecord
from onward.bundle.onnx_header import TensorValue, read_outline
from onward.errors import BundleError, UsageError
from onward.feed import check_feed, num_samples, take
from onward.parity import CONSTANT, MAX_RELATIVE_ERROR, compare
from onward.signature import AnySignature

__all__ = ["GoldenAnswers", "Judgement", "OwnAnswers", "Record", "Subject", "Tensor"]


#: What can be drawn; numpy has no bfloat16 and no 4-bit integers.
DRAWN = ("float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


@dataclass(frozen=True)
class Tensor:
    """One input.

    Args:
        name: Of the input.
        dtype: Of its elements, as numpy has it.
        shape: A size or the name of a dynamic axis each; the first is the batch.
        sizes: Of the dynamic axes.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, value: TensorValue, sizes: Mapping[str, int]) -> Tensor:
        """The input that a file states.

        Raises:
            UsageError: Nothing is said of its shape, or it has none.
        """
        if not value.shape:
            raise UsageError(f"input {value.name!r} has no batch axis that the file tells of: it cannot be timed.")
        return cls(value.name, value.dtype, value.shape, sizes)

    @property
    def batch(self) -> int | None:
        """The only batch size that it takes, if it does not take any."""
        return self.shape[0] if isinstance(self.shape[0], int) else None

    @property
    def dynamic(self) -> tuple[str, ...]:
        """Names of its dynamic axes but the batch."""
        return tuple(size for size in self.shape[1:] if isinstance(size, str))

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[Any]:
        """Random values: standard normal ones, bytes from 0 to 255, other integers 0 and 1, which any embedding has.

        Raises:
            UsageError: A dynamic axis has no size, or values of this dtype cannot be drawn.
        """
        if self.dtype not in DRAWN:
            raise UsageError(f"input {self.name!r} is {self.dtype}: `--input data.npz` has to say what it is fed.")
        shape = (count, *(self._size(size) for size in self.shape[1:]))
        if self.dtype.startswith("float"):
            return generator.standard_normal(shape, np.float32).astype(self.dtype)
        return generator.integers(0, 256 if self.dtype == "uint8" else 2, shape).astype(self.dtype)

    def check(self, array: NDArray[Any]) -> None:
        """Hold given values against it.

        Raises:
            UsageError: The dtype or the shape of a sample disagrees.
        """
        if array.dtype != np.dtype(self.dtype) or array.ndim != len(self.shape):
            raise UsageError(
                f"--input has {self.name!r} as {array.dtype} {array.shape}, the file takes {self.dtype} {self.shape}."
            )
        for given, size in zip(array.shape[1:], self.shape[1:], strict=True):
            if isinstance(size, int) and given != size:
                raise UsageError(f"--input has {self.name!r} of shape {array.shape}, the file takes {self.shape}.")

    def _size(self, size: int | str | None) -> int:
        if isinstance(size, int):
            return size
        if size is None or size not in self.sizes:
            raise UsageError(
                f"input {self.name!r} has the shape {self.shape}: `--dim {size or 'NAME'}=SIZE` says how large its "
                f"dynamic axes are, or `--input data.npz` what it is fed."
            )
        return self.sizes[size]


#: How much an output of a file that is not ours may move between batch sizes, as a share of its largest value.
MAX_MOVE = 1e-3
OWN = "own"

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Judgement:
    """What the outputs of one inference are worth.

    Args:
        noise_ratio: The worst one; of a file that is not ours, the move over the one that is let pass.
        passed: Whether the gate would let them pass.
        is_wrong: Whether they are further off than the arithmetic of float32 brings anybody, be it in another order.
    """

    noise_ratio: float
    passed: bool
    is_wrong: bool


class Record(Protocol):
    """Samples by kind, and a judgement of what is made of them."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds."""

    def count(self, kind: str) -> int:
        """How many samples of a kind."""

    def take(self, kind: str, index: NDArray[np.intp]) -> Arrays:
        """Some of them: input name -> array."""

    def judge(self, kind: str, index: NDArray[np.intp], outputs: Sequence[NDArray[Any]]) -> Judgement:
        """Compare what they came to."""


class GoldenAnswers:
    """A bundle's golden record, without its images of one value: those are nobody's load.

    Args:
        golden: The record.
        signature: Of the bundle.
    """

    def __init__(self, golden: GoldenRecord, signature: AnySignature) -> None:
        self.golden, self.signature = golden, signature
        self.kinds = tuple(kind for kind in golden.inputs if kind != CONSTANT)

    def count(self, kind: str) -> int:
        """How many samples of a kind."""
        return num_samples(self.golden.inputs[kind])

    def take(self, kind: str, index: NDArray[np.intp]) -> Arrays:
        """Some of them: input name -> array."""
        return check_feed(take(self.golden.inputs[kind], index), self.signature)

    def judge(self, kind: str, index: NDArray[np.intp], outputs: Sequence[NDArray[Any]]) -> Judgement:
        """Hold them against the float64 reference, in PyTorch's noise."""
        rows = [
            compare(
                output,
                kind,
                [np.asarray(candidate)],
                reference[index],
                self.golden.eager[kind][output][index],
                self.golden.noise[kind][output],
            )
            for (output, reference), candidate in zip(self.golden.reference[kind].items(), outputs, strict=True)
        ]
        passed = all(row.passed for row in rows)
        is_near = all(row.error <= MAX_RELATIVE_ERROR * row.noise.scale for row in rows)
        return Judgement(max(row.noise_ratio for row in rows), passed, not passed and not is_near)


class OwnAnswers:
    """What a model gave when it was asked first.

    Args:
        samples: Input name -> samples.
        answers: Outputs for them, in the file's order.
    """

    kinds = (OWN,)

    def __init__(self, samples: Arrays, answers: Sequence[NDArray[Any]]) -> None:
        self.samples, self.answers = samples, answers

    def count(self, kind: str) -> int:
        """How many samples."""
        return len(next(iter(self.samples.values())))

    def take(self, kind: str, index: NDArray[np.intp]) -> Arrays:
        """Some of them: input name -> array."""
        return {name: array[index] for name, array in self.samples.items()}

    def judge(self, kind: str, index: NDArray[np.intp], outputs: Sequence[NDArray[Any]]) -> Judgement:
        """Hold them against the first answers. Outputs without a batch axis cannot be."""
        ratios = [
            _move(np.asarray(output), answer[index])
            for output, answer in zip(outputs, self.answers, strict=True)
            if answer.ndim and len(answer) == self.count(kind) and output.shape[1:] == answer.shape[1:]
        ]
        worst = max(ratios, default=0.0)
        return Judgement(worst, worst <= 1, worst > 1)


def _move(output: NDArray[Any], answer: NDArray[Any]) -> float:
    """The largest change over the one that is let pass; NaN counts as no answer, unless it was one."""
    if output.shape != answer.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        moves = np.abs(output.astype(np.float64) - answer.astype(np.float64))
    moves = np.where(np.isnan(output) & np.isnan(answer) if output.dtype.kind == "f" else False, 0.0, moves)
    scale = float(np.abs(answer.astype(np.float64)).max(initial=0.0)) or 1.0
    worst = float(moves.max(initial=0.0)) / (MAX_MOVE * scale)
    return worst if worst == worst else float("inf")


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
            if artifact.format == format:
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
            artifact = self.bundle.preferred(kind.format)
            return open_artifact(
                self.bundle, artifact, provider=competitor.provider, threads=threads, backend=competitor.backend
            )
        beside = {path.name: path.read_bytes() for path in self._beside}
        return open_backend(
            kind.format,
            self.path.read_bytes(),
            None,
            provider=competitor.provider,
            threads=threads,
            beside=beside,
            backend=competitor.backend,
        )

    def model_path(self, format: str) -> Path:
        """The artifact's file, after its digest was checked."""
        if self.bundle is None:
            return self.path
        return self.bundle.locate(self.bundle.preferred(format).file)

    @cached_property
    def _beside(self) -> list[Path]:
        """Files of weights that the ONNX file names, in its own folder."""
        paths = [self.path.parent / item.location for item in read_outline(self.path).external]
        for path in paths:
            if path.parent != self.path.parent or path.is_symlink() or not path.is_file():
                raise BundleError(f"{self.path} keeps weights in {path}, which is not there, or not a file beside it.")
        return paths
