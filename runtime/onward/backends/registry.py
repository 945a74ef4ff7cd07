"""Registry: one `BackendSpec` for each way to run an artifact, and the functions that open one.

A new backend is one module with a subclass of `onward.backends.backend.Backend`, and one entry in `BACKENDS`. Every
other place reads the entry: `--backends`, titles, what to install, where it can run, what to import.

Importing this module loads neither numpy nor any library that runs models: a benchmark measures those imports.
"""

from __future__ import annotations

import importlib.util
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from onward.backends.operator_libraries import import_libraries, missing_library
from onward.backends.providers import CPU, CUDA, AnyProvider, ProviderRequest, available_providers, short_name
from onward.bundle import Artifact, Bundle
from onward.bundle.onnx_content import check_onnx
from onward.bundle.trust import SKIPPED, check_may_open
from onward.errors import BackendError, UsageError, install_command
from onward.host.cpu import count_cores
from onward.signature import AnySignature

if TYPE_CHECKING:
    from onward.backends.backend import Backend

__all__ = [
    "BACKENDS",
    "BackendSpec",
    "Threads",
    "backend_for",
    "backends_of",
    "is_installed",
    "open_artifact",
    "open_backend",
    "unavailable_reason",
]

#: Providers that onnxruntime's plain builds list, but that do not run on this machine.
REMOTE = ("AzureExecutionProvider",)
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Threads:
    """How much of the processor one inference may use.

    Args:
        intra_op: The number of threads; None lets the backend take every core that this process may use.
        spin: Whether onnxruntime's threads wait busily for the next inference. That doubles the speed of a small
            model at batch 1, and takes the cores from everything else: from decoding, in `predict`.
    """

    intra_op: int | None = None
    spin: bool = True

    @classmethod
    def of(cls, threads: int | Threads | None = None, spin: bool = True) -> Threads:
        """From the keywords of a function.

        Raises:
            UsageError: The number is no whole number from 1.
        """
        if isinstance(threads, Threads):
            return threads
        if threads is None:
            return cls(None, spin)
        try:
            count = operator.index(threads)
        except TypeError:
            count = 0
        if count < 1:
            raise UsageError(f"threads is {threads!r}, expected a whole number from 1, or None for every core.")
        return cls(count, spin)

    @property
    def count(self) -> int:
        """The number of threads: the given one, or the number of cores that this process may use."""
        return count_cores() if self.intra_op is None else self.intra_op


@dataclass(frozen=True)
class BackendSpec:
    """One way to run an artifact.

    Args:
        name: What users write, e.g. in `onward bench --backends`.
        title: The name in tables and pages.
        format: The format of the artifacts that it runs: `onnx`, `torchscript` or `pt2`.
        library: The library that runs them, as people call it.
        distribution: The package that has to be installed; its import name is the same.
        implementation: `module:class`, a subclass of `Backend`.
        variant: How the class runs the artifact, where it can do so in several ways.
        providers: Full names of the providers that it can run on; None for all that the installed onnxruntime has.
        needs_signature: Whether it can run an artifact only with a signature, because the file itself does not name
            its inputs and outputs.
        late_import: A module that the library imports only when it opens an artifact; a benchmark counts it as part of
            the import. Empty for none.
    """

    name: str
    title: str
    format: str
    library: str
    distribution: str
    implementation: str
    variant: str = ""
    providers: tuple[str, ...] | None = None
    needs_signature: bool = False
    late_import: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether its library is installed; it is not imported."""
        return is_installed(self.distribution)

    @property
    def install_command(self) -> str:
        """The command that installs its library."""
        return install_command(self.distribution)

    @property
    def module(self) -> str:
        """The module that implements it; importing it imports the library."""
        return self.implementation.partition(":")[0]

    def load(self) -> Callable[..., Backend]:
        """Import the class that implements it.

        Raises:
            BackendError: Its library is not installed.
        """
        if not self.is_installed:
            alternative = "" if self.format == "onnx" else f" An ONNX artifact does not need {self.library}."
            raise BackendError(
                f"the backend {self.name!r} needs {self.library}, which is not installed here: "
                f"`{self.install_command}` adds it.{alternative}"
            )
        module, _, name = self.implementation.partition(":")
        found: Callable[..., Backend] = getattr(importlib.import_module(module), name)
        return found

    def runs_on(self, provider: AnyProvider) -> bool:
        """Whether it can run on at least one of the providers that were asked for."""
        return self.providers is None or bool(set(self.providers) & set(ProviderRequest.of(provider).names))

    def check_provider(self, provider: AnyProvider) -> None:
        """Refuse a request for providers that it cannot run on.

        Raises:
            BackendError: It runs on none of them.
            ProviderError: A name is unknown.
        """
        if not self.runs_on(provider):
            names = " or ".join(map(short_name, self.providers or ()))
            raise BackendError(f"{self.library} runs on {names}, not on '{provider}'.")

    def unavailable_reason(self, provider: AnyProvider) -> str:
        """Why it cannot run here on that provider, in a few words; empty where nothing is known to prevent it."""
        if not self.is_installed:
            return f"{self.library} is not installed"
        return "" if self.runs_on(provider) else f"{self.library} does not run on {provider}"

    def providers_here(self) -> tuple[str, ...]:
        """Short names of the providers that it finds on this machine; PyTorch is not imported to find out."""
        if self.providers is None:
            found = [name for name in reversed(available_providers()) if name not in REMOTE]
        else:
            found = [name for name in self.providers if name != CUDA or NVIDIA_DRIVER.exists()]
        return tuple(map(short_name, found))

    def choose_providers(self, requested: Sequence[str]) -> Sequence[str]:
        """Of the requested providers those that it can run on, else the CPU; without a request all that are here.

        Args:
            requested: As `--provider` takes them.
        """
        if not requested:
            return self.providers_here()
        if self.providers == (CPU,):
            return (short_name(CPU),)
        return [text for text in requested if self.runs_on(text)] or (short_name(CPU),)


_onnxruntime = partial(BackendSpec, format="onnx", library="onnxruntime", distribution="onnxruntime")
_openvino = partial(BackendSpec, format="onnx", library="OpenVINO", distribution="openvino", providers=(CPU,))
_torch = partial(BackendSpec, library="PyTorch", distribution="torch", providers=(CPU, CUDA), needs_signature=True)
_pt2 = partial(
    _torch,
    format="pt2",
    implementation="onward.backends.torch_backend:ExportedProgramBackend",
    late_import="torch._dynamo",  # by `torch.export.load`: 900 modules
)

#: Name -> backend, in the order of tables. The first one of a format runs its artifacts unless another is named.
#:
#: - `torch`: the program's operators one after the other, without the checks that only a loaded program has. It is
#:   what eager PyTorch runs, and needs no model code (docs/decisions/0006-pt2-is-eager.md).
#: - `torch-channels-last`: the same, with the channels of weights and activations last in memory.
#: - `torch-compile`: `torch.compile` with frozen weights, anew for each batch size. It needs a C++ compiler.
#: - `torchscript`: model.torchscript, frozen.
#: - `pt2`: the program as `torch.export.load` gives it, with those checks.
#: - `onnxruntime`, `openvino`: model.onnx, in float32.
BACKENDS: Mapping[str, BackendSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            _pt2(name="torch", title="PyTorch", variant="eager"),
            _pt2(name="torch-channels-last", title="channels_last", variant="channels-last"),
            _pt2(name="torch-compile", title="torch.compile", variant="compiled"),
            _torch(
                name="torchscript",
                title="TorchScript",
                format="torchscript",
                implementation="onward.backends.torch_backend:TorchScriptBackend",
            ),
            _pt2(name="pt2", title=".pt2 as loaded", variant="loaded"),
            _onnxruntime(
                name="onnxruntime",
                title="onnxruntime",
                implementation="onward.backends.onnxruntime_backend:SessionBackend",
            ),
            _openvino(
                name="openvino",
                title="OpenVINO",
                implementation="onward.backends.openvino_backend:CompiledModelBackend",
            ),
        )
    }
)


def backends_of(format: str) -> tuple[BackendSpec, ...]:
    """All backends for a format, the preferred one first; none for an unknown format."""
    return tuple(spec for spec in BACKENDS.values() if spec.format == format)


def backend_for(format: str, name: str | None = None) -> BackendSpec:
    """The backend of that name for a format, or the preferred one of the format.

    Raises:
        BackendError: No backend runs the format, or the one of that name runs another format.
    """
    specs = backends_of(format)
    if not specs:
        raise BackendError(f"an artifact is of format {format!r}, which this Onward cannot run.")
    for spec in specs:
        if name in (None, spec.name):
            return spec
    raise BackendError(f"a {format} artifact is run by {', '.join(spec.name for spec in specs)}, not by {name!r}.")


def is_installed(distribution: str) -> bool:
    """Whether a package could be imported; it is not imported."""
    return importlib.util.find_spec(distribution) is not None


def unavailable_reason(bundle: Bundle, artifact: Artifact, provider: AnyProvider) -> str:
    """Why an artifact of a bundle cannot run here, in a few words; empty where nothing is known to prevent it."""
    if library := missing_library(artifact.requires):
        return f"{library} is not installed"
    reason = backend_for(artifact.format).unavailable_reason(provider)
    return reason if reason or bundle.may_open(artifact) else SKIPPED


def open_artifact(
    bundle: Bundle,
    artifact: Artifact,
    *,
    provider: AnyProvider = "cpu",
    threads: Threads | None = None,
    backend: str | None = None,
) -> Backend:
    """Check whether an artifact may be opened and its digest, and open it.

    Args:
        bundle: The bundle that holds the artifact.
        artifact: One of the bundle's.
        provider: For ONNX an execution provider, short or full, or several separated by commas, or a request with
            options. TorchScript and .pt2 run on the first of them that is `cpu` or `cuda`; OpenVINO runs on `cpu`.
        threads: How many threads one inference may use.
        backend: A name in `BACKENDS`; None for the preferred one of the artifact's format.

    Raises:
        BackendError: The backend is unknown or not installed, or the file cannot be opened.
        BundleError: The file was changed, or names a file that the manifest does not name.
        ProviderError: The provider is missing or does not take the model.
        TrustError: The file can run code, and the bundle is not trusted.
    """
    check_may_open(bundle, artifact)
    data = bundle.read(artifact.file)
    beside = {PurePosixPath(file.path).name: bundle.read(file) for file in bundle.beside(artifact)}
    return open_backend(
        artifact.format,
        data,
        bundle.signature,
        provider=provider,
        threads=threads,
        beside=beside,
        backend=backend,
        requires=artifact.requires,
    )


def open_backend(
    format: str,
    data: bytes,
    signature: AnySignature | None,
    *,
    provider: AnyProvider = "cpu",
    threads: Threads | None = None,
    beside: Mapping[str, bytes] | None = None,
    backend: str | None = None,
    requires: Sequence[str] = (),
) -> Backend:
    """Open the bytes of an artifact that may be opened.

    Args:
        format: `onnx`, `torchscript` or `pt2`.
        data: The content of the file.
        signature: What the model takes and gives. None for an ONNX file that Onward did not write: its inputs and
            outputs are then those that the file names.
        provider: As for `open_artifact`.
        threads: How many threads one inference may use.
        beside: File name -> bytes, of the weights that an ONNX file keeps in separate files.
        backend: As for `open_artifact`.
        requires: Libraries that register some of its operators; they are imported first.

    Raises:
        BackendError: The backend is unknown, not installed or needs a signature, a library that is required is not
            installed, or the file cannot be opened.
        BundleError: The file says what no model needs to say, such as a file elsewhere that it would open.
        ProviderError: The provider is missing or does not take the model.
    """
    spec = backend_for(format, backend)
    if signature is None and spec.needs_signature:
        raise BackendError(f"a {format} artifact needs a signature: it does not name its inputs and outputs.")
    implementation = spec.load()
    import_libraries(requires)
    request = ProviderRequest.of(provider)
    spec.check_provider(request)
    arguments: dict[str, Any] = {"signature": signature, "request": request, "threads": threads or Threads()}
    if spec.variant:
        arguments["variant"] = spec.variant
    if format == "onnx":
        arguments["beside"] = beside or {}
        check_onnx(data, arguments["beside"])
    return implementation(data, **arguments)
