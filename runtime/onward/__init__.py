"""Onward takes a PyTorch classifier from training to any place it has to run.

    import onward

    checkpoint = onward.train("digits", model="cnn", epochs=20)
    bundle = onward.export(checkpoint, "artifacts/digits")
    predictions = onward.load("artifacts/digits")(images)

These names are the whole public face. Importing `onward` loads neither PyTorch nor onnxruntime: a name is imported when
it is first used. `onward.train` and `onward.evaluate` need `pip install 'onward[training]'`, `onward.export` and
`onward.quantize` need `pip install 'onward[export]'`.
"""

from __future__ import annotations

import importlib as _importlib
import os as _os
import sys as _sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onward.api import bench, embed, inspect, keygen, load, predict, sign, verify
    from onward.bundle import Bundle
    from onward.classifier import Classifier
    from onward.cli.app import app
    from onward.errors import OnwardError
    from onward.fidelity import Budget
    from onward.signature import Input, Output, Preprocess, Signature, TensorSignature
    from onward.tasks.classification import Predictions
    from onward_export.api import export, quantize
    from onward_training.api import evaluate, train
    from onward_training.checkpoint import Checkpoint

__all__ = [
    "Budget",
    "Bundle",
    "Checkpoint",
    "Classifier",
    "Input",
    "OnwardError",
    "Output",
    "Predictions",
    "Preprocess",
    "Signature",
    "TensorSignature",
    "__version__",
    "app",
    "bench",
    "embed",
    "evaluate",
    "export",
    "inspect",
    "keygen",
    "load",
    "predict",
    "quantize",
    "sign",
    "train",
    "verify",
]

__version__ = "0.1.0"

# Unless this is set before it is imported, onnxruntime (1.32) sends events to its maker. Somebody's own value stays.
if "onnxruntime" not in _sys.modules:
    _os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

#: Public name -> the module that defines it.
_MODULES = {
    **dict.fromkeys(("bench", "embed", "inspect", "keygen", "load", "predict", "sign", "verify"), "onward.api"),
    "Classifier": "onward.classifier",
    "Predictions": "onward.tasks.classification",
    **dict.fromkeys(("Input", "Output", "Preprocess", "Signature", "TensorSignature"), "onward.signature"),
    "Bundle": "onward.bundle",
    "Budget": "onward.fidelity",
    "OnwardError": "onward.errors",
    "app": "onward.cli.app",
    **dict.fromkeys(("evaluate", "train"), "onward_training.api"),
    "Checkpoint": "onward_training.checkpoint",
    **dict.fromkeys(("export", "quantize"), "onward_export.api"),
}


if not TYPE_CHECKING:  # a type checker would take any name for defined

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'onward' has no attribute {name!r}")
        from onward.errors import missing_extra

        module = _MODULES[name]
        try:
            value = getattr(_importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            sentence = missing_extra(error, package=module.partition(".")[0])
            if sentence is None:
                raise
            raise ImportError(f"onward.{name}: {sentence}", name=error.name) from error
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
