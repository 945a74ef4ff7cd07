"""Golden record: inputs with their expected outputs, so that parity can be proven again without PyTorch.

It travels in the bundle as `golden.npz` (inputs, reference, PyTorch's outputs and noise) and
`golden/<artifact>.npz` (what each artifact gave on the machine that built it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import BundleError, DataError, FeedError
from onward.feed import Feed, check_feed, num_samples, take
from onward.npz import read_arrays, write_arrays
from onward.parity import Noise, Outputs, Replay, Run, Verdict, judge_replay, replay
from onward.tensors import describe_shape

if TYPE_CHECKING:
    from onward.signature import AnySignature
    from onward.tasks import Task

__all__ = ["GoldenRecord", "load_outputs", "save_outputs"]

ByKind = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class GoldenRecord:
    """Inputs by kind, and by kind and output name what the model makes of them.

    Args:
        inputs: Kind -> samples, e.g. uint8 `(samples, height, width, channels)`; by input name where there are several.
        reference: Kind -> output -> float64 `(samples, *dims)`: the model computed in float64.
        eager: Kind -> output -> float32 `(samples, *dims)`: PyTorch on the building machine.
        noise: Kind -> output -> PyTorch's error against the reference.
    """

    inputs: Mapping[str, Feed]
    reference: Mapping[str, Mapping[str, NDArray[np.float64]]]
    eager: Mapping[str, Mapping[str, NDArray[np.float32]]]
    noise: Mapping[str, Mapping[str, Noise]]

    def judge(self, artifact: str, run: Run, task: Task | None = None) -> Verdict:
        """Replay the record through a candidate, in batches of several sizes; the task tells whether they agree."""
        return self.judge_replay(artifact, replay(run, self.inputs), task)

    def judge_replay(self, artifact: str, replayed: Replay, task: Task | None = None) -> Verdict:
        """Compare what `onward.parity.replay` made of these inputs."""
        return judge_replay(artifact, replayed, self.reference, self.eager, self.noise, task)

    def check(self, signature: AnySignature) -> None:
        """Compare names, dtypes and shapes with the signature.

        Raises:
            BundleError: They disagree.
        """
        for kind, feed in self.inputs.items():
            try:
                count = len(next(iter(check_feed(feed, signature).values())))
            except FeedError as error:
                raise BundleError(f"golden.npz: input/{kind}: {error}") from error
            if not count:
                raise BundleError(f"golden.npz: input/{kind} is empty, expected at least one sample.")
            for table, outputs in (("reference", self.reference[kind]), ("eager", self.eager[kind])):
                _check_outputs(f"golden.npz: {table}/{kind}", outputs, signature, count)
            if set(self.noise[kind]) != set(signature.output_names):
                raise BundleError(f"golden.npz: noise/{kind} has {sorted(self.noise[kind])}, expected each output.")

    def check_outputs(self, artifact: str, recorded: Mapping[str, Outputs], signature: AnySignature) -> None:
        """Compare what `load_outputs` read with the signature, and with the samples of this record.

        Args:
            artifact: Whose file it was: `onnx` for `golden/onnx.npz`.
            recorded: What was read.
            signature: The bundle's.

        Raises:
            BundleError: They disagree.
        """
        for kind, outputs in recorded.items():
            if kind not in self.inputs:
                raise BundleError(f"golden/{artifact}.npz has samples {kind!r}, expected those of golden.npz.")
            _check_outputs(f"golden/{artifact}.npz: {kind}", outputs, signature, num_samples(self.inputs[kind]))

    def select(self, counts: Mapping[str, int]) -> GoldenRecord:
        """The first samples of the kinds named in `counts`; other kinds are left out.

        The noise stays that of all samples: it belongs to the model, not to the few that travel.
        """
        counts = {kind: count for kind, count in counts.items() if count > 0 and kind in self.inputs}
        return GoldenRecord(
            inputs={kind: take(self.inputs[kind], slice(count)) for kind, count in counts.items()},
            reference={k: {o: a[:n] for o, a in self.reference[k].items()} for k, n in counts.items()},
            eager={k: {o: a[:n] for o, a in self.eager[k].items()} for k, n in counts.items()},
            noise={kind: self.noise[kind] for kind in counts},
        )

    def save(self, path: Path) -> None:
        """Write an .npz; the same record gives the same bytes."""
        arrays: dict[str, NDArray[Any]] = {}
        for kind, feed in self.inputs.items():
            if isinstance(feed, Mapping):
                arrays |= {f"input/{kind}/{name}": array for name, array in feed.items()}
            else:
                arrays[f"input/{kind}"] = feed
            for output, expected in self.reference[kind].items():
                noise = self.noise[kind][output]
                arrays[f"reference/{kind}/{output}"] = expected
                arrays[f"eager/{kind}/{output}"] = self.eager[kind][output]
                arrays[f"noise/{kind}/{output}"] = np.array(
                    [noise.floor, noise.rms, noise.scale, noise.is_measured], np.float64
                )
        write_arrays(path, arrays)

    @classmethod
    def load(cls, data: bytes) -> GoldenRecord:
        """Read what `save` wrote.

        Raises:
            BundleError: The data is no golden record.
        """
        inputs: dict[str, Any] = {}
        tables: dict[str, ByKind] = {"reference": {}, "eager": {}, "noise": {}}
        for key, array in _members(data):
            table, _, rest = key.partition("/")
            kind, _, output = rest.partition("/")
            if table == "input" and output:
                inputs.setdefault(kind, {})[output] = array
            elif table == "input":
                inputs[kind] = array
            elif table in tables and output:
                value = _noise(array) if table == "noise" else array
                tables[table].setdefault(kind, {})[output] = value
        if not inputs or any(set(table) != set(inputs) for table in tables.values()):
            raise BundleError("golden.npz holds no complete golden record.")
        return cls(inputs, tables["reference"], tables["eager"], tables["noise"])


def save_outputs(path: Path, outputs: Mapping[str, Outputs]) -> None:
    """Write what one artifact gave, kind -> output -> `(samples, *dims)` of any float dtype, as .npz."""
    flat = {f"{kind}/{name}": array for kind, arrays in outputs.items() for name, array in arrays.items()}
    write_arrays(path, flat)


def load_outputs(data: bytes) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Read what `save_outputs` wrote."""
    outputs: dict[str, dict[str, NDArray[np.float32]]] = {}
    for key, array in _members(data):
        kind, _, name = key.partition("/")
        outputs.setdefault(kind, {})[name] = array
    return outputs


def _check_outputs(where: str, outputs: Mapping[str, NDArray[Any]], signature: AnySignature, count: int) -> None:
    if set(outputs) != set(signature.output_names):
        raise BundleError(f"{where} has the outputs {sorted(outputs)}, expected {sorted(signature.output_names)}.")
    for output in signature.outputs:
        array, expected = outputs[output.name], (count, *signature.sizes(output))
        fits = array.ndim == len(expected) and all(
            size in (None, found) for size, found in zip(expected, array.shape, strict=True)
        )
        if not fits or array.dtype.kind not in "fiub":
            raise BundleError(
                f"{where}/{output.name} is {array.dtype} {array.shape}, expected numbers {describe_shape(output.dims)} "
                f"of {count} samples."
            )


def _noise(array: NDArray[np.float64]) -> Noise:
    if array.shape != (4,) or array.dtype != np.float64:
        raise BundleError(f"a noise of the golden record has shape {array.shape} and dtype {array.dtype}.")
    floor, rms, scale, is_measured = array.tolist()
    if not (0 < floor < math.inf and 0 < rms < math.inf and 0 <= scale < math.inf):
        raise BundleError(f"a noise of the golden record is {array.tolist()[:3]}, expected finite numbers above 0.")
    return Noise(floor, rms, scale, bool(is_measured))


def _members(data: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    try:
        yield from read_arrays(data, "the golden record")
    except DataError as error:
        raise BundleError(f"{error} Export the model again, or copy the bundle again from its source.") from error
