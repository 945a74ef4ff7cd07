"""Environment: a new one with the built wheel and its dependencies, at our pinned versions."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.predict.process import FOREIGN

__all__ = ["Environment", "install"]

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
NOT_OURS = ("pip", "setuptools", "_virtualenv")


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Args:
        folder: Its path.
    """

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def onward(self) -> Path:
        """The command."""
        return self.folder / "bin" / "onward"

    @property
    def size_bytes(self) -> int:
        """Size of all packages, without pip, setuptools and compiled bytecode."""
        packages = next(self.folder.glob("lib/python*/site-packages"))
        files = (path for path in packages.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return sum(path.stat().st_size for path in files if not _top(path, packages).startswith(NOT_OURS))


def install(folder: Path) -> Environment:
    """Build the wheel and install it.

    Raises:
        SystemExit: uv is missing, or a step fails.
    """
    if not UV.exists():
        raise SystemExit("uv is not installed beside this Python: run it by `make bench`, which installs uv")
    _run("build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", folder, ROOT, cwd=folder)
    _run("venv", "--python", sys.executable, folder / "venv", cwd=folder)
    environment = Environment(folder / "venv")
    pinned = (ROOT / "requirements.txt").read_text().replace("\\\n", "").splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(line.split("--hash")[0].strip() for line in pinned if "==" in line))
    wheel = next(folder.glob("*.whl"))
    _run("pip", "install", "--python", environment.python, wheel, "-c", constraints, cwd=folder)
    return environment


def _run(*arguments: object, cwd: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    result = subprocess.run(
        [UV, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise SystemExit(f"uv {arguments[0]} failed: {result.stderr}")


def _top(path: Path, packages: Path) -> str:
    return path.relative_to(packages).parts[0]
