"""Loader: batches as torchvision and timm load them: a DataLoader with processes, and transforms for each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.predict.network import BenchmarkNetwork
from benchmarks.predict.rows import write_csv
from onward.signature import Signature

__all__ = ["eager_way", "open_loader", "session_way"]

BATCH_SIZE = 32


class ImageFiles(Dataset[Tensor]):
    """Image files, loaded as by torchvision's `pil_loader`.

    Args:
        paths: The files.
        signature: Size, resize rule and normalisation.
    """

    def __init__(self, paths: Sequence[Path], signature: Signature) -> None:
        self.paths = paths
        self.transform: Callable[[Image.Image], Tensor] = transforms.Compose(
            [
                transforms.Resize(signature.preprocess.shorter_side_px),
                transforms.CenterCrop((signature.height, signature.width)),
                transforms.ToTensor(),
                transforms.Normalize(signature.mean, signature.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with self.paths[index].open("rb") as stream:
            return self.transform(Image.open(stream).convert("RGB"))


def open_loader(paths: Sequence[Path], signature: Signature, num_workers: int) -> DataLoader[Tensor]:
    """The loader. Its processes stay from round to round, so that their start is not measured."""
    return DataLoader(ImageFiles(paths, signature), BATCH_SIZE, num_workers=num_workers, persistent_workers=True)


def session_way(
    loader: DataLoader[Tensor],
    session: ort.InferenceSession,
    network: BenchmarkNetwork,
    names: Sequence[Path],
    out: Path,
) -> None:
    """Infer with onnxruntime."""
    name = session.get_inputs()[0].name
    probabilities = (session.run(None, {name: batch.numpy()})[0] for batch in loader)
    write_csv(out, names, probabilities, network.signature.labels)


def eager_way(loader: DataLoader[Tensor], network: BenchmarkNetwork, names: Sequence[Path], out: Path) -> None:
    """Infer with PyTorch."""

    def probabilities() -> Iterator[NDArray[np.float32]]:
        with torch.inference_mode():
            for batch in loader:
                yield network.module(batch).numpy()

    write_csv(out, names, probabilities(), network.signature.labels)
