"""Reference: the outputs of the module in float64 and PyTorch's own noise around them, after all preconditions hold.

Rules 1 and 2 of docs/parity.md.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onward.bundle.golden import GoldenRecord
from onward.errors import reason_of
from onward.feed import Feed, take
from onward.parity import BATCH_SIZES, CONSTANT, Noise, measure_noise
from onward.signature import AnySignature
from onward.tasks import Task, task_of
from onward_export.deployable import ByOutput, Deployable, run, tensors_of
from onward_export.reference.operator_trace import tracked_modules
from onward_export.reference.preconditions import (
    MODEL_ERRORS,
    check_batching,
    check_casts,
    check_conditioning,
    check_depends_on_input,
    check_deterministic,
    check_finite,
    check_runs,
    check_weights,
    refusing,
)
from onward_export.reference.widening import Cast, widened

__all__ = ["CHANNELS_LAST", "CONTIGUOUS", "Reference", "make_reference"]

CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"
#: A memory format changes float32 outputs by less than this share of their scale, or it changes what is computed.
OTHER_OUTPUTS = 1e-2

ByKind = dict[str, ByOutput]


@dataclass(frozen=True)
class Reference:
    """What artifacts are compared with, and how it was computed.

    Args:
        record: Samples, float64 outputs, PyTorch's float32 outputs and the noise floor.
        memory_formats: The memory formats in which PyTorch's float32 was computed.
        left_out: Memory format -> the reason why it was not computed.
    """

    record: GoldenRecord
    memory_formats: tuple[str, ...]
    left_out: Mapping[str, str]


def make_reference(deployable: Deployable, samples: Mapping[str, Feed], signature: AnySignature) -> Reference:
    """Compute the reference, PyTorch's float32 outputs and the noise floor for every kind of sample.

    For a module that cannot run in float64 its float32 outputs are the reference, compared by torch's tolerance.

    Args:
        deployable: In eval mode, float32.
        samples: Kind -> its inputs, e.g. uint8 `(samples, height, width, channels)`.
        signature: The sizes that the outputs must have, and the task.

    Raises:
        NotExportable: The module does not run, or its outputs have other sizes; a weight or an output is NaN or
            infinite; two runs differ; a cast to a narrower float changes the outputs; the output for a sample depends
            on the rest of its batch; the outputs do not depend on the input; PyTorch's own float32 error is too large.
            The operator or module is named.
    """
    some = next(iter(samples.values()))
    check_weights(deployable)
    with _mathematical_mode():
        check_runs(deployable, samples, signature)
        check_deterministic(deployable, some)
        reference = _in_float64(deployable, samples)
        formats, left_out = _memory_formats(deployable, some)
        ways = {kind: list(_ways(formats, kind, feed)) for kind, feed in samples.items()}
        eager = {kind: ways[kind][0] for kind in samples}
        check_finite(deployable, samples, eager)
        casts = _find_casts(deployable, some)
        without_casts = _without_casts(deployable, samples) if casts else {}
    task = task_of(signature)
    noise = _noise(reference, ways, task) if reference else _unmeasured(eager)
    if casts:
        alone = {kind: [outputs] for kind, outputs in without_casts.items()}
        check_casts(casts, eager, without_casts, _noise(reference, alone, task) if reference else noise)
    record = GoldenRecord(dict(samples), reference or _as_float64(eager), eager, noise)
    check_depends_on_input(record)
    if reference:
        check_conditioning(record)
    return Reference(record, tuple(formats), left_out)


@contextmanager
def _mathematical_mode() -> Iterator[None]:
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", enabled=False),
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
        ):
            # such as that of an autocast region for CUDA on a machine without it
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _in_float64(deployable: Deployable, samples: Mapping[str, Feed]) -> ByKind | None:
    """The float64 outputs by kind; None for a module that does not run in float64."""
    double = copy.deepcopy(deployable).double()
    try:
        with widened(torch.float64) as widening:
            outputs = {kind: run(double, feed) for kind, feed in samples.items()}
    except MODEL_ERRORS:
        return None
    if widening.is_incomplete or any(array.dtype == np.float32 for item in outputs.values() for array in item.values()):
        return None
    with widened(torch.float64):
        check_finite(double, samples, outputs)
        check_batching(double, samples, outputs)
    return outputs


def _memory_formats(deployable: Deployable, some: Feed) -> tuple[dict[str, Deployable], dict[str, str]]:
    """The module in each memory format that it takes, and the reasons why it takes no other."""
    formats = {CONTIGUOUS: deployable}
    if not any(tensor.ndim == 4 for tensor in deployable.state_dict().values()):
        return formats, {CHANNELS_LAST: "no weight has four dimensions"}
    few = take(some, slice(2))
    try:
        module = copy.deepcopy(deployable).to(memory_format=torch.channels_last)
        given, expected = run(module, few), run(deployable, few)
    except MODEL_ERRORS as error:
        return formats, {CHANNELS_LAST: reason_of(error)}
    for name, array in expected.items():
        if not np.abs(given[name] - array).max() <= OTHER_OUTPUTS * np.abs(array).max():
            return formats, {CHANNELS_LAST: f"{name} differ in it"}
    return formats | {CHANNELS_LAST: module}, {}


def _ways(formats: Mapping[str, Deployable], kind: str, feed: Feed) -> Iterator[ByOutput]:
    """Outputs of PyTorch for every memory format and batch size, the largest batches first."""
    for module in formats.values():
        for batch_size in sorted(BATCH_SIZES, reverse=True):
            with refusing(feed, batch_size, kind):
                outputs = run(module, feed, batch_size)
            yield outputs


def _find_casts(deployable: Deployable, some: Feed) -> list[Cast]:
    """The casts to narrower floats in `forward`."""
    path: list[str] = []
    with tracked_modules(deployable, path), widened(torch.float32, path) as widening:
        deployable(*tensors_of(take(some, slice(2)), deployable))
    return widening.casts


def _without_casts(deployable: Deployable, samples: Mapping[str, Feed]) -> ByKind:
    """The float32 outputs with every cast to a narrower float left out."""
    with widened(torch.float32):
        return {kind: run(deployable, feed) for kind, feed in samples.items() if kind != CONSTANT}


def _noise(
    reference: Mapping[str, ByOutput], ways: Mapping[str, Sequence[ByOutput]], task: Task
) -> dict[str, dict[str, Noise]]:
    noise = {}
    for kind in ways:
        measured = {
            name: measure_noise(array, [way[name] for way in ways[kind]]) for name, array in reference[kind].items()
        }
        noise[kind] = task.noise(reference[kind], measured)
    return noise


def _unmeasured(eager: Mapping[str, ByOutput]) -> dict[str, dict[str, Noise]]:
    return {kind: {name: _no_noise(array) for name, array in outputs.items()} for kind, outputs in eager.items()}


def _no_noise(eager: NDArray[Any]) -> Noise:
    nothing = measure_noise(eager.astype(np.float64), [eager])
    return Noise(nothing.floor, nothing.rms, nothing.scale, is_measured=False)


def _as_float64(eager: Mapping[str, ByOutput]) -> ByKind:
    return {kind: {name: array.astype(np.float64) for name, array in item.items()} for kind, item in eager.items()}
