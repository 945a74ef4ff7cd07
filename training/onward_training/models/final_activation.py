"""Logits: however a network ends, `logits` and `probabilities` mean the same in every bundle.

A network that ends in a softmax or a sigmoid is run without that last call, which is recognised by watching a forward
pass; nobody takes the logarithm of a probability that has underflowed. What ends in a log-softmax is a vector of logits
already: its softmax gives the probabilities. One output for two classes becomes the logits (0, z).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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

__all__ = ["ENDS", "Logits", "logits_of", "probe", "with_logits"]

#: What `--end` may say; `auto` watches a forward pass.
ENDS = ("auto", "logits", "log-softmax", "softmax", "sigmoid")
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
#: Rows of probabilities sum to 1 to this.
SUM_TOLERANCE = 1e-4


class Logits(nn.Module):
    """A network without its last softmax or sigmoid.

    Args:
        network: Any, in the caller's hands still: it is not copied.
        call: Which of its softmax and sigmoid calls is left out, counted in the order of a forward pass; None for
            none of them.
        output: Which of the values that the network returns holds the logits, as `logits_of` takes it.
    """

    def __init__(self, network: nn.Module, call: int | None, output: str | None = None) -> None:
        super().__init__()
        self.network = network
        self.call = call
        self.output = output

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the network takes, e.g. `(batch, channels, height, width)` -> logits `(batch, classes)`."""
        if self.call is None:
            values = logits_of(self.network(*inputs), self.output)
        else:
            with _Without(self.call):
                values = logits_of(self.network(*inputs), self.output)
        values = values.reshape(values.shape[0], -1)
        return torch.cat([torch.zeros_like(values), values], dim=1) if values.shape[1] == 1 else values


def logits_of(output: Any, name: str | None = None) -> Tensor:
    """The logits of what a network returns: a tensor, `.logits` or `["logits"]`, or the first of several.

    torchvision's GoogLeNet and Inception return several while they train, Hugging Face's models an object.

    Args:
        output: What was returned: a tensor, a dictionary, a tuple or an object such as a dataclass.
        name: Which of its values; a key, an attribute, or the index in a tuple.

    Raises:
        UsageError: There is no such value, or it is not clear which one is meant.
    """
    if name is not None:
        return _named(output, name)
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and "logits" in output:
        return logits_of(output["logits"])
    if hasattr(output, "logits"):
        return logits_of(output.logits)
    if isinstance(output, Sequence) and output:
        return logits_of(output[0])
    names = _names(output)
    if names:
        raise UsageError(
            f"the network returns a {type(output).__name__} with {', '.join(names)}, none of them called logits: "
            f"`--output {names[0]}` would choose that one."
        )
    raise UsageError(f"the network returns a {type(output).__name__}, expected a tensor of logits (batch, classes).")


def _named(output: Any, name: str) -> Tensor:
    found: Any = None
    if isinstance(output, Mapping):
        found = output.get(name)
    elif isinstance(output, Sequence) and name.isdigit() and int(name) < len(output):
        found = output[int(name)]
    elif name.isidentifier():
        found = getattr(output, name, None)
    if isinstance(found, Tensor):
        return found
    names = ", ".join(_names(output)) or "nothing by name"
    raise UsageError(f"the network's {type(output).__name__} has no tensor {name!r}; it has {names}.")


def _names(output: Any) -> list[str]:
    """What `--output` could be."""
    if isinstance(output, Tensor):
        return []
    if isinstance(output, Mapping):
        named = {str(key): value for key, value in output.items()}
    elif isinstance(output, Sequence) and not hasattr(output, "_fields"):
        named = {str(index): value for index, value in enumerate(output)}
    else:
        attributes: Mapping[str, Any] = getattr(output, "__dict__", {})
        fields = getattr(output, "_fields", getattr(output, "__dataclass_fields__", attributes))
        named = {name: getattr(output, name) for name in fields}
    return [name for name, value in named.items() if isinstance(value, Tensor)]


def probe(signature: AnySignature, count: int) -> list[Tensor]:
    """Inputs to look at a network with: normal noise for `(count, channels, height, width)`, else as drawn."""
    if isinstance(signature, Signature):
        shape = (count, signature.network_channels, signature.height, signature.width)
        return [torch.randn(shape, generator=torch.Generator().manual_seed(0))]
    return [torch.from_numpy(array) for array in arrays_of(draw(signature, count, np.random.default_rng(0)))]


def with_logits(network: nn.Module, signature: AnySignature, end: str = "auto", output: str | None = None) -> nn.Module:
    """The network itself where it is seen to give logits, else a `Logits` around it.

    What does not run on an image of the signature, or gives another number of values, comes back as it is.

    Args:
        network: Takes float32 `(batch, channels, height, width)`, or the tensors of the signature.
        signature: Shape of what goes in, and number of classes.
        end: What the network ends in, of `ENDS`.
        output: Which of the values that it returns, as `logits_of` takes it.

    Raises:
        UsageError: Its outputs are probabilities by other means than PyTorch's softmax or sigmoid, or may be, or
            one sigmoid a class; or it does not end as declared.
    """
    if end not in ENDS:
        raise UsageError(f"a network ends in one of {', '.join(ENDS)}; not in {end!r}.")
    if isinstance(network, Logits):
        return network
    if end == "logits":
        # around it, so that nobody who meets it later supposes anything else
        return Logits(network, None, output)
    calls, values, returns_tensor = _watch(network, signature, output)
    unchanged = network if returns_tensor else Logits(network, None, output)
    if values is None or values.shape[1] not in (signature.num_classes, 1):
        return unchanged
    found = next((kind for kind, result in reversed(calls) if _is_same(result, values)), None)
    if end not in ("auto", found):
        raise UsageError(
            f"the network does not end in PyTorch's {end}, as was declared: it ends in {found or 'logits'}."
        )
    last = max((index for index, (_, result) in enumerate(calls) if _is_same(result, values)), default=None)
    one = values.shape[1] == 1
    if one and signature.num_classes != 2:
        return unchanged
    match found:
        case None:
            _check_no_probabilities(values)
            return Logits(network, None, output) if one else unchanged
        case "log-softmax":
            return unchanged
        case "sigmoid" if not one and end == "auto":
            raise UsageError(
                f"the network ends in a sigmoid for each of {signature.num_classes} classes: that is several labels an "
                f"image. If it is one, `--end sigmoid` takes what goes into the sigmoid as logits; the probabilities "
                f"are then their softmax."
            )
        case _:
            return Logits(network, last, output)


class _Watch(TorchFunctionMode):
    """Notes every softmax and sigmoid of a forward pass, with its result."""

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


class _Without(TorchFunctionMode):
    """Leaves one of the softmax and sigmoid calls out: its input is its result."""

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


def _run(network: nn.Module, signature: AnySignature) -> Any:
    """What the network returns for a few inputs; None where it does not run."""
    some = next(network.parameters(), torch.zeros(()))
    if some.is_meta:
        return None
    inputs = [
        item.to(some.device, some.dtype if item.is_floating_point() else None) for item in probe(signature, NUM_PROBED)
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


def _check_no_probabilities(output: Tensor) -> None:
    between = bool((output >= 0).all() and (output <= 1).all())
    if between and (output.shape[1] == 1 or bool(((output.sum(1) - 1).abs() < SUM_TOLERANCE).all())):
        raise UsageError(
            "the network's outputs look like probabilities, but no softmax or sigmoid of PyTorch makes them, so that "
            "the logits cannot be had. Return the values before that step, or say `--end logits` if they are logits."
        )
