"""Rows: files of predictions as a hand-written script writes them, with Onward's columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

__all__ = ["agreement", "labels_in", "write_csv", "write_parquet"]

HEADER = ["input", "label", "index", "probability"]


def write_csv(
    out: Path, names: Sequence[object], probabilities: Iterable[NDArray[np.float32]], labels: Sequence[str]
) -> None:
    """Write one line per image, batch by batch as they come.

    Args:
        out: The file.
        names: One per image.
        probabilities: Batches, float32 `(batch, classes)`.
        labels: One per class.
    """
    start = 0
    with out.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        for batch in probabilities:
            indices, best = batch.argmax(1).tolist(), batch.max(1).tolist()
            for name, index, probability in zip(names[start : start + len(batch)], indices, best, strict=True):
                writer.writerow([name, labels[index], index, f"{probability:.6f}"])
            start += len(batch)


def write_parquet(
    out: Path, names: Sequence[str], probabilities: Iterable[NDArray[np.float32]], labels: Sequence[str]
) -> None:
    """Write the same columns, typed as Onward does."""
    pieces = [(batch.argmax(1).astype(np.int32), batch.max(1)) for batch in probabilities]
    indices, best = (np.concatenate(column) for column in zip(*pieces, strict=True))
    columns = [
        pa.array(names, pa.string()),
        pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(labels)),
        pa.array(indices),
        pa.array(best),
    ]
    pa.parquet.write_table(pa.table(columns, names=HEADER), out)


def labels_in(path: Path) -> list[str]:
    """The column `label` of a CSV or Parquet file."""
    if path.suffix == ".parquet":
        found: list[str] = pa.parquet.read_table(path, columns=["label"])["label"].to_pylist()
        return found
    with path.open(newline="") as stream:
        return [row["label"] for row in csv.DictReader(stream)]


def agreement(one: Path, other: Path) -> float:
    """The share of rows with the same label in both files."""
    return float(np.mean([a == b for a, b in zip(labels_in(one), labels_in(other), strict=True)]))
