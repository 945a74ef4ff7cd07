"""Execution providers, asked for strictly.

onnxruntime only warns when a provider is missing or takes no node, and runs on the CPU instead. Here that is an
error, and what ran where is read back from the session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.errors import ProviderError

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["CPU", "Provider", "available_providers", "check_placement", "placement"]

CPU = "CPUExecutionProvider"
SHORT_NAMES = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
#: Which package brings a provider, where it is not part of plain onnxruntime.
PACKAGES = {
    "CUDAExecutionProvider": "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
}
#: TF32 keeps 10 bits of a float32's 23: off, because parity would not hold.
DEFAULT_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}


@dataclass(frozen=True)
class Provider:
    """One execution provider by its full name, with its options."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Provider:
        """Read a short name (`cpu`, `cuda`, `tensorrt`, `openvino`, `coreml`, `directml`) or a full one.

        Raises:
            ProviderError: onnxruntime does not know it, or this machine does not have it.
        """
        name = SHORT_NAMES.get(text.lower(), text)
        there = available_providers()
        if name in there:
            return cls(name, DEFAULT_OPTIONS.get(name, {}))
        if name not in _known_providers():
            raise ProviderError(
                f"provider {text!r} is unknown; expected one of {', '.join(SHORT_NAMES)}, or a full name such as {CPU}."
            )
        package = PACKAGES.get(name)
        remedy = (
            f" It comes with the package {package}, installed instead of onnxruntime (never beside it)."
            if package
            else ""
        )
        raise ProviderError(f"{name} is not in this onnxruntime; it has {', '.join(there)}.{remedy}")


def available_providers() -> list[str]:
    """Full names of the providers that the installed onnxruntime holds."""
    import onnxruntime as ort

    return list(ort.get_available_providers())


def placement(session: ort.InferenceSession) -> dict[str, Counter[str]]:
    """Provider -> operator types of the nodes that it runs.

    The session must have been made with `session.record_ep_graph_assignment_info`.
    """
    placed: dict[str, Counter[str]] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        nodes = placed.setdefault(subgraph.ep_name, Counter())
        nodes.update(node.op_type for node in subgraph.get_nodes())
    return placed


def check_placement(session: ort.InferenceSession, provider: Provider) -> None:
    """Refuse a session in which the provider that was asked for runs nothing.

    Raises:
        ProviderError: It did not start, or took no node; the message says what ran elsewhere.
    """
    if provider.name not in session.get_providers():
        raise ProviderError(
            f"{provider.name} was asked for and did not start (its libraries or its device are missing); "
            f"onnxruntime would use {', '.join(session.get_providers())} instead."
        )
    placed = placement(session)
    if not placed.get(provider.name):
        left = sum(placed.values(), Counter())
        operators = ", ".join(f"{operator} ×{count}" for operator, count in left.most_common())
        raise ProviderError(
            f"{provider.name} was asked for and took no node of this model; left to others: {operators}."
        )


def _known_providers() -> list[str]:
    import onnxruntime as ort

    return list(ort.get_all_providers())
