"""Replays: artifacts run on the gate's samples while the exporter goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onward.backends.operator_libraries import library_of
from onward.errors import BackendError, ParityFailure
from onward.feed import Feed, num_samples
from onward.parity import Outputs, Replay, batchings
from onward.signature import AnySignature
from onward_export.opening.process import ArtifactProcess, OpenedArtifact

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ArtifactRun", "Replays", "files_beside", "open_artifact"]


@dataclass(frozen=True)
class ArtifactRun:
    """What an artifact gave.

    Args:
        requires: Libraries that register some of its operators: without them it does not open.
        replayed: Its outputs for all samples, once for each way of dividing them into batches.
        golden: Its outputs for the samples of the golden record, each kind as one batch.
    """

    requires: tuple[str, ...]
    replayed: Replay
    golden: Mapping[str, Outputs]


class Replays:
    """Runs artifacts one after the other, in the order in which they were begun.

    Args:
        process: Where they are opened; it is closed with this.
        signature: The inputs and outputs.
    """

    def __init__(self, process: ArtifactProcess, signature: AnySignature) -> None:
        self.process = process
        self._signature = signature
        self._pool = ThreadPoolExecutor(1)
        self._runs: dict[str, Future[ArtifactRun]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.process.close()
        self._pool.shutdown()

    def begin(self, format: str, path: Path, samples: Mapping[str, Feed], golden: Mapping[str, Feed]) -> None:
        """Begin to run an artifact.

        Args:
            format: `onnx`, `torchscript` or `pt2`.
            path: Its file.
            samples: Kind -> all samples.
            golden: Kind -> the first of them, which are stored in the bundle.
        """
        self._runs[format] = self._pool.submit(self._run, format, path, samples, golden)

    def is_begun(self, format: str) -> bool:
        """Whether an artifact runs or ran whose result was not fetched."""
        return format in self._runs

    def result(self, format: str) -> ArtifactRun:
        """Wait for what an artifact gave.

        Raises:
            ParityFailure: It does not open, or does not run at some batch size.
        """
        return self._runs.pop(format).result()

    def _run(self, format: str, path: Path, samples: Mapping[str, Feed], golden: Mapping[str, Feed]) -> ArtifactRun:
        with self.process.lock:
            try:
                opened = open_artifact(format, path, self._signature, self.process)
            except BackendError as error:
                raise ParityFailure(f"{path.name} does not open: {error}") from error
            try:
                replayed = opened.replay(samples)
                return ArtifactRun(opened.requires, replayed, _golden_outputs(opened, samples, golden, replayed))
            except BackendError as error:
                raise ParityFailure(f"{path.name} does not run on batches of every size: {error}") from error


def open_artifact(format: str, path: Path, signature: AnySignature, process: ArtifactProcess) -> OpenedArtifact:
    """Open a file; if it does not open without a library that registers some of its operators, with that library.

    Raises:
        BackendError: It does not open.
    """
    try:
        return process.open(format, path, signature, beside=files_beside(path))
    except BackendError as error:
        library = library_of(error)
        if library is None:
            raise
        return process.open(format, path, signature, beside=files_beside(path), requires=(library,))


def files_beside(path: Path) -> Sequence[Path]:
    """The files with weights that belong to an artifact."""
    return sorted(path.parent.glob(f"{path.name}.*"))


def _golden_outputs(
    opened: OpenedArtifact, samples: Mapping[str, Feed], golden: Mapping[str, Feed], replayed: Replay
) -> dict[str, Outputs]:
    """The outputs for each kind of golden inputs as one batch, taken from the replay where it had that batch."""
    outputs = {}
    for kind, feed in golden.items():
        count = num_samples(feed)
        divisions = batchings(num_samples(samples[kind]), kind)
        same = [given for sizes, given in zip(divisions, replayed[kind], strict=True) if sizes[0] == count]
        outputs[kind] = {name: array[:count] for name, array in same[0].items()} if same else opened.run(feed)
    return outputs
