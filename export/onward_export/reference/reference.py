"""Reference: the outputs of the module in float64 and PyTorch's own noise around them, after all preconditions hold.

Rules 1 and 2 of docs/parity.md.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onward.bundle.golden import GoldenRecord
from onward.errors import NotExportable, reason_of
from onward.feed import Feed, arrays_of, take
from onward.feed import num_samples as count_samples
from onward.parity import (
    CERTAINLY_FAILED,
    CERTAINLY_PASSED,
    CONSTANT,
    MAX_NOISE_RATIO,
    Noise,
    Verdict,
    batchings,
    measure_noise,
)
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

__all__ = ["CHANNELS_LAST", "CONTIGUOUS", "Reference", "make_reference", "why_stop"]

CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"
#: A memory format changes float32 outputs by less than this share of their scale, or it changes what is computed.
OTHER_OUTPUTS = 1e-2

ByKind = dict[str, ByOutput]
#: The conditions that need float64 and several runs are checked on so many samples.
NUM_CHECKED = 2
#: An export that has taken so long takes no more samples.
MAX_ELAPSED_S = 600.0


@dataclass(frozen=True)
class _Forms:
    """The module in every form that is run.

    Args:
        eager: In float32, by memory format; the contiguous one first.
        double: In float64; None where it does not run.
        casts: The casts to narrower floats in `forward`.
    """

    eager: Mapping[str, Deployable]
    double: Deployable | None
    casts: Sequence[Cast]


@dataclass(frozen=True)
class _Block:
    """What was computed of some samples, by kind.

    Args:
        samples: The samples.
        reference: In float64; empty where the module does not run in it.
        ways: In float32, once for each batching and memory format, in the largest batches first.
        without_casts: In float32 without casts to narrower floats; empty where there are none.
    """

    samples: Mapping[str, Feed]
    reference: Mapping[str, ByOutput]
    ways: Mapping[str, Sequence[ByOutput]]
    without_casts: Mapping[str, ByOutput]


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
    _forms: _Forms
    _blocks: tuple[_Block, ...]
    _pool: Mapping[str, Feed]
    _task: Task

    @property
    def num_samples(self) -> int:
        """Of each kind; the smallest number of a kind of which there are more, as long as there are."""
        counts = {kind: count_samples(feed) for kind, feed in self.record.inputs.items()}
        open_kinds = [count for kind, count in counts.items() if count < count_samples(self._pool[kind])]
        return min(open_kinds, default=max(counts.values()))

    @property
    def is_complete(self) -> bool:
        """Whether all samples are in it."""
        return all(count_samples(self.record.inputs[kind]) == count_samples(feed) for kind, feed in self._pool.items())

    def extended(self, num_samples: int) -> Reference:
        """With more samples: the first `num_samples` of each kind. What is computed already is not computed again.

        Raises:
            NotExportable: As `make_reference`.
        """
        done = {kind: count_samples(feed) for kind, feed in self.record.inputs.items()}
        more = {kind: take(feed, slice(done[kind], num_samples)) for kind, feed in self._pool.items()}
        with _mathematical_mode():
            block = _compute(self._forms, {kind: feed for kind, feed in more.items() if count_samples(feed)})
        blocks = (*self._blocks, block)
        return _checked(replace(self, record=_record(blocks, self._forms, self._task), _blocks=blocks))


def make_reference(
    deployable: Deployable,
    samples: Mapping[str, Feed],
    signature: AnySignature,
    num_first: int | None = None,
    at_least: Mapping[str, int] | None = None,
) -> Reference:
    """Compute the reference, PyTorch's float32 outputs and the noise floor for every kind of sample.

    For a module that cannot run in float64 its float32 outputs are the reference, compared by torch's tolerance.

    Args:
        deployable: In eval mode, float32.
        samples: Kind -> its inputs, e.g. uint8 `(samples, height, width, channels)`.
        signature: The sizes that the outputs must have, and the task.
        num_first: How many samples of each kind are computed first; all by default. `Reference.extended` adds more.
        at_least: Kind -> how many of its samples are computed in any case.

    Raises:
        NotExportable: The module does not run, or its outputs have other sizes; a weight or an output is NaN or
            infinite; two runs differ; a cast to a narrower float changes the outputs; the output for a sample depends
            on the rest of its batch; the outputs do not depend on the input; PyTorch's own float32 error is too large.
            The operator or module is named.
    """
    some = take(next(iter(samples.values())), slice(NUM_CHECKED))
    first = {kind: take(feed, slice(_first(kind, num_first, at_least))) for kind, feed in samples.items()}
    check_weights(deployable)
    with _mathematical_mode():
        check_runs(deployable, samples, signature)
        check_deterministic(deployable, some)
        formats, left_out = _memory_formats(deployable, some)
        forms = _Forms(formats, _in_float64(deployable, some), _find_casts(deployable, some))
        block = _compute(forms, first)
        if forms.double is not None:
            with widened(torch.float64):
                few = {kind: take(feed, slice(NUM_CHECKED)) for kind, feed in first.items() if kind != CONSTANT}
                check_batching(forms.double, few, block.reference)
    task = task_of(signature)
    record = _record((block,), forms, task)
    return _checked(Reference(record, tuple(formats), left_out, forms, (block,), dict(samples), task))


def why_stop(verdicts: Sequence[Verdict], reference: Reference, elapsed_s: float) -> str:
    """Why the gate needs no more samples; empty if it does."""
    count = reference.num_samples
    if reference.is_complete:
        return f"{count} of each kind, as many as there are"
    if all(verdict.is_certain for verdict in verdicts):
        return (
            f"{count} of each kind. The verdict is certain, because each noise ratio is at most "
            f"{CERTAINLY_PASSED * MAX_NOISE_RATIO:g} or above {CERTAINLY_FAILED * MAX_NOISE_RATIO:g}"
        )
    if elapsed_s > MAX_ELAPSED_S:
        return f"{count} of each kind, because the export had taken {elapsed_s:.0f} s. `--thorough` uses more"
    return ""


def _first(kind: str, num_first: int | None, at_least: Mapping[str, int] | None) -> int | None:
    return None if num_first is None else max(num_first, (at_least or {}).get(kind, 0))


def _checked(reference: Reference) -> Reference:
    """The reference, or one with all samples where few are not enough to tell that it can be one."""
    try:
        check_depends_on_input(reference.record)
        check_conditioning(reference.record)
    except NotExportable:
        if reference.is_complete:
            raise
        return reference.extended(max(map(count_samples, reference._pool.values())))
    return reference


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


def _in_float64(deployable: Deployable, some: Feed) -> Deployable | None:
    """The module in float64; None where it does not run in float64."""
    double = copy.deepcopy(deployable).double()
    try:
        with widened(torch.float64) as widening:
            outputs = double(*tensors_of(take(some, slice(1)), double))
    except MODEL_ERRORS:
        return None
    return None if widening.is_incomplete or any(item.dtype == torch.float32 for item in outputs) else double


def _compute(forms: _Forms, samples: Mapping[str, Feed]) -> _Block:
    """Run the module in every form."""
    deployable, double = forms.eager[CONTIGUOUS], forms.double
    reference: ByKind = {}
    if double is not None:
        with widened(torch.float64):
            # PyTorch's convolution in float64 takes a thread for each sample; more samples only leave its cache
            size = max(NUM_CHECKED, torch.get_num_threads())
            reference = {kind: _run(double, feed, kind, size) for kind, feed in samples.items()}
            check_finite(double, samples, reference)
    ways = {kind: list(_ways(forms.eager, kind, feed)) for kind, feed in samples.items()}
    check_finite(deployable, samples, {kind: outputs[0] for kind, outputs in ways.items()})
    without_casts: ByKind = {}
    if forms.casts:
        with widened(torch.float32):
            without_casts = {kind: _run(deployable, feed, kind) for kind, feed in samples.items() if kind != CONSTANT}
    return _Block(samples, reference, ways, without_casts)


def _run(module: Deployable, feed: Feed, kind: str, sizes: int | Sequence[int] | None = None) -> ByOutput:
    sizes = sizes or _batchings(feed, kind)[-1]
    with refusing(feed, sizes if isinstance(sizes, int) else max(sizes), kind):
        return run(module, feed, sizes)


def _batchings(feed: Feed, kind: str) -> list[tuple[int, ...]]:
    return batchings(count_samples(feed), kind)


def _memory_formats(deployable: Deployable, some: Feed) -> tuple[dict[str, Deployable], dict[str, str]]:
    """The module in each memory format that it takes, and the reasons why it takes no other."""
    formats = {CONTIGUOUS: deployable}
    if not any(tensor.ndim == 4 for tensor in deployable.state_dict().values()):
        return formats, {CHANNELS_LAST: "no weight has four dimensions"}
    few = take(some, slice(1))
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
    """Outputs of PyTorch for every batching, the largest batches first, and then in the other memory formats.

    Constant samples are computed in one memory format. So are few samples in their largest batches.
    """
    sizes = _batchings(feed, kind)[::-1]
    for name, module in formats.items():
        if name != CONTIGUOUS and kind == CONSTANT:
            continue
        for item in sizes if name == CONTIGUOUS or len(sizes) > 2 else sizes[-1:]:
            yield _run(module, feed, kind, item)


def _find_casts(deployable: Deployable, some: Feed) -> list[Cast]:
    """The casts to narrower floats in `forward`."""
    path: list[str] = []
    with tracked_modules(deployable, path), widened(torch.float32, path) as widening:
        deployable(*tensors_of(take(some, slice(1)), deployable))
    return widening.casts


def _record(blocks: Sequence[_Block], forms: _Forms, task: Task) -> GoldenRecord:
    """The samples of all blocks, and the noise pooled over them."""
    kinds = list(blocks[0].samples)
    parts = {kind: [block for block in blocks if kind in block.samples] for kind in kinds}
    inputs = {kind: _join_feeds([block.samples[kind] for block in parts[kind]]) for kind in kinds}
    ways = {kind: _join_ways([block.ways[kind] for block in parts[kind]]) for kind in kinds}
    eager = {kind: ways[kind][0] for kind in kinds}
    if forms.double is not None:
        reference = {kind: _join([block.reference[kind] for block in parts[kind]]) for kind in kinds}
        noise = _noise(reference, ways, task)
    else:
        reference = {kind: {name: array.astype(np.float64) for name, array in eager[kind].items()} for kind in kinds}
        noise = _unmeasured(eager)
    if forms.casts:
        alone = {
            kind: _join([block.without_casts[kind] for block in parts[kind]]) for kind in kinds if kind != CONSTANT
        }
        floors = (
            noise if forms.double is None else _noise(reference, {kind: [item] for kind, item in alone.items()}, task)
        )
        check_casts(forms.casts, eager, alone, floors)
    return GoldenRecord(inputs, reference, eager, noise)


def _join(parts: Sequence[ByOutput]) -> ByOutput:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _join_ways(parts: Sequence[Sequence[ByOutput]]) -> list[ByOutput]:
    """Join way by way; blocks of few samples have fewer ways than large ones, and theirs are used again."""
    count = max(map(len, parts))
    return [_join([ways[index % len(ways)] for ways in parts]) for index in range(count)]


def _join_feeds(feeds: Sequence[Feed]) -> Feed:
    first = feeds[0]
    if isinstance(first, Mapping):
        return {name: np.concatenate([arrays_of(feed)[at] for feed in feeds]) for at, name in enumerate(first)}
    return np.concatenate([arrays_of(feed)[0] for feed in feeds])


def _noise(
    reference: Mapping[str, ByOutput], ways: Mapping[str, Sequence[ByOutput]], task: Task
) -> dict[str, dict[str, Noise]]:
    noise = {}
    for kind, items in ways.items():
        measured = {name: measure_noise(array, [way[name] for way in items]) for name, array in reference[kind].items()}
        noise[kind] = task.noise(reference[kind], measured)
    return noise


def _unmeasured(eager: Mapping[str, ByOutput]) -> dict[str, dict[str, Noise]]:
    return {kind: {name: _no_noise(array) for name, array in outputs.items()} for kind, outputs in eager.items()}


def _no_noise(eager: NDArray[Any]) -> Noise:
    nothing = measure_noise(eager.astype(np.float64), [eager])
    return Noise(nothing.floor, nothing.rms, nothing.scale, is_measured=False)
