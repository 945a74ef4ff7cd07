"""Worker: the process of one competitor. It is asked by lines of JSON on its standard input, and answers in kind.

Each step is clocked where it happens: start of the interpreter, import of the library, opening of the model, first
inference. Nothing is imported before its clock runs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onward.backends.backend import Backend
    from onward.benchmarking.inputs import Samples
    from onward.benchmarking.model import Subject
    from onward.benchmarking.spec import Competitor

__all__ = ["main"]

#: Where each runner's library is imported.
MODULES = {
    "onnxruntime": "onward.backends.onnxruntime_backend",
    "openvino": "onward.backends.openvino_backend",
    "torchscript": "onward.backends.torch_backend",
}
PYTORCH = "onward.backends.torch_backend"
#: Of which a file that is not ours must give the same answers again.
NUM_FIXED = 8


def main(began: float) -> None:
    """Answer until standard input ends.

    Args:
        began: `time.perf_counter()` when the interpreter had started; that clock is one for all processes.
    """
    answers = _own_answers()
    _end_with_parent()
    worker = Worker(began)
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(_answer(worker, request)) + "\n")
        answers.flush()


def _own_answers() -> IO[str]:
    """Where answers go. Whatever a library prints to standard output goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    step: Callable[..., dict[str, Any]] = getattr(worker, request.pop("step"))
    try:
        return step(**request)
    except Exception as error:  # whatever a library raises is this competitor's own answer
        from onward.errors import OnwardError, reason_of

        said = str(error) if isinstance(error, OnwardError) else f"{type(error).__name__}: {reason_of(error)}"
        return {"error": said}


def _end_with_parent() -> None:
    """Die when the parent does, be it killed while this process stands still (Linux).

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Worker:
    """What this process can be asked for, a step each.

    Args:
        began: When the interpreter had started.
    """

    subject: Subject
    competitor: Competitor
    backend: Backend
    samples: Samples

    def __init__(self, began: float) -> None:
        self.began = began

    def open(
        self, *, competitor: dict[str, Any], sizes: dict[str, int], given: str | None, spawned: float, digest: str
    ) -> dict[str, Any]:
        """Import, and open the model."""
        from onward.benchmarking.spec import BACKENDS, Competitor

        self.competitor = Competitor(**competitor)
        self.given = given
        importing = time.perf_counter()
        self._import(self.competitor.kind.runner if self.competitor.backend in BACKENDS else "onnxruntime")
        opening = time.perf_counter()
        self._open(sizes, digest)
        opened = time.perf_counter()
        return {
            "process_s": self.began - spawned,
            "import_s": opening - importing,
            "open_s": opened - opening,
            "name": self.backend.name,
            "placement": self._placement(),
        }

    def first(self, *, batch_size: int, seed: int) -> dict[str, Any]:
        """The first inference at a batch size, in ms; of samples that are there before the clock runs."""
        import numpy as np

        from onward.benchmarking.inputs import fresh_arrays

        arrays = fresh_arrays(self.subject, self._load_given(), batch_size, np.random.default_rng(seed))
        began = time.perf_counter()
        self.backend.infer(arrays)
        return {"first_ms": (time.perf_counter() - began) * 1e3}

    def settle(self, *, batch_size: int, max_s: float, seed: int) -> dict[str, Any]:
        """Warm up, until the level has settled."""
        from dataclasses import asdict
        from itertools import cycle

        import numpy as np

        from onward.benchmarking.warm_up import settle

        self._prepare()
        feeds = cycle([batch.arrays for batch in self.samples.pool(batch_size, np.random.default_rng(seed))])
        return asdict(settle(lambda: self.backend.infer(next(feeds)), max_s=max_s))

    def turn(self, *, batch_size: int, turn_s: float, seed: int) -> dict[str, Any]:
        """Time some inferences."""
        import numpy as np

        from onward.benchmarking.measurement import take_turn

        pool = self.samples.pool(batch_size, np.random.default_rng(seed))
        return take_turn(self.backend.infer, pool, self.samples.record, turn_s=turn_s).to_json()

    def idle(self, *, batch_size: int, pause_s: float, seed: int) -> dict[str, Any]:
        """The first inference after a pause, in ms."""
        import numpy as np

        first, second = (self.samples.fresh(batch_size, np.random.default_rng([seed, at])).arrays for at in (0, 1))
        self.backend.infer(first)
        time.sleep(pause_s)
        began = time.perf_counter()
        self.backend.infer(second)
        return {"idle_ms": (time.perf_counter() - began) * 1e3}

    def rest(self, *, seconds: float) -> dict[str, Any]:
        """Do nothing, and say how much of the processor was taken meanwhile: cores on average."""
        from onward.benchmarking.measurement import count_threads

        time.sleep(seconds)  # what spins for a while after an inference has ended by then
        began, own = time.perf_counter(), time.process_time()
        time.sleep(seconds)
        return {
            "busy_cores": (time.process_time() - own) / (time.perf_counter() - began),
            "num_threads": count_threads(),
        }

    def answer(self, *, path: str) -> dict[str, Any]:
        """Write what comes out for the record's first samples, as .npz: output by output, in order."""
        import numpy as np

        self._prepare()
        record = self.samples.record
        kind = record.kinds[0]
        outputs = self.backend.infer(record.take(kind, np.arange(self._num_fixed(record.count(kind)))))
        np.savez(path, allow_pickle=False, **{f"{at:04}": np.asarray(item) for at, item in enumerate(outputs)})
        return {"outputs": list(self.backend.outputs)}

    def classify(self, *, labels: str, batch_size: int) -> dict[str, Any]:
        """How many of the given samples get their label; -1 is none."""
        import numpy as np

        given, targets = self._load_given(), np.load(labels)
        assert given is not None
        num_correct = 0
        for at in range(0, len(targets), batch_size):
            batch = slice(at, at + batch_size)
            outputs = self.backend.infer({name: np.ascontiguousarray(array[batch]) for name, array in given.items()})
            num_correct += int((outputs[0].argmax(1) == targets[batch]).sum())
        return {"num_labelled": int((targets >= 0).sum()), "num_correct": num_correct}

    def predict(self, *, competitor: dict[str, Any], images: str, out: str) -> dict[str, Any]:
        """Image files to rows; this process is asked for nothing else."""
        from pathlib import Path

        from onward.benchmarking.spec import Competitor
        from onward.bundle import Bundle
        from onward.prediction import PredictOptions, open_engine, predict
        from onward.sources import open_sources

        one = Competitor(**competitor)
        options = PredictOptions(num_threads=one.threads, resume=False)
        bundle = Bundle.open(one.target)
        artifact = bundle.preferred(one.kind.format).name
        engine = open_engine(bundle, options, artifact=artifact, provider=one.provider)
        summary = predict(engine, open_sources([images], engine.signature), Path(out), options)
        return {
            "num_inputs": summary.num_inputs,
            "images_per_s": summary.images_per_s,
            "shares": summary.seconds.shares,
        }

    def _import(self, runner: str) -> None:
        import importlib

        from onward.backends import is_installed

        module = MODULES.get(runner, PYTORCH)
        if module in (PYTORCH, MODULES["torchscript"]) and not is_installed("torch"):
            return  # opening says so in a sentence
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            return

    def _open(self, sizes: dict[str, int], digest: str) -> None:
        from pathlib import Path

        from onward.benchmarking.model import Subject
        from onward.errors import BundleError

        self.subject = Subject(Path(self.competitor.target), sizes)
        if self.subject.digest != digest:
            raise BundleError(f"{self.competitor.target} was changed while it was timed.")
        self.backend = self.subject.open(self.competitor)

    def _placement(self) -> dict[str, int] | None:
        placement = getattr(self.backend, "placement", None)
        return None if placement is None else {name: placement.count(name) for name in placement.nodes}

    def _prepare(self) -> None:
        """Read what turns are fed and judged by; after the first inference, so that no clock sees it."""
        if hasattr(self, "samples"):
            return
        import gc

        from onward.benchmarking.inputs import Samples

        self.samples = Samples(self.subject, self._record(), self._load_given())
        gc.collect()
        gc.freeze()  # what is there by now stays: no collection has to look at it again

    def _record(self) -> Any:
        import numpy as np

        from onward.benchmarking.inputs import fresh_arrays
        from onward.benchmarking.model import GoldenAnswers, OwnAnswers

        if self.subject.bundle is not None:
            return GoldenAnswers(self.subject.bundle.golden(), self.subject.bundle.signature)
        count = self.subject.fixed_batch or NUM_FIXED
        samples = fresh_arrays(self.subject, self._load_given(), count, np.random.default_rng(0))
        return OwnAnswers(samples, [np.array(item) for item in self.backend.infer(samples)])

    def _num_fixed(self, count: int) -> int:
        return self.subject.fixed_batch or min(count, NUM_FIXED)

    def _load_given(self) -> dict[str, NDArray[Any]] | None:
        from pathlib import Path

        import numpy as np

        if self.given is None:
            return None
        return {path.stem: np.load(path, mmap_mode="r") for path in sorted(Path(self.given).glob("*.npy"))}
