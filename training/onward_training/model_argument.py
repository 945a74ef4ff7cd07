"""Model argument: what `evaluate` and `export` take: a checkpoint, a weights file, or a network and its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onward.errors import UsageError
from onward.model_file import check_model_file, kind_of
from onward_training.default_weights import check_default, find_default, is_default
from onward_training.model_names import ARCHITECTURES, LIBRARIES, check_model_name

__all__ = ["ModelArgument"]


@dataclass(frozen=True)
class ModelArgument:
    """A file, and the network that its weights belong to.

    Args:
        path: A checkpoint or a weights file; `DEFAULT` for the published one, until `find`.
        model: The network's name; None if the file says it.
    """

    path: Path
    model: str | None

    @classmethod
    def parse(cls, what: str, model: str | None, weights: Path | None) -> ModelArgument:
        """Read the argument and the options `--model` and `--weights`, without importing PyTorch.

        Raises:
            CheckpointError: There is no such file, or it is something else for certain.
            UsageError: The options contradict the argument, or the network is unknown.
        """
        is_model = not Path(what).exists() and (":" in what or what in ARCHITECTURES or weights is not None)
        if is_model:
            check_model_name(what)
        if is_model and weights is None:
            has_default = what.partition(":")[0] in LIBRARIES
            default = ", or --weights DEFAULT for those that are published" if has_default else ""
            raise UsageError(f"{what} names a model: add --weights FILE with its weights{default}.")
        if is_model and model not in (None, what):
            raise UsageError(f"{what} names a model, and --model {model} another one: leave one of them out.")
        if not is_model and weights is not None:
            raise UsageError(f"{what} is a file or folder, and --weights names another one: leave one of them out.")
        path = weights if is_model and weights is not None else Path(what)
        model = what if is_model else model
        if is_default(path):
            check_default(model)
        else:
            check_model_file(path, is_foreign=is_model)
        return cls(path, model)

    @property
    def stem(self) -> Path:
        """Where a bundle of it is written by default: the path of the file without its suffix."""
        if is_default(self.path) and self.model is not None:
            return Path(self.model.rpartition(":")[2])
        return self.path.with_suffix("")

    @property
    def is_foreign(self) -> bool:
        """Whether the file holds weights of somebody's, and is no checkpoint of Onward's."""
        return self.model is not None and (is_default(self.path) or kind_of(self.path) == "weights")

    def find(self, *, download: bool, notify: Callable[[str], None]) -> ModelArgument:
        """The file itself in place of `DEFAULT`, as for `find_default`.

        Raises:
            UsageError: It is not on this machine, or cannot be downloaded.
        """
        if not is_default(self.path) or self.model is None:
            return self
        return ModelArgument(*find_default(self.model, download=download, notify=notify))
