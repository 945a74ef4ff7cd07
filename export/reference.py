"""Reference: the module in float64, after it was found fit to be one, with PyTorch's own noise around it.

Rules 1 and 2 of docs/parity.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.watch import first_difference, watch
from runtime.errors import NotExportable, reason_of
from runtime.golden import GoldenRecord
from runtime.parity import BATCH_SIZES, CONSTANT, Noise, Run, measure_noise, regroup
from runtime.signature import OUTPUTS

__all__ = ["make_reference"]

#: Splitting a batch may move a float64 output by this share of the output's scale: rounding, and no more.
ROUNDING_FLOAT64 = 1e-9
LARGEST_BATCH = max(BATCH_SIZES)

ByOutput = dict[str, NDArray[Any]]


def make_reference(deployable: nn.Module, samples: Mapping[str, NDArray[np.uint8]], num_classes: int) -> GoldenRecord:
    """Compute the reference, PyTorch's float32 outputs and the noise floor for every kind of sample.

    A module that cannot run in float64 is its own reference in float32, to be compared by torch's tolerance.

    Args:
        deployable: In eval mode, float32; uint8 images in, logits and probabilities out.
        samples: Kind -> uint8 `(samples, height, width, channels)`.
        num_classes: The width that the outputs must have.

    Raises:
        NotExportable: It does not run, or its outputs have another width; a weight or an output is NaN or
            infinite; two runs differ; an operator runs in a narrower float; the outputs depend on what else is in
            the batch, or not on the input; PyTorch itself is too far from the mathematics. The operator or module
            is named.
    """
    some = next(iter(samples.values()))
    _check_weights(deployable)
    with _mathematical_mode():
        _check_runs(deployable, some, num_classes)
        _check_repeats(deployable, some)
        _check_width(deployable, some, torch.float32)
        double = _in_double(deployable, some)
        if double is None:
            return _record_without_float64(deployable, samples)
        with _default_dtype(torch.float64):
            _check_width(double, some, torch.float64)
            reference = {kind: _run(double, images) for kind, images in samples.items()}
            _check_finite(double, samples, reference)
            _check_batching(double, samples, reference)
        ways = {kind: list(_ways(deployable, images)) for kind, images in samples.items()}
    noise = {
        kind: {name: measure_noise(outputs[name], [way[name] for way in ways[kind]]) for name in OUTPUTS}
        for kind, outputs in reference.items()
    }
    eager = {kind: ways[kind][0] for kind in samples}
    record = GoldenRecord(dict(samples), reference, eager, noise)
    _check_alive(record)
    _check_conditioning(record)
    return record


@contextmanager
def _mathematical_mode() -> Iterator[None]:
    with torch.inference_mode(), torch.autocast("cpu", enabled=False), torch.random.fork_rng(devices=[]):
        yield


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    # tensors that a forward pass makes for itself follow the default
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _runner(module: nn.Module) -> Run:
    def run(images: NDArray[np.uint8]) -> ByOutput:
        return {name: out.numpy() for name, out in zip(OUTPUTS, module(torch.tensor(images)), strict=True)}

    return run


def _run(module: nn.Module, images: NDArray[np.uint8], batch_size: int = LARGEST_BATCH) -> ByOutput:
    return regroup(_runner(module), images, batch_size)


def _ways(deployable: nn.Module, images: NDArray[np.uint8]) -> Iterator[ByOutput]:
    """PyTorch's own ways of computing the same: batch sizes, the largest first, and channels_last."""
    channels_last = copy.deepcopy(deployable).to(memory_format=torch.channels_last)
    for module in (deployable, channels_last):
        for batch_size in sorted(BATCH_SIZES, reverse=True):
            yield _run(module, images, batch_size)


def _in_double(deployable: nn.Module, some: NDArray[np.uint8]) -> nn.Module | None:
    double = copy.deepcopy(deployable).double()
    try:
        with _default_dtype(torch.float64):
            double(torch.tensor(some[:2]))
    except (RuntimeError, TypeError):
        return None
    return double


def _record_without_float64(deployable: nn.Module, samples: Mapping[str, NDArray[np.uint8]]) -> GoldenRecord:
    eager = {kind: _run(deployable, images) for kind, images in samples.items()}
    _check_finite(deployable, samples, eager)
    noise = {kind: {name: _unmeasured(outputs[name]) for name in OUTPUTS} for kind, outputs in eager.items()}
    reference = {
        kind: {name: array.astype(np.float64) for name, array in outputs.items()} for kind, outputs in eager.items()
    }
    record = GoldenRecord(dict(samples), reference, eager, noise)
    _check_alive(record)
    return record


def _unmeasured(eager: NDArray[Any]) -> Noise:
    nothing = measure_noise(eager.astype(np.float64), [eager])
    return Noise(nothing.floor, nothing.rms, nothing.scale, is_measured=False)


def _check_weights(deployable: nn.Module) -> None:
    parameters = {name for name, _ in deployable.named_parameters()}
    for name, tensor in deployable.state_dict().items():
        # an infinite buffer may be a mask; an infinite weight is a run that diverged
        bad = ~torch.isfinite(tensor) if name in parameters else torch.isnan(tensor)
        if bad.any():
            value = "NaN" if torch.isnan(tensor).any() else "infinite"
            raise NotExportable(
                f"{int(bad.sum())} of {tensor.numel()} values of {name} are {value}: the training has diverged, "
                f"or the file is damaged. Nothing was exported."
            )


def _check_runs(deployable: nn.Module, some: NDArray[np.uint8], num_classes: int) -> None:
    for size in (2, LARGEST_BATCH, 1):
        images = torch.tensor(some[:size])
        try:
            outputs = deployable(images)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise NotExportable(f"the model does not run on a batch of {size} images: {reason_of(error)}") from error
        shapes = [tuple(output.shape) for output in outputs]
        if shapes != [(len(images), num_classes)] * len(OUTPUTS):
            raise NotExportable(
                f"the model gives {shapes[0]} for {len(images)} images, the signature has {num_classes} labels: "
                f"expected ({len(images)}, {num_classes})."
            )


def _check_repeats(deployable: nn.Module, some: NDArray[np.uint8]) -> None:
    one, other = _run(deployable, some), _run(deployable, some)
    if all(np.array_equal(one[name], other[name], equal_nan=True) for name in OUTPUTS):
        return
    image = torch.tensor(some[:8])
    culprit = first_difference(watch(deployable, image), watch(deployable, image), _unequal)
    raise NotExportable(
        f"two runs of the model in eval mode differ, first at {culprit}: something in it is random. Dropout that "
        f"`eval()` does not reach (`F.dropout` without `training=self.training`) does this."
    )


def _check_width(module: nn.Module, some: NDArray[np.uint8], dtype: torch.dtype) -> None:
    width = torch.finfo(dtype).bits
    for operation in watch(module, torch.tensor(some[:2])):
        for output in operation.outputs:
            if torch.finfo(output.dtype).bits < width:
                raise NotExportable(
                    f"{operation} computes in {_name(output.dtype)} while the model runs in {_name(dtype)}: an "
                    f"autocast or a cast inside `forward` is still there. Remove it for export."
                )


def _check_finite(module: nn.Module, samples: Mapping[str, NDArray[np.uint8]], outputs: Mapping[str, ByOutput]) -> None:
    for kind, arrays in outputs.items():
        for name, array in arrays.items():
            wrong = np.asarray(~np.isfinite(array).all(axis=1))
            if wrong.any():
                image = torch.tensor(samples[kind][np.flatnonzero(wrong)[:1]])
                culprit = next(
                    op for op in watch(module, image) if any(not torch.isfinite(o).all() for o in op.outputs)
                )
                raise NotExportable(
                    f"{name} is NaN or infinite for {int(wrong.sum())} of {len(wrong)} {kind} images, first at "
                    f"{culprit}."
                )


def _check_batching(
    double: nn.Module, samples: Mapping[str, NDArray[np.uint8]], reference: Mapping[str, ByOutput]
) -> None:
    for kind, images in samples.items():
        alone = _run(double, images, 1)
        apart = {name: np.abs(alone[name] - reference[kind][name]).max() for name in OUTPUTS}
        if all(apart[name] <= ROUNDING_FLOAT64 * np.abs(reference[kind][name]).max() for name in OUTPUTS):
            continue
        pair = torch.tensor(images[:2])
        culprit = first_difference(watch(double, pair[:1]), watch(double, pair), _first_row_differs)
        raise NotExportable(
            f"the output for an image depends on what else is in its batch, first at {culprit}: batch "
            f"normalisation without running statistics does this. Train with `track_running_stats=True`."
        )


def _check_alive(record: GoldenRecord) -> None:
    kinds = [kind for kind in record.inputs if kind != CONSTANT]
    for name in OUTPUTS:
        outputs = np.concatenate([record.reference[kind][name] for kind in kinds])
        floor = max(record.noise[kind][name].floor for kind in kinds)
        if np.ptp(outputs, axis=0).max() <= floor:
            raise NotExportable(
                f"{name} is the same for all {len(outputs)} images: the output does not depend on the input, so "
                f"nothing can be proven. A last layer of zeros does this; was the model trained?"
            )


def _check_conditioning(record: GoldenRecord) -> None:
    for kind, by_output in record.noise.items():
        for name, noise in by_output.items():
            if kind != CONSTANT and noise.is_ill_conditioned:
                raise NotExportable(
                    f"PyTorch's own float32 error on {kind} images is {noise.floor:.1e}, more than 1e-4 of the "
                    f"largest {name} ({noise.scale:.1e}): the model is ill-conditioned, and no export of it could "
                    f"be told from a wrong one."
                )


def _unequal(one: Tensor, other: Tensor) -> bool:
    return one.shape != other.shape or not torch.equal(one.nan_to_num(), other.nan_to_num())


def _first_row_differs(alone: Tensor, pair: Tensor) -> bool:
    if alone.ndim != pair.ndim or not alone.ndim or alone.shape[0] * 2 != pair.shape[0]:
        return False
    scale = float(pair.abs().max()) or 1.0
    first = pair[: alone.shape[0]]
    return alone.shape != first.shape or float((alone - first).abs().max()) > ROUNDING_FLOAT64 * scale


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
