"""Handmade: the best pipeline that somebody writes for one model on one machine, and knows all of it beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from benchmarks.predict.rows import write_csv
from benchmarks.predict.subject import Subject, normalise
from onward.signature import Signature

__all__ = ["handmade_way"]

BATCH_SIZE = 16


def handmade_way(
    paths: Sequence[Path], session: ort.InferenceSession, subject: Subject, num_threads: int, out: Path
) -> None:
    """Threads that each read, decode, resize and infer a batch.

    Args:
        paths: Of the images.
        session: Of one thread.
        subject: The network.
        num_threads: How many do so.
        out: The CSV file.
    """
    name = session.get_inputs()[0].name

    def infer(some: Sequence[Path]) -> NDArray[np.float32]:
        pixels = np.stack([pixels_of(path, subject.signature) for path in some])
        found: NDArray[np.float32] = session.run(None, {name: normalise(pixels, subject.signature)})[0]
        return found

    batches = [paths[start : start + BATCH_SIZE] for start in range(0, len(paths), BATCH_SIZE)]
    with ThreadPoolExecutor(num_threads) as pool:
        write_csv(out, paths, pool.map(infer, batches), subject.signature.labels)


def pixels_of(path: Path, signature: Signature) -> NDArray[np.uint8]:
    """Resized and cropped in one step: only what the crop keeps is computed; the crop is torchvision's."""
    image = Image.open(path).convert("RGB")
    scale = (signature.preprocess.shorter_side_px or min(image.size)) / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    left, top = (width - signature.width) // 2, (height - signature.height) // 2
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + signature.width) * across, (top + signature.height) * down)
    return np.asarray(image.resize((signature.width, signature.height), Image.Resampling.BILINEAR, box=box))
