"""Execution providers: which one runs a model. A single provider is strict; `cuda,cpu` allows a fallback.

onnxruntime only warns when a provider is missing or takes no node, and runs on the CPU instead. Here that is an
error, unless a list such as `cuda,cpu` allows it. `onward.backends.placement` says what ran where.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from onward.errors import ProviderError, UsageError

__all__ = [
    "CPU",
    "CUDA",
    "PACKAGES",
    "SHORT_NAMES",
    "TENSORRT",
    "AnyProvider",
    "Provider",
    "ProviderRequest",
    "available_providers",
    "short_name",
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
#: Provider -> the package that has it, where plain onnxruntime does not.
PACKAGES = {
    CUDA: "onnxruntime-gpu",
    TENSORRT: "onnxruntime-gpu",
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
    "QNNExecutionProvider": "onnxruntime-qnn",
    "ROCMExecutionProvider": "onnxruntime-rocm",
    "MIGraphXExecutionProvider": "onnxruntime-migraphx",
}
#: Options that keep float32: parity would not hold with TF32, which keeps 10 bits of a float32's 23, nor with float16
#: or int8. TensorRT has no option for TF32: NVIDIA_TF32_OVERRIDE=0 in the environment turns it off there (onnxruntime
#: issue 26029).
DEFAULT_OPTIONS = {
    CUDA: {"use_tf32": "0"},
    TENSORRT: {"trt_fp16_enable": "False", "trt_int8_enable": "False"},  # TensorRT accepts only True and False
}
#: Providers that number their devices, in the option `device_id`.
WITH_DEVICES = (CUDA, TENSORRT, "DmlExecutionProvider", "ROCMExecutionProvider", "MIGraphXExecutionProvider")


@dataclass(frozen=True)
class Provider:
    """One execution provider: its full name and its options."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Provider:
        """Read a short name (`cpu`, `cuda`, `tensorrt`, `openvino`, `coreml`, `directml`) or a full one.

        Raises:
            ProviderError: onnxruntime does not know it, or the installed onnxruntime does not have it.
        """
        provider = cls.named(text)
        check_available(provider.name)
        return provider

    @classmethod
    def named(cls, text: str) -> Provider:
        """Read a name in the same way, whether the installed onnxruntime has the provider or not.

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
        return short_name(self.name)

    @property
    def device_id(self) -> int:
        """The device in its options; 0 where they name none.

        Raises:
            UsageError: The option is not a number.
        """
        text = self.options.get("device_id", "0")
        if not text.isdecimal():
            raise UsageError(f"the option device_id of {self.name} is {text!r}, expected a number from 0.")
        return int(text)


@dataclass(frozen=True)
class ProviderRequest:
    """The providers that were asked for: one without a fallback, or several, each for the nodes that the earlier leave.

    Args:
        providers: In order; the CPU only at the end, because it takes every node.
        min_placement: The share of the model's nodes, 0 to 1, that the first provider must take. Default: half of them
            without the CPU in the list (`MIN_PLACEMENT` in `onward.backends.placement`), and none with it.

    Raises:
        UsageError: The list or the share makes no sense.
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

        Whether the installed onnxruntime has them is checked when a model is opened, because PyTorch's artifacts do
        not need onnxruntime's providers.

        Args:
            text: The names, separated by commas.
            options: Options of the first provider, with onnxruntime's names: a mapping, or texts `key=value`.
            device_id: The device, from 0, for every provider in the list that numbers its devices.
            min_placement: As above.

        Raises:
            ProviderError: A name is unknown.
            UsageError: An option is malformed, or the first provider has no options or no numbered devices.
        """
        providers = tuple(Provider.named(name) for name in text.split(","))
        first = _with_options(providers[0], _read_options(options))
        request = cls((first, *providers[1:]), min_placement)
        return request if device_id is None else replace(request, providers=_on_device(request.providers, device_id))

    @classmethod
    def of(cls, provider: AnyProvider) -> ProviderRequest:
        """The request itself, or the one that a text or a list of names describes."""
        if isinstance(provider, ProviderRequest):
            return provider
        return cls.parse(provider if isinstance(provider, str) else ",".join(provider))

    @property
    def names(self) -> tuple[str, ...]:
        """Full names, in order."""
        return tuple(provider.name for provider in self.providers)

    @property
    def allows_cpu(self) -> bool:
        """Whether the CPU was asked for, if only as the fallback."""
        return CPU in self.names

    def available(self) -> tuple[Provider, ...]:
        """The providers that the installed onnxruntime has.

        Raises:
            ProviderError: It lacks the last one, which has no fallback.
        """
        check_available(self.names[-1])
        installed = available_providers()
        return tuple(provider for provider in self.providers if provider.name in installed)

    def __str__(self) -> str:
        return ",".join(provider.short_name for provider in self.providers)


AnyProvider = str | Sequence[str] | ProviderRequest


def short_name(name: str) -> str:
    """What people write for a provider's full name: `cuda`; the full name itself where there is no short one."""
    return next((short for short, full in SHORT_NAMES.items() if full == name), name)


def available_providers() -> list[str]:
    """Full names of the providers that the installed onnxruntime has."""
    import onnxruntime as ort

    return list(ort.get_available_providers())


def check_available(name: str) -> None:
    """Refuse a provider that the installed onnxruntime does not have.

    Raises:
        ProviderError: The message names the package that has it.
    """
    installed = available_providers()
    if name in installed:
        return
    package = PACKAGES.get(name)
    remedy = f" The package {package} has it: install it instead of onnxruntime, never beside it." if package else ""
    raise ProviderError(f"{name} is not in this onnxruntime; it has {', '.join(installed)}.{remedy}")


def _with_options(provider: Provider, options: Mapping[str, str]) -> Provider:
    if options and provider.name == CPU:  # onnxruntime would ignore the options
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
    """Put all providers on one device: a fallback from TensorRT to CUDA stays on the same GPU."""
    first = providers[0]
    if device_id < 0:
        raise UsageError(f"--device-id is {device_id}, expected 0 or more.")
    if first.name not in WITH_DEVICES:
        raise UsageError(
            f"--device-id: {first.name} does not number its devices, only {', '.join(WITH_DEVICES)} do. OpenVINO's "
            f"devices have names: `--provider-option device_type=GPU.1`."
        )
    if first.options.get("device_id", str(device_id)) != str(device_id):
        raise UsageError(
            f"--device-id is {device_id}, but --provider-option says device_id={first.options['device_id']}: give one."
        )
    return tuple(
        replace(provider, options={**provider.options, "device_id": str(device_id)})
        if provider.name in WITH_DEVICES
        else provider
        for provider in providers
    )


def _known_providers() -> list[str]:
    import onnxruntime as ort

    return list(ort.get_all_providers())
