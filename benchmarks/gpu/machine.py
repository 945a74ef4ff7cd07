"""Machine: the card, its driver, and the versions of everything that the figures depend on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from benchmarks.gpu.section import Row, Setting
from onward.host.cpu import find_processor

__all__ = ["run"]

QUERY = "name,driver_version,memory.total,clocks.max.sm,power.limit"


def run(setting: Setting) -> Iterator[Row]:
    import onnxruntime as ort
    import torch

    card = _card() if setting.device == "cuda" else {}
    yield {
        **card,
        "device": setting.device,
        "processor": find_processor().model,
        "num_cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "cudnn": _or_none(torch.backends.cudnn.version),
        "onnxruntime": ort.__version__,
        "onnxruntime_cuda": getattr(ort, "cuda_version", "") or _built_for(),
        "onnxruntime_providers": ort.get_available_providers(),
        **{name: _version(name) for name in ("onward", "torchvision", "onnx", "onnxscript", "numpy", "triton")},
    }


def _card() -> Row:
    import torch

    row: Row = {"card": torch.cuda.get_device_name(0), "num_cards": torch.cuda.device_count()}
    try:
        command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader", "--id=0"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return row
    names = ("card", "driver", "memory", "max_clock", "power_limit")
    return row | dict(zip(names, (part.strip() for part in answer.strip().split(",")), strict=False))


def _built_for() -> str:
    try:
        from onnxruntime.capi import build_and_package_info as info
    except ImportError:
        return ""
    return str(getattr(info, "cuda_version", ""))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _or_none(read: Callable[[], object]) -> object:
    try:
        return read()
    except RuntimeError:
        return None
