"""Process: a fresh process that opens and runs artifacts, seen from the exporter."""

from __future__ import annotations

import pickle
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from onward.backends import backend_for
from onward.errors import BackendError
from onward.feed import Feed
from onward.parity import Outputs, Replay
from onward.signature import AnySignature
from onward_export.opening.worker import ERROR, PROGRESS
from onward_export.processes import TORCH, FreshProcess

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MAX_SILENCE_S", "ArtifactProcess", "OpenedArtifact"]

PROGRAM = "import sys; from onward_export.opening.worker import main; main(sys.argv[1:])"
#: The process is ended when it has finished no batch for so long.
MAX_SILENCE_S = 300.0


class ArtifactProcess:
    """Starts the process at once, so that it imports its libraries meanwhile, and again after a crash.

    Several threads may use it. One that opens an artifact and then runs it holds `lock` meanwhile.

    Args:
        formats: The formats that it will open. Only the libraries that run them are imported.
    """

    def __init__(self, formats: Sequence[str]) -> None:
        self.formats = tuple(formats)
        self.lock = threading.RLock()
        self._is_closed = False
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, even if another thread waits for its reply: that becomes a BackendError."""
        self._is_closed = True
        self._process.kill()
        with self.lock:
            self._end()

    def open(
        self,
        format: str,
        source: Path | bytes,
        signature: AnySignature,
        *,
        beside: Sequence[Path] = (),
        requires: Sequence[str] = (),
        name: str = "",
    ) -> OpenedArtifact:
        """Open an artifact in place of the one that was open before.

        Args:
            format: `onnx`, `torchscript` or `pt2`.
            source: The file, or its content.
            signature: The inputs and outputs.
            beside: Files with weights that belong to it.
            requires: Libraries that register some of its operators.
            name: Its name in errors. Default: the file's.

        Raises:
            BackendError: It does not open, or its library crashes or hangs.
        """
        if self._imported - set(requires):  # it would not show what this artifact requires
            self._end()
            self._start()
        self._imported.update(requires)
        name = name or (source.name if isinstance(source, Path) else "the graph")
        self._request(
            "open",
            f"opened {name}",
            backend_for(format).library,
            format=format,
            source=source,
            beside=list(beside),
            signature=signature,
            requires=tuple(requires),
        )
        return OpenedArtifact(self, format, name, tuple(requires))

    def run_as_written(
        self, data: bytes, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> list[NDArray[Any]]:
        """Run an ONNX graph once, node by node; as `onnxruntime_backend.run_as_written`, but a crash is an error.

        Raises:
            BackendError: It does not open or run.
        """
        found: list[NDArray[Any]] = self._request(
            "run_as_written", "ran the graph", "onnxruntime", data=data, feed=dict(feed), outputs=list(outputs)
        )
        return found

    def _start(self) -> None:
        specs = [backend_for(format) for format in self.formats]
        modules = dict.fromkeys(name for spec in specs for name in (spec.module, spec.late_import) if name)
        self._imported: set[str] = set()
        self._is_silent = False
        imports = TORCH if any(spec.library == "PyTorch" for spec in specs) else tuple(modules)
        self._process = FreshProcess(PROGRAM, list(modules), imports=imports)

    def _end(self) -> None:
        self._process.close()

    def _request(self, step: str, doing: str, library: str, **arguments: Any) -> Any:
        """Let the process do one step and wait for its result."""
        with self.lock:
            try:
                self._send((step, arguments))
                what, value = self._reply()
            except (EOFError, OSError, ValueError, pickle.UnpicklingError):
                if self._is_closed:
                    raise BackendError("the export ended meanwhile.") from None
                reason = self._how_it_ended(doing, library)
                self._end()
                self._start()
                raise BackendError(reason) from None
        if what == ERROR:
            raise BackendError(value)
        return value

    def _send(self, request: tuple[str, dict[str, Any]]) -> None:
        with self._limited():
            pickle.dump(request, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()

    def _reply(self) -> tuple[str, Any]:
        """The next reply that is no progress."""
        while True:
            with self._limited():
                what, value = pickle.load(self._process.stdout)
            if what != PROGRESS:
                return what, value

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """End the process where the body takes too long: the body then finds its pipe closed."""
        timer = threading.Timer(MAX_SILENCE_S, self._end_silence)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end_silence(self) -> None:
        self._is_silent = True
        self._process.kill()

    def _how_it_ended(self, doing: str, library: str) -> str:
        code = self._process.wait()
        if self._is_silent:
            return f"{library} did not answer for {MAX_SILENCE_S:g} s when it {doing}, and was ended."
        try:
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        except ValueError:
            how = f"signal {-code}"
        if how == "SIGKILL":
            return f"the system ended {library} when it {doing} ({how}), most likely for its memory."
        said = self._process.errors().strip().splitlines()
        last = f" Its last output: {said[-1].strip()}" if said and (code > 0 or how == "SIGABRT") else ""
        return f"{library} crashed when it {doing} ({how}).{last}"


@dataclass(frozen=True)
class OpenedArtifact:
    """An artifact that is open in the process. Opening another one closes it.

    Args:
        process: Where it is open.
        format: Its format.
        name: Its name in errors.
        requires: Libraries that register some of its operators.
    """

    process: ArtifactProcess
    format: str
    name: str
    requires: tuple[str, ...] = ()

    def run(self, feed: Feed) -> Outputs:
        """Run one batch.

        Raises:
            BackendError: It does not run, or its library crashes or hangs. The same for `regroup` and `replay`.
        """
        outputs: Outputs = self._request("run", feed=feed)
        return outputs

    def regroup(self, samples: Feed, batch_size: int) -> Outputs:
        """Run samples in batches of `batch_size` and join the outputs, as `onward.parity.regroup`."""
        outputs: Outputs = self._request("regroup", samples=samples, batch_size=batch_size)
        return outputs

    def replay(self, inputs: Mapping[str, Feed]) -> Replay:
        """Run all kinds of samples in batches of every size, as `onward.parity.replay`."""
        replayed: Replay = self._request("replay", inputs=dict(inputs))
        return replayed

    def _request(self, step: str, **arguments: Any) -> Any:
        return self.process._request(step, f"ran {self.name}", backend_for(self.format).library, **arguments)
