"""Final activation: any network becomes one that returns logits, whatever it ends in (`--final-activation`).

A forward pass is watched to find a final softmax or sigmoid. The network then runs without that call: the logarithm of
its output would be infinite where a probability underflowed. A network that ends in a log-softmax already returns
logits: their softmax is the probabilities. A single output for two classes becomes the logits (0, z).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from onward.errors import UsageError
from onward.feed import arrays_of, draw
from onward.signature import AnySignature, Signature
from onward_training.models.output_selection import logits_of
from onward_training.options import FINAL_ACTIVATIONS

__all__ = ["LogitsNetwork", "as_logits_network", "probe_inputs"]

CALLS: Mapping[Callable[..., Any], str] = {
    F.softmax: "softmax",
    torch.softmax: "softmax",
    Tensor.softmax: "softmax",
    F.log_softmax: "log-softmax",
    torch.log_softmax: "log-softmax",
    Tensor.log_softmax: "log-softmax",
    F.sigmoid: "sigmoid",
    torch.sigmoid: "sigmoid",
    torch.special.expit: "sigmoid",
    Tensor.sigmoid: "sigmoid",
}
NUM_PROBED = 4
#: How far the sum of a row of probabilities may be from 1.
SUM_TOLERANCE = 1e-4


class LogitsNetwork(nn.Module):
    """A network without its final softmax or sigmoid.

    Args:
        network: Any network; it is wrapped, not copied.
        skipped_call: Index of the softmax or sigmoid call to skip, in the order of a forward pass; None skips none.
        output: Which of the returned values holds the logits, as `logits_of` takes it.
    """

    def __init__(self, network: nn.Module, skipped_call: int | None, output: str | None = None) -> None:
        super().__init__()
        self.network = network
        self.skipped_call = skipped_call
        self.output = output

    def forward(self, *inputs: Tensor) -> Tensor:
        """The network's inputs, e.g. `(batch, channels, height, width)` -> logits `(batch, classes)`."""
        if self.skipped_call is None:
            values = logits_of(self.network(*inputs), self.output)
        else:
            with _SkipCall(self.skipped_call):
                values = logits_of(self.network(*inputs), self.output)
        values = values.reshape(values.shape[0], -1)
        return torch.cat([torch.zeros_like(values), values], dim=1) if values.shape[1] == 1 else values


def probe_inputs(signature: AnySignature, count: int) -> list[Tensor]:
    """Inputs for a trial run: normal noise `(count, channels, height, width)` for images, else random tensors."""
    if isinstance(signature, Signature):
        shape = (count, signature.network_channels, signature.height, signature.width)
        return [torch.randn(shape, generator=torch.Generator().manual_seed(0))]
    return [torch.from_numpy(array) for array in arrays_of(draw(signature, count, np.random.default_rng(0)))]


def as_logits_network(
    network: nn.Module, signature: AnySignature, final_activation: str = "auto", output: str | None = None
) -> nn.Module:
    """Return the network itself if it returns logits, else a `LogitsNetwork` around it.

    A network that does not run on inputs of the signature, or returns another number of values, is returned unchanged.

    Args:
        network: Takes float32 `(batch, channels, height, width)`, or the tensors of the signature.
        signature: Gives the shape of the inputs and the number of classes.
        final_activation: One of `FINAL_ACTIVATIONS`.
        output: Which of the returned values holds the logits, as `logits_of` takes it.

    Raises:
        UsageError: The outputs are or may be probabilities, but not from PyTorch's softmax or sigmoid; or there is
            one sigmoid a class; or the network ends in another activation than `final_activation`.
    """
    if final_activation not in FINAL_ACTIVATIONS:
        raise UsageError(
            f"final activation {final_activation!r} is unknown, expected one of {', '.join(FINAL_ACTIVATIONS)}."
        )
    if isinstance(network, LogitsNetwork):
        return network
    if final_activation == "logits":
        # wrapped even so: a later call with "auto" must not decide otherwise
        return LogitsNetwork(network, None, output)
    calls, values, returns_tensor = _watch(network, signature, output)
    unchanged = network if returns_tensor else LogitsNetwork(network, None, output)
    if values is None or values.shape[1] not in (signature.num_classes, 1):
        return unchanged
    found = next((kind for kind, result in reversed(calls) if _is_same(result, values)), None)
    if final_activation not in ("auto", found):
        raise UsageError(
            f"the network does not end in PyTorch's {final_activation}, as --final-activation says: it ends in "
            f"{found or 'logits'}."
        )
    last = max((index for index, (_, result) in enumerate(calls) if _is_same(result, values)), default=None)
    is_single = values.shape[1] == 1
    if is_single and signature.num_classes != 2:
        return unchanged
    match found:
        case None:
            _check_no_probabilities(values, _outputs_far_away(network, signature, output) if is_single else None)
            return LogitsNetwork(network, None, output) if is_single else unchanged
        case "log-softmax":
            return unchanged
        case "sigmoid" if not is_single and final_activation == "auto":
            raise UsageError(
                f"the network ends in a sigmoid for each of {signature.num_classes} classes, so an image may have "
                f"several labels. If each image has one label, `--final-activation sigmoid` takes the inputs of the "
                f"sigmoid as logits; the probabilities are then their softmax."
            )
        case _:
            return LogitsNetwork(network, last, output)


class _Watch(TorchFunctionMode):
    """Records every softmax and sigmoid of a forward pass, with its result."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Tensor]] = []

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function in CALLS:
            self.calls.append((CALLS[function], result))
        return result


class _SkipCall(TorchFunctionMode):
    """Skips one of the softmax and sigmoid calls: it returns its input."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.remaining = call

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in CALLS:
            self.remaining -= 1
            if self.remaining == -1:
                return args[0] if args else (kwargs or {})["input"]
        return function(*args, **(kwargs or {}))


def _watch(
    network: nn.Module, signature: AnySignature, name: str | None
) -> tuple[list[tuple[str, Tensor]], Tensor | None, bool]:
    with _Watch() as watch:
        returned = _run(network, signature)
    try:
        output = logits_of(returned, name)
    except UsageError:
        if returned is not None:
            raise
        return [], None, True
    fits = output.ndim in (1, 2) and len(output) == NUM_PROBED
    values = output.reshape(NUM_PROBED, -1) if fits else None
    return watch.calls, values, isinstance(returned, Tensor)


def _run(network: nn.Module, signature: AnySignature, scale: float = 1.0) -> Any:
    """What the network returns for a few inputs; None if it does not run."""
    some = next(network.parameters(), torch.zeros(()))
    if some.is_meta:
        return None
    inputs = [
        (item * scale).to(some.device, some.dtype) if item.is_floating_point() else item.to(some.device)
        for item in probe_inputs(signature, NUM_PROBED)
    ]
    with _in_eval_mode(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            return network(*inputs)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError):
            return None


@contextmanager
def _in_eval_mode(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _is_same(result: Any, output: Tensor) -> bool:
    return (
        isinstance(result, Tensor)
        and result.numel() == output.numel()
        and result.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    )


def _outputs_far_away(network: nn.Module, signature: AnySignature, name: str | None) -> Tensor | None:
    """The outputs for inputs of a thousand times the size: a probability stays one, and hardly any logit does."""
    returned = _run(network, signature, scale=1e3)
    return None if returned is None else logits_of(returned, name)


def _check_no_probabilities(output: Tensor, far_away: Tensor | None) -> None:
    if far_away is not None and bool(((far_away < 0) | (far_away > 1)).any()):
        return
    between = bool((output >= 0).all() and (output <= 1).all())
    if between and (output.shape[1] == 1 or bool(((output.sum(1) - 1).abs() < SUM_TOLERANCE).all())):
        raise UsageError(
            "the network's outputs look like probabilities, but they do not come from PyTorch's softmax or sigmoid, so "
            "the logits are unknown. Return the values before that step, or pass `--final-activation logits` if they "
            "are logits."
        )
