"""Interpreter: how a process of this Python is started, with what Python 3.10 lacks."""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["own_group", "python_command"]


def python_command(program: str, *arguments: str) -> list[str]:
    """`python -c PROGRAM ARGUMENTS` that imports nothing from the working directory."""
    if sys.version_info >= (3, 11):
        return [sys.executable, "-P", "-c", program, *arguments]
    return [sys.executable, "-c", f"import sys; sys.path.remove(''); {program}", *arguments]


def own_group() -> dict[str, Any]:
    """The arguments of `subprocess.Popen` that give a process a group of its own, where the system has groups."""
    if not hasattr(os, "setpgrp"):
        return {}
    return {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
