from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from onward.backends import open_artifact
from onward.bundle import Bundle
from onward.errors import UsageError
from onward.prediction import PredictOptions, open_engine
from onward.prediction.tuner import Plan
from onward.tasks.classification import LOGITS
from tests.needs import PT2, needs_torch

ROOT = Path(__file__).parents[3]
#: Runs a batch of 32,768 with a limit in MiB on onnxruntime's allocator, and again in batches of 64.
SCARCE = """
import sys
import numpy as np
import onnxruntime as ort
from onward.backends import onnxruntime_backend as session
from onward.bundle import Bundle
from onward.prediction import PredictOptions, open_engine
memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
arena = {"max_mem": int(sys.argv[2]) << 20, "arena_extend_strategy": 1}
ort.create_and_register_allocator(memory, ort.OrtArenaCfg(arena))
options_of = session._options
def limited(*arguments):
    options = options_of(*arguments)
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options
session._options = limited
engine = open_engine(Bundle.open(sys.argv[1]), PredictOptions(batch_size=32768, streams=1, num_threads=1))
images = np.random.default_rng(0).integers(0, 256, (32768, *engine.signature.image_shape), np.uint8)
found = engine.run(images, engine.plan)["logits"]
expected = np.concatenate([engine.backend(1).run(images[at : at + 64])["logits"] for at in range(0, 32768, 64)])
assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
print(engine.plan.batch_size)
"""


def test_batches_become_smaller_if_memory_runs_out(shared_bundle: Bundle) -> None:
    def largest(num_mib: int) -> int:
        command = [sys.executable, "-c", SCARCE, str(shared_bundle.path), str(num_mib)]
        return int(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)

    assert largest(4000) == 32768
    assert 1 <= largest(16) < 32768


def test_a_processor_runs_one_inference_per_core(shared_bundle: Bundle) -> None:
    engine = open_engine(shared_bundle, PredictOptions(num_threads=3))
    assert engine.plan == Plan(256, streams=3, threads=1)
    assert engine.num_workers == 3
    assert open_engine(shared_bundle, PredictOptions(num_threads=4, streams=2, batch_size=7)).plan == Plan(7, 2, 2)


@needs_torch
@pytest.mark.parametrize("artifact", ["torchscript", PT2])
def test_pytorchs_formats_run_one_inference_at_a_time(shared_bundle: Bundle, artifact: str) -> None:
    assert open_engine(shared_bundle, PredictOptions(num_threads=1), artifact=artifact).plan == Plan(256, 1, 1)


def test_a_provider_list_that_falls_back_to_the_processor_gets_the_processors_plan(shared_bundle: Bundle) -> None:
    fallen = open_engine(shared_bundle, PredictOptions(num_threads=2), provider="cuda,cpu")
    if fallen.placement is None or fallen.placement.main != "CPUExecutionProvider":
        pytest.skip("CUDA is here")
    assert fallen.plan == Plan(256, 2, 1)


def test_a_plan_of_more_threads_gives_the_same_outputs(shared_bundle: Bundle, pixels: NDArray[np.uint8]) -> None:
    engine = open_engine(shared_bundle, PredictOptions(num_threads=2))
    expected = open_artifact(shared_bundle, shared_bundle.artifact("onnx")).run(pixels)
    for plan in (Plan(8, 2, 1), Plan(8, 1, 2)):
        found = engine.run(pixels, plan)
        # another number of threads may add in another order
        np.testing.assert_allclose(found[LOGITS], expected[LOGITS], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"streams": 0}, {"num_threads": -1}, {"on_error": "ignore"}])
def test_numbers_out_of_range_are_usage_errors(option: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        PredictOptions(**option)  # type: ignore[arg-type]
