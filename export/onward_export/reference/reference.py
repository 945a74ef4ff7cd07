"""Reference: the outputs of the module in float64 and PyTorch's own noise around them, after all preconditions hold.

Rules 1 and 2 of docs/parity.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onward.bundle.golden import GoldenRecord
from onward.feed import Feed, take
from onward.parity import BATCH_SIZES, Noise, measure_noise
from onward.signature import AnySignature
from onward.tasks import Task, task_of
from onward_export.deployable import ByOutput, Deployable, run, tensors_of
from onward_export.reference.preconditions import (
    check_batching,
    check_conditioning,
    check_depends_on_input,
    check_deterministic,
    check_finite,
    check_precision,
    check_runs,
    check_weights,
)

__all__ = ["default_dtype", "make_reference"]


def make_reference(deployable: Deployable, samples: Mapping[str, Feed], signature: AnySignature) -> GoldenRecord:
    """Compute the reference, PyTorch's float32 outputs and the noise floor for every kind of sample.

    For a module that cannot run in float64 its float32 outputs are the reference, compared by torch's tolerance.

    Args:
        deployable: In eval mode, float32.
        samples: Kind -> its inputs, e.g. uint8 `(samples, height, width, channels)`.
        signature: The sizes that the outputs must have, and the task.

    Raises:
        NotExportable: The module does not run, or its outputs have other sizes; a weight or an output is NaN or
            infinite; two runs differ; an operator computes in a narrower float; the output for a sample depends on
            the rest of its batch; the outputs do not depend on the input; PyTorch's own float32 error is too large.
            The operator or module is named.
    """
    some = next(iter(samples.values()))
    check_weights(deployable)
    with _mathematical_mode():
        check_runs(deployable, samples, signature)
        check_deterministic(deployable, some)
        check_precision(deployable, some, torch.float32)
        double = _in_double(deployable, some)
        if double is None:
            return _record_without_float64(deployable, samples)
        with default_dtype(torch.float64):
            check_precision(double, some, torch.float64)
            reference = {kind: run(double, images) for kind, images in samples.items()}
            check_finite(double, samples, reference)
            check_batching(double, samples, reference)
        ways = {kind: list(_ways(deployable, images)) for kind, images in samples.items()}
    task = task_of(signature)
    noise = {kind: _noise(outputs, ways[kind], task) for kind, outputs in reference.items()}
    eager = {kind: ways[kind][0] for kind in samples}
    record = GoldenRecord(dict(samples), reference, eager, noise)
    check_depends_on_input(record)
    check_conditioning(record)
    return record


@contextmanager
def _mathematical_mode() -> Iterator[None]:
    with torch.inference_mode(), torch.autocast("cpu", enabled=False), torch.random.fork_rng(devices=[]):
        yield


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Give tensors that are created inside another dtype."""
    # tensors created inside `forward` have the default dtype
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _ways(deployable: Deployable, samples: Feed) -> Iterator[ByOutput]:
    """Outputs of PyTorch for every batch size, the largest first, in contiguous and channels_last memory format."""
    channels_last = copy.deepcopy(deployable).to(memory_format=torch.channels_last)
    for module in (deployable, channels_last):
        for batch_size in sorted(BATCH_SIZES, reverse=True):
            yield run(module, samples, batch_size)


def _noise(reference: ByOutput, ways: Sequence[ByOutput], task: Task) -> dict[str, Noise]:
    measured = {name: measure_noise(array, [way[name] for way in ways]) for name, array in reference.items()}
    return task.noise(reference, measured)


def _in_double(deployable: Deployable, some: Feed) -> Deployable | None:
    double = copy.deepcopy(deployable).double()
    try:
        with default_dtype(torch.float64):
            double(*tensors_of(take(some, slice(2)), double))
    except (RuntimeError, TypeError):
        return None
    return double


def _record_without_float64(deployable: Deployable, samples: Mapping[str, Feed]) -> GoldenRecord:
    eager = {kind: run(deployable, images) for kind, images in samples.items()}
    check_finite(deployable, samples, eager)
    noise = {kind: {name: _unmeasured(array) for name, array in outputs.items()} for kind, outputs in eager.items()}
    reference = {
        kind: {name: array.astype(np.float64) for name, array in outputs.items()} for kind, outputs in eager.items()
    }
    record = GoldenRecord(dict(samples), reference, eager, noise)
    check_depends_on_input(record)
    return record


def _unmeasured(eager: NDArray[Any]) -> Noise:
    nothing = measure_noise(eager.astype(np.float64), [eager])
    return Noise(nothing.floor, nothing.rms, nothing.scale, is_measured=False)
