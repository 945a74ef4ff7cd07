"""Every error that Onward raises on purpose.

    OnwardError                    exit code 2: wrong usage, or something that cannot be used
    ├── BackendError               no backend can run this artifact here
    ├── BundleError                a bundle is missing, changed, or of an unknown format
    │   └── TrustError             a file can run code, and the user has not said that it may be opened
    ├── CheckpointError            a checkpoint is missing, cut short or not written by Onward
    ├── DataError                  a data set, an IDX file or a folder of inputs cannot be used
    ├── FeedError                  an array disagrees with the signature
    ├── ImageError                 one image cannot be read (predict lists and counts these)
    ├── OutputError                a result cannot be written
    ├── ProviderError              an execution provider is missing or did not take the model
    ├── SignatureError             a signature is inconsistent
    ├── UsageError                 an option has a value that cannot be used
    └── Refusal                    exit code 1: the answer is no
        ├── BadInput               an input cannot be read, and the run stops at the first one
        ├── Diverged               the loss of a training is no longer a number
        ├── NoAnswer               a model's outputs are NaN or infinite
        ├── NotExportable          no reference can be made of this model
        └── ParityFailure          an artifact is further from the mathematical model than PyTorch is

A message says what was found, what was expected and what to do, in a sentence or two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = [
    "BackendError",
    "BadInput",
    "BundleError",
    "CheckpointError",
    "DataError",
    "Diverged",
    "FeedError",
    "ImageError",
    "NoAnswer",
    "NotExportable",
    "OnwardError",
    "OutputError",
    "ParityFailure",
    "ProviderError",
    "Refusal",
    "SignatureError",
    "TrustError",
    "UsageError",
    "did_you_mean",
    "install_command",
    "missing_extra",
    "reason_of",
    "some_of",
]


#: Module -> the extra of this distribution that installs it, or for a package of Onward all that it needs.
EXTRAS = {
    **{name: name for name in ("mlflow", "openvino", "tensorboard")},
    "cryptography": "signing",
    **dict.fromkeys(("onward_training", "torch", "torchvision", "sklearn", "safetensors"), "training"),
    **dict.fromkeys(("onward_export", "onnx", "onnx_ir", "onnxscript", "cloudpickle"), "export"),
}


class OnwardError(Exception):
    """The base of all errors: a command prints its message and ends with `exit_code`."""

    exit_code = 2


class BackendError(OnwardError):
    """No backend can run this artifact here."""


class BundleError(OnwardError):
    """A bundle is missing, changed, or of an unknown format."""


class TrustError(BundleError):
    """A file can run code, and the user has not said that it may be opened."""


class CheckpointError(OnwardError):
    """A checkpoint is missing, cut short or not written by Onward."""


class DataError(OnwardError):
    """A data set, an IDX file or a folder of inputs cannot be used."""


class FeedError(OnwardError):
    """An array disagrees with the signature."""


class ImageError(OnwardError):
    """One image cannot be read."""


class OutputError(OnwardError):
    """A result cannot be written."""


class ProviderError(OnwardError):
    """An execution provider is missing or did not take the model."""


class SignatureError(OnwardError):
    """A signature is inconsistent."""


class UsageError(OnwardError):
    """An option has a value that cannot be used."""


class Refusal(OnwardError):
    """The answer is no."""

    exit_code = 1


class BadInput(Refusal):
    """An input cannot be read, and the run stops at the first one."""


class Diverged(Refusal):
    """The loss of a training is no longer a number."""


class NoAnswer(Refusal):
    """A model's outputs are NaN or infinite.

    Args:
        message: The sentence.
        places: Which of the inputs have no answer, from 0.
    """

    def __init__(self, message: str, places: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.places = places


class NotExportable(Refusal):
    """No reference can be made of this model."""


class ParityFailure(Refusal):
    """An artifact is further from the mathematical model than PyTorch is."""


def some_of(items: Sequence[object], most: int) -> str:
    """The first items, for a message: `a, b`, or if there are more `a, b, … (12 in all)`."""
    return ", ".join(map(str, items[:most])) + (f", … ({len(items):,} in all)" if len(items) > most else "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean digits?` for the end of a message; "" if no known name is near."""
    near = get_close_matches(name, list(known), 1)
    return f" Did you mean {near[0]}?" if near else ""


def install_command(module: str) -> str:
    """The command that installs a module's package: an extra of Onward, where one has it."""
    return f"pip install 'onward[{EXTRAS[module]}]'" if module in EXTRAS else f"pip install {module}"


def missing_extra(error: ModuleNotFoundError, *, package: str = "") -> str | None:
    """A sentence that says how to install a missing module; None where no extra of Onward has it.

    Args:
        error: What importing the module raised.
        package: The package of Onward that needs it, whose extra has everything that the package needs.
    """
    if error.name not in EXTRAS:
        return None
    command = install_command(package if package in EXTRAS else error.name)
    return f"this needs {error.name}, which is not installed: {command}"


def reason_of(error: BaseException) -> str:
    """The first line of a library's message, from the innermost cause that has one, without colours."""
    reason = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        lines = (re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in str(cause).splitlines())
        reason = next(filter(None, lines), reason)
        cause = cause.__cause__
    return reason
