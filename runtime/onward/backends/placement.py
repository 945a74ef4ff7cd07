"""Placement: which execution provider runs which nodes of a model, read back from the opened session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onward.backends.providers import CPU, ProviderRequest
from onward.errors import ProviderError

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["MIN_PLACEMENT", "Placement", "check_placement", "read_placement"]

#: The share of nodes that the requested providers must take, where the CPU is not one of them. It is not 1, because
#: CUDA leaves the few nodes that compute shapes to the CPU on purpose. Below a half, most of the work, or of the
#: copying between devices, is elsewhere.
MIN_PLACEMENT = 0.5
MAX_OPERATORS_SHOWN = 5


@dataclass(frozen=True)
class Placement:
    """Which provider runs which nodes.

    Args:
        nodes: Full name of a provider -> operator type -> number of nodes, in the session's order; also providers that
            started and took no node.
        absent: Providers that were asked for and did not start, or are not in the installed onnxruntime.
    """

    nodes: Mapping[str, Counter[str]]
    absent: tuple[str, ...] = ()

    @property
    def num_nodes(self) -> int:
        """Nodes of the whole model, as onnxruntime divided it among the providers, before fusions."""
        return sum(map(self.count, self.nodes))

    def count(self, *providers: str) -> int:
        """How many nodes these providers take."""
        return sum(self.nodes.get(provider, Counter()).total() for provider in providers)

    def share(self, *providers: str) -> float:
        """The share of all nodes, 0 to 1, that these providers take; 1 for a model without nodes."""
        return self.count(*providers) / self.num_nodes if self.num_nodes else 1.0

    @property
    def main(self) -> str:
        """The provider that takes the most nodes; the first of equal ones."""
        return max(self.nodes, key=self.count)

    def to_json(self) -> dict[str, Any]:
        """Counts and shares by provider."""
        return {
            "num_nodes": self.num_nodes,
            "providers": {
                name: {"num_nodes": self.count(name), "share": self.share(name), "operators": dict(nodes.most_common())}
                for name, nodes in self.nodes.items()
            },
            "absent": list(self.absent),
        }

    def describe(self) -> str:
        """One line for people: `CUDA 97 % (118 of 121 nodes); CPU: Gather ×3`."""
        counts = f" ({self.count(self.main)} of {self.num_nodes} nodes)" if self.num_nodes else ""
        # rounded down, so that 100 % means all nodes
        parts = [f"{_short(self.main)} {int(100 * self.share(self.main))} %{counts}"]
        parts += [
            f"{_short(name)}: {_operators(nodes, MAX_OPERATORS_SHOWN)}"
            for name, nodes in self.nodes.items()
            if name != self.main and (nodes or name != CPU)
        ]
        return "; ".join(parts + [f"{_short(name)}: not available" for name in self.absent])


def read_placement(session: ort.InferenceSession, request: ProviderRequest) -> Placement:
    """Read the placement from a session.

    Args:
        session: Opened with `session.record_ep_graph_assignment_info`.
        request: The providers that were asked for.

    Returns:
        The placement; without nodes where onnxruntime is too old to report them and runs the CPU alone.

    Raises:
        ProviderError: onnxruntime is too old to report the placement on other providers.

    Source: onnxruntime, `InferenceSession.get_provider_graph_assignment_info`, which 1.23 lacks.
    """
    started = session.get_providers()
    nodes: dict[str, Counter[str]] = {name: Counter() for name in started}
    absent = tuple(name for name in request.names if name not in started)
    if hasattr(session, "get_provider_graph_assignment_info"):
        for subgraph in session.get_provider_graph_assignment_info():
            nodes.setdefault(subgraph.ep_name, Counter()).update(node.op_type for node in subgraph.get_nodes())
    elif started != [CPU]:
        raise ProviderError(
            f"this onnxruntime cannot report which nodes {started[0]} runs, if any; a newer version can: "
            f"`pip install --upgrade`."
        )
    return Placement(nodes, absent)


def check_placement(placement: Placement, request: ProviderRequest) -> None:
    """Refuse a session in which the requested providers run too few nodes.

    Raises:
        ProviderError: They did not start, took no node, or too few; the message says what runs where.
    """
    strict = not request.allows_cpu
    judged, least = request.names, MIN_PLACEMENT if strict else 0.0
    if request.min_placement is not None:
        judged, least = request.names[:1], request.min_placement
    runs = placement.share(*request.names) > 0 and not set(request.names) <= set(placement.absent)
    if placement.share(*judged) >= least and (runs or not strict):
        return
    raise ProviderError(f"{_shortfall(placement, judged, least)} {_remedy(request, taken=placement.count(*judged))}")


def _shortfall(placement: Placement, judged: tuple[str, ...], least: float) -> str:
    who = " and ".join(judged) + (" was" if len(judged) == 1 else " were") + " asked for"
    left = {name: nodes for name, nodes in placement.nodes.items() if nodes and name not in judged}
    others = "; ".join(f"{_short(name)}: {_operators(nodes)}" for name, nodes in left.items())
    if set(judged) <= set(placement.absent):
        return (
            f"{who} and did not start (a library or the device is missing, or an option has an invalid value); "
            f"onnxruntime would use {', '.join(placement.nodes)} instead."
        )
    if not placement.count(*judged):
        return f"{who} and took no node of this model; the rest runs elsewhere: {others}."
    return (
        f"{who} and took {placement.count(*judged)} of {placement.num_nodes} nodes, "
        f"{placement.share(*judged):.1%}, fewer than {least:.1%}; the rest runs elsewhere: {others}."
    )


def _remedy(request: ProviderRequest, *, taken: int) -> str:
    if request.allows_cpu:
        return "A lower `--min-placement`, or none, lets the other providers run the rest."
    lower = "; `--min-placement` sets the share that must be taken" if taken else ""
    return f"`--provider {request},cpu` lets the CPU run the rest{lower}."


def _operators(nodes: Counter[str], most: int | None = None) -> str:
    shown = ", ".join(f"{operator} ×{count}" for operator, count in nodes.most_common(most))
    return (shown or "none") + (", …" if most is not None and len(nodes) > most else "")


def _short(name: str) -> str:
    return name.removesuffix("ExecutionProvider")
