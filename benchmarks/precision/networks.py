"""Networks: trained here on Fashion-MNIST, exported, and quantised by Onward; kept for the next run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import onward
from onward.bundle import Bundle
from onward.cli.console import remark
from onward.fidelity import Budget
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_training.data import load

__all__ = ["NETWORKS", "PrecisionNetwork"]

SIDE_PX, NUM_TRAIN, NUM_TEST = 64, 12_000, 10_000
#: INT8 artifacts are measured here whether or not they keep the default budget.
ANY_BUDGET = Budget(max_loss=0.5, max_nll=10.0, max_kl=10.0, min_agreement=0.1)


@dataclass(frozen=True)
class PrecisionNetwork:
    """A network of the comparison.

    Args:
        title: In tables.
        model: As in `--model`.
        epochs: Of training.
        is_large: Whether it takes images of 64×64 in three channels; else Fashion-MNIST's own, 28×28 grey.
        in_float: Further artifacts with so many nodes in float32.
    """

    title: str
    model: str
    epochs: int
    is_large: bool = False
    in_float: tuple[int, ...] = ()

    def bundle(self, work: Path) -> Bundle:
        """The float32 bundle; trained and exported where it is not there yet."""
        path = work / self.title
        if not (path / "manifest.json").exists():
            remark(f"{self.title}: training …")
            checkpoint = onward.Checkpoint.load(self._train(work))
            model = ModelToExport.from_checkpoint(checkpoint, data=self.data(work))
            publish(model, path, options=ExportOptions(formats=("onnx",)))
        return Bundle.open(path)

    def quantized(self, work: Path, *, weight_bits: int, num_in_float: int = 0) -> Bundle:
        """The bundle with an INT8 artifact."""
        path = work / f"{self.title}-{weight_bits}-{num_in_float}"
        if not (path / "manifest.json").exists():
            remark(f"{self.title}: quantising, {weight_bits} bits, at most {num_in_float} nodes in float32 …")
            budget = ANY_BUDGET if not num_in_float else Budget(0.5, 10.0, 1e-6, 0.1)  # so that all of them are used
            onward.quantize(
                self.bundle(work),
                self.data(work),
                out=path,
                weight_bits=weight_bits,
                max_in_float=num_in_float,
                budget=budget,
            )
        return Bundle.open(path)

    def data(self, work: Path) -> str:
        """As in `--data`."""
        return f"folder:{_folder(work)}" if self.is_large else "fashion-mnist"

    def _train(self, work: Path) -> Path:
        path = work / f"{self.title}.pt"
        onward.train(
            self.data(work),
            model=self.model,
            arguments={"num_classes": 10} if self.is_large else {},
            image_size=(SIDE_PX, SIDE_PX, 3) if self.is_large else None,
            epochs=self.epochs,
            out=path,
            resume=True,
        )
        return path


NETWORKS = (
    PrecisionNetwork("mlp", "classifier", 10),
    PrecisionNetwork("cnn", "cnn", 4),
    PrecisionNetwork("resnet18", "torchvision:resnet18", 2, is_large=True),
    PrecisionNetwork("mobilenet_v3_small", "torchvision:mobilenet_v3_small", 7, is_large=True, in_float=(16,)),
)


def _folder(work: Path) -> Path:
    """Fashion-MNIST as PNG files of 64×64, in folders by split and class."""
    folder = work / f"fashion-{SIDE_PX}px"
    if not folder.exists():
        dataset = load("fashion-mnist")
        for name, count in (("train", NUM_TRAIN), ("test", NUM_TEST)):
            images, targets = getattr(dataset, name).read(slice(count))
            for index, (image, target) in enumerate(zip(images, targets, strict=True)):
                path = folder / name / dataset.signature.labels[target].replace("/", "-") / f"{index:05}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                larger = Image.fromarray(image[:, :, 0]).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
                larger.save(path, compress_level=1)
    return folder
