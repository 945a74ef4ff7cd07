"""Sinks: rows of predictions become a CSV, JSON Lines or .npy file. They know no model and no source."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from runtime.errors import UsageError
from runtime.files import written_whole
from runtime.signature import Signature

__all__ = ["STDOUT", "Sink", "open_sink", "rank"]

STDOUT = Path("-")
#: A file name that is no UTF-8 keeps its bytes.
TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}


class Sink(Protocol):
    """Takes batches of rows, in order."""

    def write(self, names: Sequence[str], probabilities: NDArray[np.float32]) -> None:
        """Append one row a name.

        Args:
            names: Of the inputs.
            probabilities: float32 `(batch, classes)`.
        """


@contextmanager
def open_sink(out: Path, signature: Signature, top_k: int) -> Iterator[Sink]:
    """A sink by the name of `out`: .csv, .jsonl or .npy; `-` streams JSON Lines to standard output.

    The file appears under its name when it is whole; an error leaves an earlier one untouched.

    Raises:
        UsageError: The ending is none of these.
        OutputError: The file cannot be written.
    """
    if out == STDOUT:
        yield JsonLinesSink(sys.stdout, signature.labels, top_k)
        return
    match out.suffix.lower():
        case ".csv":
            with written_whole(out) as staged, staged.open("w", newline="", **TEXT) as stream:
                yield CsvSink(stream, signature.labels, top_k)
        case ".jsonl":
            with written_whole(out) as staged, staged.open("w", newline="", **TEXT) as stream:
                yield JsonLinesSink(stream, signature.labels, top_k)
        case ".npy":
            with written_whole(out) as staged:
                sink = NpySink(signature.num_classes)
                yield sink
                with staged.open("wb") as binary:
                    np.save(binary, sink.join(), allow_pickle=False)
        case other:
            raise UsageError(f"--out ends in {other or 'nothing'!r}, expected .csv, .jsonl or .npy, or `-`.")


def rank(probabilities: NDArray[np.float32], top_k: int) -> NDArray[np.integer]:
    """Class indices of the `top_k` largest probabilities, largest first, ties by index: `(batch, top_k)`."""
    if top_k == 1:
        best: NDArray[np.integer] = np.argmax(probabilities, 1, keepdims=True)
        return best
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]


class CsvSink:
    """Rows of `input,label,index,probability`, then `label_2,index_2,probability_2` and so on to the k-th."""

    def __init__(self, stream: TextIO, labels: Sequence[str], top_k: int) -> None:
        self.stream, self.top_k = stream, top_k
        self.writer = csv.writer(stream, lineterminator="\n")
        # the csv module quotes a lone carriage return only where everything is quoted
        self.cautious = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self.is_odd = any("\r" in label for label in labels)
        self.labels = np.array(labels, object)
        columns = [("label", "index", "probability")] + [
            (f"label_{place}", f"index_{place}", f"probability_{place}") for place in range(2, top_k + 1)
        ]
        self.writer.writerow(["input", *(name for group in columns for name in group)])

    def write(self, names: Sequence[str], probabilities: NDArray[np.float32]) -> None:
        """Append one row a name."""
        ranked = rank(probabilities, self.top_k)
        chosen = np.take_along_axis(probabilities, ranked, 1)
        columns: list[Sequence[object]] = [names]
        for place in range(self.top_k):
            indices = ranked[:, place]
            columns += [self.labels[indices].tolist(), indices.tolist(), _decimals(chosen[:, place])]
        rows = zip(*columns, strict=True)
        if not self.is_odd and "\r" not in "".join(names):
            self.writer.writerows(rows)
            return
        for row in rows:
            is_odd = any("\r" in field for field in row if isinstance(field, str))
            (self.cautious if is_odd else self.writer).writerow(row)


class JsonLinesSink:
    """Rows of `{"input", "label", "index", "probability", "top": [{"label", "index", "probability"}]}`."""

    def __init__(self, stream: TextIO, labels: Sequence[str], top_k: int) -> None:
        self.stream, self.labels, self.top_k = stream, labels, top_k

    def write(self, names: Sequence[str], probabilities: NDArray[np.float32]) -> None:
        """Append one line a name."""
        ranked = rank(probabilities, self.top_k)
        chosen = np.take_along_axis(probabilities, ranked, 1)
        for name, indices, values in zip(names, ranked.tolist(), chosen.tolist(), strict=True):
            top = [
                {"label": self.labels[index], "index": index, "probability": round(value, 6)}
                for index, value in zip(indices, values, strict=True)
            ]
            row = {"input": name} | top[0] | ({"top": top} if self.top_k > 1 else {})
            self.stream.write(json.dumps(row, ensure_ascii=False) + "\n")


class NpySink:
    """One float32 array of probabilities, `(images, classes)`, a row for every image that could be read."""

    def __init__(self, num_classes: int) -> None:
        self.parts: list[NDArray[np.float32]] = [np.empty((0, num_classes), np.float32)]

    def write(self, names: Sequence[str], probabilities: NDArray[np.float32]) -> None:
        """Keep the rows; the names are not part of this format."""
        self.parts.append(probabilities)

    def join(self) -> NDArray[np.float32]:
        """All rows."""
        return np.concatenate(self.parts)


def _decimals(values: NDArray[np.float32]) -> list[str]:
    return [f"{value:.6f}" for value in values.tolist()]
