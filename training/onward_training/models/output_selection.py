"""Output selection: which of the values that a network returns holds the logits (`--output`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from onward.errors import UsageError

__all__ = ["logits_of"]


def logits_of(output: Any, name: str | None = None) -> Tensor:
    """Find the logits in what a network returns: a tensor, `.logits` or `["logits"]`, or the first of several.

    torchvision's GoogLeNet and Inception return a tuple in training mode, Hugging Face's models an object.

    Args:
        output: What the network returned: a tensor, a dictionary, a tuple or an object such as a dataclass.
        name: Which value to take: a key, an attribute, or the index in a tuple.

    Raises:
        UsageError: There is no such value; or `name` is None and the choice is not clear.
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
            f"the network returns a {type(output).__name__} with {', '.join(names)}; none is called logits. Choose "
            f"one with --output, e.g. `--output {names[0]}`."
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
    names = ", ".join(_names(output)) or "no named tensor"
    raise UsageError(f"the network returns a {type(output).__name__} without a tensor {name!r}; it has {names}.")


def _names(output: Any) -> list[str]:
    """The possible values of `--output`."""
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
