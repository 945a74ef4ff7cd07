"""Photographs: JPEG files, cut out of scikit-learn's two sample pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.section import Row, Setting
from benchmarks.predict.photographs import photographs

__all__ = ["paths", "run"]


def paths(setting: Setting) -> list[Path]:
    """The files; those that exist are reused."""
    return photographs(setting.work, 24 if setting.quick else 4000)


def run(setting: Setting) -> Iterator[Row]:
    began = time.perf_counter()
    files = paths(setting)
    yield {
        "num_files": len(files),
        "size_bytes": sum(file.stat().st_size for file in files),
        "seconds": time.perf_counter() - began,
    }
