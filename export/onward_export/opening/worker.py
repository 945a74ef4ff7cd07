"""Worker: the program of the process that opens and runs artifacts. It reads requests from standard input.

A request is a step of `Worker` and its arguments, a reply one of `RESULT`, `ERROR` and `PROGRESS` and a value; both are
pickled. Importing this module loads neither numpy nor a library that runs models.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onward.backends.backend import Backend
    from onward.feed import Feed
    from onward.parity import Outputs, Replay
    from onward.signature import AnySignature

__all__ = ["ERROR", "PROGRESS", "RESULT", "main"]

#: What a reply says: the step has a result, it failed, or it has run one more batch.
RESULT, ERROR, PROGRESS = "result", "error", "progress"


def main(modules: Sequence[str] = ()) -> None:
    """Reply to requests until standard input ends.

    Args:
        modules: Imported before the first request. One that cannot be imported is left for the step that needs it.
    """
    requests, replies = _open_streams()
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)

    def reply(what: str, value: Any = None) -> None:
        pickle.dump((what, value), replies, pickle.HIGHEST_PROTOCOL)
        replies.flush()

    worker = Worker(lambda: reply(PROGRESS))
    while True:
        try:
            step, arguments = pickle.load(requests)
        except EOFError:
            return
        reply(*_attempt(getattr(worker, step), arguments))


def _open_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Requests and replies; whatever a library reads or prints does not reach them."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, replies


def _attempt(step: Callable[..., Any], arguments: Mapping[str, Any]) -> tuple[str, Any]:
    try:
        return RESULT, step(**arguments)
    except Exception as error:  # a library may raise anything
        from onward.errors import OnwardError, reason_of

        return ERROR, str(error) if isinstance(error, OnwardError) else reason_of(error)


class Worker:
    """The steps that can be asked for. One artifact is open at a time.

    Args:
        on_batch: Called after each batch.
    """

    backend: Backend

    def __init__(self, on_batch: Callable[[], None]) -> None:
        self.on_batch = on_batch

    def open(
        self,
        *,
        format: str,
        source: Path | bytes,
        beside: Sequence[Path],
        signature: AnySignature,
        requires: Sequence[str],
    ) -> None:
        """Open an artifact: a file with those beside it, or its bytes."""
        from onward.backends import open_backend

        data = source if isinstance(source, bytes) else source.read_bytes()
        self.backend = open_backend(
            format, data, signature, beside={path.name: path.read_bytes() for path in beside}, requires=requires
        )

    def run(self, *, feed: Feed) -> Outputs:
        """Run one batch."""
        outputs = self.backend.run(feed)
        self.on_batch()
        return outputs

    def regroup(self, *, samples: Feed, batch_size: int) -> Outputs:
        """Run samples in batches."""
        from onward.parity import regroup

        return regroup(lambda feed: self.run(feed=feed), samples, batch_size)

    def replay(self, *, inputs: Mapping[str, Feed]) -> Replay:
        """Run all kinds of samples in batches of every size."""
        from onward.parity import replay

        return replay(lambda feed: self.run(feed=feed), inputs)

    def run_as_written(
        self, *, data: bytes, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> list[NDArray[Any]]:
        """Run an ONNX graph once, without optimisations."""
        from onward.backends.onnxruntime_backend import run_as_written

        return run_as_written(data, feed, outputs)


if __name__ == "__main__":
    main(sys.argv[1:])
