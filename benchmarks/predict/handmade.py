"""Handmade: the best pipeline that a person can write for one known model on one known machine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from benchmarks.predict.network import BenchmarkNetwork, normalise
from benchmarks.predict.rows import write_csv
from onward.signature import Signature

__all__ = ["handmade_way"]

BATCH_SIZE = 16


def handmade_way(
    paths: Sequence[Path], session: ort.InferenceSession, network: BenchmarkNetwork, num_threads: int, out: Path
) -> None:
    """Threads that each read, decode, resize and infer a batch.

    Args:
        paths: The images.
        session: A session with one thread per inference.
        network: The network.
        num_threads: Number of threads.
        out: The CSV file.
    """
    name = session.get_inputs()[0].name

    def infer(some: Sequence[Path]) -> NDArray[np.float32]:
        pixels = np.stack([pixels_of(path, network.signature) for path in some])
        found: NDArray[np.float32] = session.run(None, {name: normalise(pixels, network.signature)})[0]
        return found

    batches = [paths[start : start + BATCH_SIZE] for start in range(0, len(paths), BATCH_SIZE)]
    with ThreadPoolExecutor(num_threads) as pool:
        write_csv(out, paths, pool.map(infer, batches), network.signature.labels)


def pixels_of(path: Path, signature: Signature) -> NDArray[np.uint8]:
    """Resize and crop in one step, which computes only the pixels of the crop; the crop is torchvision's."""
    image = Image.open(path).convert("RGB")
    scale = (signature.preprocess.shorter_side_px or min(image.size)) / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    left, top = (width - signature.width) // 2, (height - signature.height) // 2
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + signature.width) * across, (top + signature.height) * down)
    return np.asarray(image.resize((signature.width, signature.height), Image.Resampling.BILINEAR, box=box))
