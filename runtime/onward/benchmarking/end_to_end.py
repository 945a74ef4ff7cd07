"""End to end: image files become rows of a CSV, by `predict`, and it is told where the time goes."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onward.benchmarking.model import Subject
from onward.benchmarking.process import CompetitorError, Interrupted, Process
from onward.benchmarking.spec import Competitor, Options
from onward.signature import Signature

__all__ = ["EndToEnd", "time_end_to_end", "write_images"]

#: `predict` runs each format in one way: these.
BACKENDS = ("onnxruntime", "torchscript", "torch")
#: Files: so many bytes of pixels, within these counts.
PIXEL_BYTES, FEWEST, MOST = 32 << 20, 64, 2000
#: A photograph is larger than what the model takes; up to here an image is of the model's size, and a PNG.
SMALL_PX = 64
LARGER = 1.5


@dataclass(frozen=True)
class EndToEnd:
    """What `predict` took for a folder of image files.

    Args:
        competitor: That inferred.
        num_images: Files.
        images_per_s: The median over launches, each in a new process; opening is not counted.
        shares: Stage -> share of the time of all threads, the median over launches.
    """

    competitor: Competitor
    num_images: int
    images_per_s: float
    shares: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """The one JSON form."""
        return self.competitor.to_json() | {
            "num_images": self.num_images,
            "images_per_s": self.images_per_s,
            "shares": dict(self.shares),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> EndToEnd:
        """Read it."""
        competitor = Competitor(**{key: document[key] for key in ("target", "backend", "provider", "threads")})
        return cls(competitor, document["num_images"], document["images_per_s"], document["shares"])


def time_end_to_end(
    subjects: Mapping[str, Subject],
    competitors: Sequence[Competitor],
    options: Options,
    *,
    images: str | None = None,
    on_step: Callable[[str], None] = lambda what: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[EndToEnd]:
    """Have `predict` classify image files, each time in a new process, the competitors in turns.

    Args:
        subjects: Target -> the model; those that take no images are left out.
        competitors: Those that `predict` cannot run are left out.
        options: How many launches.
        images: What `predict` takes; by default files are made.
        on_step: Called after each.
        stop: Whether to end.
    """
    chosen = [item for item in competitors if can_run(item, subjects[item.target])]
    answers: dict[Competitor, list[dict[str, Any]]] = {item: [] for item in chosen}
    with tempfile.TemporaryDirectory() as name:
        folders = {item.target: images or _made(subjects[item.target], Path(name)) for item in chosen}
        for launch in range(options.num_launches):
            for item in chosen if launch % 2 else reversed(chosen):
                process = Process(item.threads, timeout_s=options.timeout_s, stop=stop)
                try:
                    answer = process.ask(
                        "predict", competitor=item.to_json(), images=folders[item.target], out=f"{name}/rows.csv"
                    )
                    answers[item].append(answer)
                except CompetitorError:
                    continue  # its row says why it does not run
                except Interrupted:
                    return _summaries(answers)
                finally:
                    process.close()
                on_step("end to end")
    return _summaries(answers)


def can_run(competitor: Competitor, subject: Subject) -> bool:
    """Whether `predict` can: a bundle that takes images, by the backend that is its format's own."""
    return isinstance(subject.signature, Signature) and competitor.backend in BACKENDS


def write_images(signature: Signature, folder: Path, count: int) -> None:
    """Files such as cameras and data sets have: smooth colours and some grain.

    Args:
        signature: Of the model.
        folder: It is made.
        count: That many: PNG of the model's size where that is small, else JPEG of 1.5 times its size.
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


def _made(subject: Subject, folder: Path) -> str:
    assert isinstance(subject.signature, Signature)
    where = folder / f"{subject.path.name} {len(list(folder.iterdir()))}"
    count = PIXEL_BYTES // int(np.prod(subject.signature.image_shape))
    write_images(subject.signature, where, min(max(count, FEWEST), MOST))
    return str(where)


def _summaries(answers: Mapping[Competitor, Sequence[Mapping[str, Any]]]) -> list[EndToEnd]:
    return [
        EndToEnd(
            competitor,
            found[0]["num_inputs"],
            statistics.median(item["images_per_s"] for item in found),
            {stage: statistics.median(item["shares"][stage] for item in found) for stage in found[0]["shares"]},
        )
        for competitor, found in answers.items()
        if found
    ]
