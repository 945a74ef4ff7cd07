"""Devices: where a network is trained, and the state of the device's random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from onward.errors import UsageError

__all__ = ["forked_devices", "other_device", "random_states", "resolve_device", "set_random_states"]


def resolve_device(device: str) -> str:
    """`auto` becomes the best device that is here: cuda, else mps, else cpu.

    Raises:
        UsageError: The device that was asked for by name is missing.
    """
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if _is_there(name))
    if not _is_there(device):
        names = {"cuda": "CUDA device", "mps": "MPS device (of an Apple chip)"}
        raise UsageError(
            f"--device {device}: PyTorch finds no {names[device]} here. --device auto takes the best one that is here."
        )
    return device


def other_device(device: str) -> str | None:
    """A faster device than the CPU that is here and not used; None if there is none."""
    best = resolve_device("auto")
    return best if device == "cpu" and best != "cpu" else None


def forked_devices(device: str) -> list[int]:
    """The devices whose random numbers `torch.random.fork_rng` restores, beside the CPU's."""
    return [torch.cuda.current_device()] if device == "cuda" else []


def random_states(device: str) -> dict[str, Any]:
    """The state of the device's generator, as entries of a checkpoint's `progress`."""
    states: dict[str, Any] = {"cuda_random_state": torch.cuda.get_rng_state() if device == "cuda" else None}
    return states | ({"mps_random_state": torch.mps.get_rng_state()} if device == "mps" else {})


def set_random_states(progress: Mapping[str, Any]) -> None:
    """Restore what `random_states` gave."""
    if (state := progress.get("cuda_random_state")) is not None:
        torch.cuda.set_rng_state(state)
    if (state := progress.get("mps_random_state")) is not None:
        torch.mps.set_rng_state(state)


def _is_there(device: str) -> bool:
    match device:
        case "cuda":
            return torch.cuda.is_available()
        case "mps":
            return torch.backends.mps.is_available()
        case _:
            return True
