"""End to end: `predict` on image files, from decoding to rows of a CSV, and where its time goes."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.process import CandidateError, Interrupted, WorkerProcess
from onward.benchmarking.schedule import BenchStep
from onward.benchmarking.spec import BenchOptions
from onward.document import Document
from onward.signature import Signature

__all__ = ["EndToEnd", "can_run", "measure_end_to_end"]

#: `predict` runs each format with one backend: these.
BACKENDS = ("onnxruntime", "torchscript", "torch")
#: Image files with this many bytes of pixels in all, but no fewer and no more files.
PIXEL_BYTES, MIN_FILES, MAX_FILES = 32 << 20, 64, 2000
#: Up to this side, files are PNG of the model's size; above it JPEG of `LARGER` times its size, as photographs are.
SMALL_PX = 64
LARGER = 1.5


@dataclass(frozen=True)
class EndToEnd:
    """What `predict` achieved on a folder of image files.

    Args:
        candidate: The candidate that ran the inferences.
        num_images: Number of files.
        images_per_s: The median over process runs; opening the model is not counted.
        shares: Stage -> share of the time of all threads, the median over process runs.
    """

    candidate: Candidate
    num_images: int
    images_per_s: float
    shares: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The one JSON form."""
        return self.candidate.to_json() | {
            "num_images": self.num_images,
            "images_per_s": self.images_per_s,
            "shares": dict(self.shares),
        }

    @classmethod
    def from_json(cls, document: Document) -> EndToEnd:
        """Read what `to_json` returned."""
        return cls(
            document.read(Candidate),
            document["num_images"].read(int),
            document["images_per_s"].read(float),
            document["shares"].read(Mapping[str, float]),
        )


def measure_end_to_end(
    models: Mapping[str, ModelUnderTest],
    candidates: Sequence[Candidate],
    options: BenchOptions,
    *,
    on_step: Callable[[BenchStep], None] = lambda step: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[EndToEnd]:
    """Run `predict` on image files, each time in a new process, with alternating candidates.

    Args:
        models: Target -> the model; those that do not take images are skipped.
        candidates: Those that `predict` cannot run are skipped.
        options: Has the number of process runs.
        on_step: Called after each process run.
        stop: Whether to end.
    """
    chosen = [item for item in candidates if can_run(item, models[item.target])]
    responses: dict[Candidate, list[dict[str, Any]]] = {item: [] for item in chosen}
    with tempfile.TemporaryDirectory() as name:
        folders = {item.target: _make_images(models[item.target], Path(name)) for item in chosen}
        for number in range(options.num_process_runs):
            for item in chosen if number % 2 else reversed(chosen):
                process = WorkerProcess(item.threads, timeout_s=options.timeout_s, stop=stop)
                try:
                    response = process.request(
                        "predict",
                        candidate=item.to_json(),
                        trust=models[item.target].trust.to_json(),
                        images=folders[item.target],
                        out=f"{name}/rows.csv",
                    )
                    responses[item].append(response)
                except CandidateError:
                    pass  # the candidate's row says why it does not run
                except Interrupted:
                    return _summarise(responses)
                finally:
                    process.close()
                on_step(BenchStep("files"))
    return _summarise(responses)


def can_run(candidate: Candidate, model: ModelUnderTest) -> bool:
    """Whether `predict` can run it: a bundle that takes images, on the default backend of an artifact's format."""
    return isinstance(model.signature, Signature) and candidate.backend in BACKENDS


def _write_images(signature: Signature, folder: Path, count: int) -> None:
    """Write image files that compress like photographs: smooth colours with some grain.

    Args:
        signature: The model's.
        folder: Is created.
        count: Number of files: PNG of the model's size if that is small, else JPEG of 1.5 times its size.
    """
    folder.mkdir()
    generator = np.random.default_rng(0)
    is_small = max(signature.height, signature.width) <= SMALL_PX
    height, width = (round(side * (1 if is_small else LARGER)) for side in signature.image_shape[:2])
    mode = "L" if signature.channels == 1 else "RGB"
    for index in range(count):
        colours = generator.integers(0, 256, (6, 6, signature.channels), np.uint8)
        smooth = Image.fromarray(colours.squeeze(), mode).resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(smooth, np.int16) + generator.integers(-12, 13, (height, width, 1), np.int16).reshape(
            (height, width) if mode == "L" else (height, width, 1)
        )
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8), mode)
        image.save(folder / f"{index:05}.{'png' if is_small else 'jpg'}", quality=90)


def _make_images(model: ModelUnderTest, folder: Path) -> str:
    assert isinstance(model.signature, Signature)
    path = folder / f"{model.path.name} {len(list(folder.iterdir()))}"
    count = PIXEL_BYTES // int(np.prod(model.signature.image_shape))
    _write_images(model.signature, path, min(max(count, MIN_FILES), MAX_FILES))
    return str(path)


def _summarise(responses: Mapping[Candidate, Sequence[Mapping[str, Any]]]) -> list[EndToEnd]:
    return [
        EndToEnd(
            candidate,
            found[0]["num_inputs"],
            statistics.median(item["images_per_s"] for item in found),
            {stage: statistics.median(item["shares"][stage] for item in found) for stage in found[0]["shares"]},
        )
        for candidate, found in responses.items()
        if found
    ]
