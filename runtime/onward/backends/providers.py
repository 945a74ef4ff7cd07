"""Execution providers: which one runs a model, asked for strictly, or with those to fall back to.

onnxruntime only warns when a provider is missing or takes no node, and runs on the CPU instead. Here that is an
error, unless a list such as `cuda,cpu` says that it is wanted. What ran where is in `onward.backends.providers`.

Placement: which provider runs which nodes of a model, read back from the opened session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from onward.errors import ProviderError, UsageError

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = [
    "CPU",
    "CUDA",
    "MIN_PLACEMENT",
    "TENSORRT",
    "AnyProvider",
    "Placement",
    "Provider",
    "ProviderRequest",
    "available_providers",
    "check_placement",
    "read_placement",
]


CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
SHORT_NAMES = {
    "cpu": CPU,
    "cuda": CUDA,
    "tensorrt": TENSORRT,
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
#: Which package brings a provider, where it is not part of plain onnxruntime.
PACKAGES = {
    CUDA: "onnxruntime-gpu",
    TENSORRT: "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
    "QNNExecutionProvider": "onnxruntime-qnn",
    "ROCMExecutionProvider": "onnxruntime-rocm",
    "MIGraphXExecutionProvider": "onnxruntime-migraphx",
}
#: Parity would not hold with TF32, which keeps 10 bits of a float32's 23, nor with float16 or int8. TensorRT has no
#: option for TF32: NVIDIA_TF32_OVERRIDE=0 in the environment turns it off there (onnxruntime issue 26029).
DEFAULT_OPTIONS = {
    CUDA: {"use_tf32": "0"},
    TENSORRT: {"trt_fp16_enable": "False", "trt_int8_enable": "False"},  # it takes True and False only
}
#: Providers that number their devices, in the option `device_id`.
WITH_DEVICES = (CUDA, TENSORRT, "DmlExecutionProvider", "ROCMExecutionProvider", "MIGraphXExecutionProvider")


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
        provider = cls.named(text)
        check_available(provider.name)
        return provider

    @classmethod
    def named(cls, text: str) -> Provider:
        """The same, whether this machine has it or not.

        Raises:
            ProviderError: onnxruntime does not know it.
        """
        name = SHORT_NAMES.get(text.lower(), text)
        if name not in SHORT_NAMES.values() and name not in _known_providers():
            raise ProviderError(
                f"provider {text!r} is unknown; expected one of {', '.join(SHORT_NAMES)}, or a full name such as {CPU}."
            )
        return cls(name, DEFAULT_OPTIONS.get(name, {}))

    @property
    def short_name(self) -> str:
        """What people write: `cuda`; the full name where there is no short one."""
        return next((short for short, name in SHORT_NAMES.items() if name == self.name), self.name)

    @property
    def device_id(self) -> int:
        """The device that its options name; the first where they name none.

        Raises:
            UsageError: It is no number.
        """
        text = self.options.get("device_id", "0")
        if not text.isdecimal():
            raise UsageError(f"the option device_id of {self.name} is {text!r}, expected a number from 0.")
        return int(text)


@dataclass(frozen=True)
class ProviderRequest:
    """What was asked for: one provider, strictly, or several, each taking the nodes that those before it leave.

    Args:
        providers: In order; the CPU only at the end, because it takes whatever it is given.
        min_placement: The share of the model's nodes, 0 to 1, that the first one must take. By default half of them
            without the CPU in the list (`MIN_PLACEMENT` in `onward.backends.providers`), and none with it.

    Raises:
        UsageError: The list or the share cannot be meant.
    """

    providers: tuple[Provider, ...]
    min_placement: float | None = None

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if not self.providers or twice or CPU in self.names[:-1]:
            raise UsageError(
                f"--provider is {str(self)!r}, expected one provider or several different ones with a comma between "
                f"them, the CPU last: cuda,cpu."
            )
        if self.min_placement is not None and not 0 <= self.min_placement <= 1:
            raise UsageError(f"--min-placement is {self.min_placement}, expected a share of the nodes from 0 to 1.")

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        options: Mapping[str, str] | Iterable[str] = (),
        device_id: int | None = None,
        min_placement: float | None = None,
    ) -> ProviderRequest:
        """Read `cuda`, or `cuda,cpu`, each a short name or a full one.

        Whether this machine has them is asked when a model is opened, because PyTorch's artifacts do not need
        onnxruntime's providers.

        Args:
            text: The names.
            options: Of the first provider, in onnxruntime's names: a mapping, or `key=value` each.
            device_id: Which device, from 0, of every provider in the list that numbers them.
            min_placement: As above.

        Raises:
            ProviderError: A name is unknown.
            UsageError: An option is malformed, or the first provider has no options or no devices.
        """
        providers = tuple(Provider.named(name) for name in text.split(","))
        first = _with_options(providers[0], _read_options(options))
        request = cls((first, *providers[1:]), min_placement)
        return request if device_id is None else replace(request, providers=_on_device(request.providers, device_id))

    @classmethod
    def of(cls, provider: AnyProvider) -> ProviderRequest:
        """The request itself, or what a text asks for."""
        return cls.parse(provider) if isinstance(provider, str) else provider

    @property
    def names(self) -> tuple[str, ...]:
        """Full names, in order."""
        return tuple(provider.name for provider in self.providers)

    @property
    def allows_cpu(self) -> bool:
        """Whether the CPU was asked for, be it as what to fall back to."""
        return CPU in self.names

    def there(self) -> tuple[Provider, ...]:
        """Those that the installed onnxruntime has.

        Raises:
            ProviderError: It lacks the last one, which has none to fall back to.
        """
        check_available(self.names[-1])
        there = available_providers()
        return tuple(provider for provider in self.providers if provider.name in there)

    def __str__(self) -> str:
        return ",".join(provider.short_name for provider in self.providers)


AnyProvider = str | ProviderRequest


def available_providers() -> list[str]:
    """Full names of the providers that the installed onnxruntime holds."""
    import onnxruntime as ort

    return list(ort.get_available_providers())


def check_available(name: str) -> None:
    """Refuse a provider that the installed onnxruntime does not hold.

    Raises:
        ProviderError: The message says which package brings it.
    """
    there = available_providers()
    if name in there:
        return
    package = PACKAGES.get(name)
    remedy = (
        f" It comes with the package {package}, installed instead of onnxruntime (never beside it)." if package else ""
    )
    raise ProviderError(f"{name} is not in this onnxruntime; it has {', '.join(there)}.{remedy}")


def _with_options(provider: Provider, options: Mapping[str, str]) -> Provider:
    if options and provider.name == CPU:  # onnxruntime would ignore them
        raise UsageError(f"--provider-option {next(iter(options))}: {CPU} has no options.")
    return replace(provider, options={**provider.options, **options})


def _read_options(options: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    if isinstance(options, Mapping):
        return dict(options)
    read: dict[str, str] = {}
    for text in options:
        key, separator, value = text.partition("=")
        if not key or not separator:
            raise UsageError(f"--provider-option is {text!r}, expected key=value such as use_tf32=1.")
        if key in read:
            raise UsageError(f"--provider-option {key} is given twice: {read[key]!r} and {value!r}.")
        read[key] = value
    return read


def _on_device(providers: tuple[Provider, ...], device_id: int) -> tuple[Provider, ...]:
    """All on one device: a fallback from TensorRT to CUDA stays on the card that was meant."""
    first = providers[0]
    if device_id < 0:
        raise UsageError(f"--device-id is {device_id}, expected 0 or more.")
    if first.name not in WITH_DEVICES:
        raise UsageError(
            f"--device-id: {first.name} does not number its devices; those that do: {', '.join(WITH_DEVICES)}. "
            f"OpenVINO's are named: `--provider-option device_type=GPU.1`."
        )
    if first.options.get("device_id", str(device_id)) != str(device_id):
        raise UsageError(f"--device-id is {device_id} and --provider-option device_id={first.options['device_id']}.")
    return tuple(
        replace(provider, options={**provider.options, "device_id": str(device_id)})
        if provider.name in WITH_DEVICES
        else provider
        for provider in providers
    )


def _known_providers() -> list[str]:
    import onnxruntime as ort

    return list(ort.get_all_providers())


#: What those that were asked for, without the CPU, must take. Not all of it: CUDA leaves to the CPU, on purpose, the
#: few nodes that compute shapes. Less than half, and most of the work, or of the copying to and fro, is elsewhere.
MIN_PLACEMENT = 0.5
MAX_OPERATORS_SHOWN = 5


@dataclass(frozen=True)
class Placement:
    """Which provider runs what.

    Args:
        nodes: Full name of a provider -> operator types of its nodes, and how many of each; those that started and
            took none as well. In the session's order.
        absent: Providers that were asked for and did not start, or are not in this onnxruntime.
    """

    nodes: Mapping[str, Counter[str]]
    absent: tuple[str, ...] = ()

    @property
    def num_nodes(self) -> int:
        """Of the whole model, as onnxruntime divided it among the providers; fusions come later."""
        return sum(map(self.count, self.nodes))

    def count(self, *providers: str) -> int:
        """How many nodes these take."""
        return sum(self.nodes.get(provider, Counter()).total() for provider in providers)

    def share(self, *providers: str) -> float:
        """The same as a share of all, 0 to 1; 1 where there are none, because none was left to others."""
        return self.count(*providers) / self.num_nodes if self.num_nodes else 1.0

    @property
    def main(self) -> str:
        """The provider that takes the most nodes; of equals the first."""
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
        """For people, in one line: `CUDA 97 % (118 of 121 nodes); CPU: Gather ×3`."""
        counts = f" ({self.count(self.main)} of {self.num_nodes} nodes)" if self.num_nodes else ""
        # rounded down: 100 % means all of them
        parts = [f"{_short(self.main)} {int(100 * self.share(self.main))} %{counts}"]
        parts += [
            f"{_short(name)}: {_operators(nodes, MAX_OPERATORS_SHOWN)}"
            for name, nodes in self.nodes.items()
            if name != self.main and (nodes or name != CPU)
        ]
        return "; ".join(parts + [f"{_short(name)}: not available" for name in self.absent])


def read_placement(session: ort.InferenceSession, request: ProviderRequest) -> Placement:
    """What the session says of itself.

    Args:
        session: Made with `session.record_ep_graph_assignment_info`.
        request: What was asked for.

    Returns:
        Where it runs on the CPU alone and onnxruntime is too old to tell, a placement without nodes.

    Raises:
        ProviderError: onnxruntime is too old to tell.

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
            f"this onnxruntime cannot say what {started[0]} runs, and so whether it runs anything: "
            f"a newer one can, `pip install --upgrade`."
        )
    return Placement(nodes, absent)


def check_placement(placement: Placement, request: ProviderRequest) -> None:
    """Refuse a session in which those that were asked for run too little.

    Raises:
        ProviderError: They did not start, took no node, or fewer than they must; the message says what runs where.
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
            f"{who} and did not start (libraries or the device are missing, or an option has a value that is not "
            f"taken); onnxruntime would use {', '.join(placement.nodes)} instead."
        )
    if not placement.count(*judged):
        return f"{who} and took no node of this model; left to others: {others}."
    return (
        f"{who} and took {placement.count(*judged)} of {placement.num_nodes} nodes, "
        f"{placement.share(*judged):.1%}, fewer than {least:.1%}; left to others: {others}."
    )


def _remedy(request: ProviderRequest, *, taken: int) -> str:
    if request.allows_cpu:
        return "A lower `--min-placement`, or none, lets the others run what is left."
    lower = "; `--min-placement` sets how much must be taken" if taken else ""
    return f"`--provider {request},cpu` lets the CPU run what is left{lower}."


def _operators(nodes: Counter[str], most: int | None = None) -> str:
    shown = ", ".join(f"{operator} ×{count}" for operator, count in nodes.most_common(most))
    return (shown or "none") + (", …" if most is not None and len(nodes) > most else "")


def _short(name: str) -> str:
    return name.removesuffix("ExecutionProvider")
