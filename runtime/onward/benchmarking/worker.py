"""Worker: the process of one candidate. It reads requests as lines of JSON from standard input and writes responses.

Each stage is timed where it happens: start of the interpreter, import of the library, opening of the model, first
inference. So everything is imported inside the step that needs it.
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
    from onward.benchmarking.candidate import Candidate
    from onward.benchmarking.expected_outputs import ExpectedOutputs
    from onward.benchmarking.inputs import InputSampler
    from onward.benchmarking.model import ModelUnderTest

__all__ = ["main"]

#: Number of inputs whose first outputs a file without a golden record must reproduce.
NUM_REPRODUCED = 8


def main(began: float) -> None:
    """Respond to requests until standard input ends.

    Args:
        began: `time.perf_counter()` when the interpreter had started; all processes share that clock.
    """
    responses = _open_responses()
    _end_with_parent()
    worker = Worker(began)
    for line in sys.stdin:
        responses.write(json.dumps(_respond(worker, json.loads(line))) + "\n")
        responses.flush()


def _open_responses() -> IO[str]:
    """The stream for responses; whatever a library prints to standard output goes to standard error instead."""
    responses = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return responses


def _respond(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    step: Callable[..., dict[str, Any]] = getattr(worker, request.pop("step"))
    try:
        return step(**request)
    except Exception as error:  # a library may raise anything
        from onward.errors import OnwardError, reason_of

        text = str(error) if isinstance(error, OnwardError) else f"{type(error).__name__}: {reason_of(error)}"
        return {"error": text}


def _end_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends, even if the parent is killed while this one is stopped.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Worker:
    """The steps that a worker can be asked for.

    Args:
        began: When the interpreter had started.
    """

    model: ModelUnderTest
    candidate: Candidate
    backend: Backend
    sampler: InputSampler

    def __init__(self, began: float) -> None:
        self.began = began

    def open(
        self,
        *,
        candidate: dict[str, Any],
        sizes: dict[str, int],
        trust: dict[str, Any],
        given: str | None,
        spawned: float,
        digest: str,
    ) -> dict[str, Any]:
        """Import the library, and open the model."""
        from onward.benchmarking.candidate import Candidate

        self.candidate = Candidate(**candidate)
        self.given = given
        importing = time.perf_counter()
        self._import_library()
        opening = time.perf_counter()
        self._open(sizes, trust, digest)
        opened = time.perf_counter()
        return {
            "process_s": self.began - spawned,
            "import_s": opening - importing,
            "open_s": opened - opening,
            "name": self.backend.name,
            "placement": self._placement(),
        }

    def first_inference(self, *, batch_size: int, seed: int) -> dict[str, Any]:
        """Time the first inference at a batch size; its inputs are made before the clock starts."""
        import numpy as np

        from onward.benchmarking.inputs import choose_inputs

        arrays = choose_inputs(self.model, self._load_given(), batch_size, np.random.default_rng(seed))
        began = time.perf_counter()
        self.backend.infer(arrays)
        return {"first_ms": (time.perf_counter() - began) * 1e3}

    def warm_up(self, *, batch_size: int, max_s: float, seed: int) -> dict[str, Any]:
        """Run inferences until they get no faster."""
        from dataclasses import asdict
        from itertools import cycle

        import numpy as np

        from onward.benchmarking.warm_up import warm_up

        self._prepare()
        feeds = cycle([batch.arrays for batch in self.sampler.batches(batch_size, np.random.default_rng(seed))])
        return asdict(warm_up(lambda: self.backend.infer(next(feeds)), max_s=max_s))

    def sample(self, *, batch_size: int, sample_s: float, seed: int) -> dict[str, Any]:
        """Take a sample: time some inferences."""
        import numpy as np

        from onward.benchmarking.sample import take_sample

        batches = self.sampler.batches(batch_size, np.random.default_rng(seed))
        return take_sample(self.backend.infer, batches, self.sampler.expected, sample_s=sample_s).to_json()

    def inference_after_pause(self, *, batch_size: int, pause_s: float, seed: int) -> dict[str, Any]:
        """Time an inference after a pause."""
        import numpy as np

        first, second = (
            self.sampler.unchecked_batch(batch_size, np.random.default_rng([seed, at])).arrays for at in (0, 1)
        )
        self.backend.infer(first)
        time.sleep(pause_s)
        began = time.perf_counter()
        self.backend.infer(second)
        return {"after_pause_ms": (time.perf_counter() - began) * 1e3}

    def idle(self, *, seconds: float) -> dict[str, Any]:
        """Do nothing, and measure how many cores the process keeps busy meanwhile."""
        time.sleep(seconds)  # threads that spin for a while after an inference end in this time
        began, own = time.perf_counter(), time.process_time()
        time.sleep(seconds)
        return {"busy_cores": (time.process_time() - own) / (time.perf_counter() - began)}

    def save_outputs(self, *, path: str) -> dict[str, Any]:
        """Write the outputs for the first inputs with known outputs as .npz, in the outputs' order."""
        from pathlib import Path

        import numpy as np

        from onward.npz import write_arrays

        self._prepare()
        expected = self.sampler.expected
        kind = expected.kinds[0]
        count = self.model.fixed_batch or min(expected.count(kind), NUM_REPRODUCED)
        outputs = self.backend.infer(expected.take(kind, np.arange(count)))
        write_arrays(Path(path), {f"{at:04}": np.asarray(item) for at, item in enumerate(outputs)})
        return {}

    def count_answers(self, *, labels: str | None, batch_size: int) -> dict[str, Any]:
        """Count how many of the given inputs have no answer, and how many get their label; -1 stands for no label.

        Where none are given, those with known outputs are counted.
        """
        import numpy as np

        self._prepare()
        inputs, expected = self._load_given(), self.sampler.expected
        if inputs is None:
            kind = expected.kinds[0]
            inputs = dict(expected.take(kind, np.arange(self.model.fixed_batch or expected.count(kind))))
        batch_size = self.model.fixed_batch or batch_size
        count = len(next(iter(inputs.values())))
        count -= count % (self.model.fixed_batch or 1)
        targets = None if labels is None else np.load(labels)[:count]
        num_correct = num_unanswered = 0
        for at in range(0, count, batch_size):
            batch = slice(at, at + batch_size)
            outputs = self.backend.infer({name: np.ascontiguousarray(array[batch]) for name, array in inputs.items()})
            num_unanswered += self._count_unanswered(outputs, min(batch_size, count - at))
            num_correct += 0 if targets is None else self._count_correct(outputs, targets[batch])
        return {
            "num_labelled": 0 if targets is None else int((targets >= 0).sum()),
            "num_correct": num_correct,
            "num_unanswered": num_unanswered,
        }

    def predict(self, *, candidate: dict[str, Any], trust: dict[str, Any], images: str, out: str) -> dict[str, Any]:
        """Run `predict` on image files; a process that does this does nothing else."""
        from pathlib import Path

        from onward.benchmarking.candidate import Candidate
        from onward.bundle import Bundle
        from onward.bundle.trust import Trust
        from onward.prediction import PredictOptions, open_engine, predict
        from onward.sources import open_sources

        one = Candidate(**candidate)
        options = PredictOptions(num_threads=one.threads, resume=False)
        bundle = Bundle.open(one.target, Trust.of(**trust))
        artifact = one.artifact or bundle.preferred(one.format).name
        engine = open_engine(bundle, options, artifact=artifact, provider=one.provider)
        summary = predict(engine, open_sources([images], engine.signature), Path(out), options)
        return {
            "num_inputs": summary.counts.num_inputs,
            "images_per_s": summary.images_per_s,
            "shares": summary.seconds.shares,
        }

    def _import_library(self) -> None:
        import importlib

        from onward.backends import BACKENDS

        spec = self.candidate.backend_spec or BACKENDS["onnxruntime"]
        if spec.is_installed:  # else opening the model raises an error that says what to install
            for module in filter(None, (spec.module, spec.late_import)):
                importlib.import_module(module)

    def _open(self, sizes: dict[str, int], trust: dict[str, Any], digest: str) -> None:
        from pathlib import Path

        from onward.benchmarking.model import ModelUnderTest
        from onward.bundle.trust import Trust
        from onward.errors import BundleError

        self.model = ModelUnderTest(Path(self.candidate.target), sizes, Trust.of(**trust))
        if self.model.digest != digest:
            raise BundleError(f"{self.candidate.target} was changed during the benchmark.")
        self.backend = self.model.open(self.candidate)

    def _count_correct(self, outputs: list[NDArray[Any]], targets: NDArray[Any]) -> int:
        if self.model.signature is None:  # an ONNX file states no task: labels are classes of its first output
            return int((outputs[0].argmax(1) == targets).sum())
        from onward.tasks import task_of

        named = dict(zip(self.backend.outputs, outputs, strict=True))
        return task_of(self.model.signature).count_correct(named, targets)

    @staticmethod
    def _count_unanswered(outputs: list[NDArray[Any]], num_inputs: int) -> int:
        import numpy as np

        from onward.tasks.task import answered

        arrays = {str(at): array for at, array in enumerate(map(np.asarray, outputs))}
        arrays = {  # those of an ONNX file may have no batch axis, and other types
            name: array
            for name, array in arrays.items()
            if array.dtype.kind == "f" and array.shape[:1] == (num_inputs,)
        }
        return int((~answered(arrays)).sum()) if arrays else 0

    def _placement(self) -> dict[str, int] | None:
        placement = getattr(self.backend, "placement", None)
        return None if placement is None else {name: placement.count(name) for name in placement.nodes}

    def _prepare(self) -> None:
        """Load the expected outputs and the given inputs; after the first inference, so no stage's time has it."""
        if hasattr(self, "sampler"):
            return
        import gc

        from onward.benchmarking.inputs import InputSampler

        self.sampler = InputSampler(self.model, self._expected_outputs(), self._load_given())
        gc.collect()
        gc.freeze()  # these objects stay: later collections need not scan them

    def _expected_outputs(self) -> ExpectedOutputs:
        import numpy as np

        from onward.benchmarking.expected_outputs import FirstOutputs, GoldenOutputs, RecordedOutputs
        from onward.benchmarking.inputs import choose_inputs
        from onward.bundle.lower_precision_record import LowerPrecisionRecord

        artifact = self.model.artifact(self.candidate)
        if self.model.bundle is not None and artifact is not None:
            signature = self.model.bundle.signature
            if artifact.is_float32:
                return GoldenOutputs(self.model.bundle.golden(), signature)
            return RecordedOutputs(LowerPrecisionRecord.read(self.model.bundle, artifact), signature)
        count = self.model.fixed_batch or NUM_REPRODUCED
        inputs = choose_inputs(self.model, self._load_given(), count, np.random.default_rng(0))
        return FirstOutputs(inputs, [np.array(item) for item in self.backend.infer(inputs)])

    def _load_given(self) -> dict[str, NDArray[Any]] | None:
        from pathlib import Path

        import numpy as np

        if self.given is None:
            return None
        return {path.stem: np.load(path, mmap_mode="r") for path in sorted(Path(self.given).glob("*.npy"))}
