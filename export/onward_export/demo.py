"""Demo: train, export, verify, predict and bench on scikit-learn's digits, and a page about it. No download."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from onward.backends import BACKENDS, open_artifact
from onward.benchmarking.bench import bench
from onward.benchmarking.report import Report
from onward.benchmarking.schedule import Schedule
from onward.benchmarking.spec import BenchOptions, BenchSpec, Selection
from onward.bundle import Bundle
from onward.bundle.verification import Verification, verify
from onward.cli.console import print_table, remark, say
from onward.cli.progress import countdown, progress
from onward.prediction import PredictOptions, Summary, open_engine, predict
from onward.sources import open_sources
from onward_export.demo_page import write_demo_page
from onward_export.model_to_export import ModelToExport
from onward_export.publish import publish
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset
from onward_training.data import load as load_data
from onward_training.evaluation import Evaluation
from onward_training.evaluator import checkpoint_runner, evaluate
from onward_training.loop import train
from onward_training.options import TrainOptions
from onward_training.text import print_epoch

__all__ = ["Results", "demo", "print_results"]

EPOCHS = 20
#: One process run, to finish in a minute; `onward bench` has five, and its intervals are more precise.
BENCH = BenchOptions(batch_sizes=(1, 8, 32), num_process_runs=1)
CANDIDATES = ("torch", "torchscript", "onnxruntime")


@dataclass(frozen=True)
class Results:
    """The results of each step."""

    dataset: Dataset
    checkpoint: Checkpoint
    bundle: Bundle
    verifications: list[Verification]
    evaluations: dict[str, Evaluation]
    bench: Report
    summary: Summary
    elapsed_s: float

    def to_json(self) -> dict[str, Any]:
        """The figures of each step."""
        return {
            "bundle": str(self.bundle.path),
            "test": {name: evaluation.to_json() for name, evaluation in self.evaluations.items()},
            "verify": [item.to_json() for item in self.verifications],
            "predict": self.summary.to_json(),
            "bench": self.bench.to_json(),
            "elapsed_s": self.elapsed_s,
        }


def demo(out: Path) -> Results:
    """Train, export, verify, predict and bench; write everything below `out`.

    Args:
        out: A folder; it gets digits.pt, the bundle digits/, images/, predictions.csv and report.html.
    """
    began = time.perf_counter()
    dataset = load_data("digits")
    remark(f"1/5 train: a small CNN on {len(dataset.train):,} handwritten digits of 8×8 pixels")
    with progress("train", EPOCHS * len(dataset.train), unit="images") as advance:
        checkpoint = train(
            dataset,
            TrainOptions(model="cnn", epochs=EPOCHS),
            on_step=lambda step: advance(step.num_images, step.describe),
            on_epoch=lambda epoch: print_epoch(epoch) if epoch.epoch % 5 == 0 else None,
        )
    checkpoint.save(out / "digits.pt")
    remark("2/5 export: ONNX, TorchScript and .pt2, behind the parity gate")
    bundle = publish(
        ModelToExport.from_checkpoint(checkpoint),
        out / "digits",
        on_stage=lambda stage: remark(f"  {stage} …"),
        notify=remark,
    )
    remark("3/5 verify: the finished bundle, as any other machine can do it")
    verifications = verify(bundle)
    remark(f"4/5 predict: {len(dataset.test)} PNG files of the test set")
    summary = _predict(bundle, dataset, out)
    remark("5/5 bench: every backend in its own process, in interleaved rounds")
    results = Results(
        dataset=dataset,
        checkpoint=checkpoint,
        bundle=bundle,
        verifications=verifications,
        evaluations=_evaluate(checkpoint, bundle, dataset),
        bench=_bench(bundle),
        summary=summary,
        elapsed_s=time.perf_counter() - began,
    )
    write_demo_page(out / "report.html", results)
    return results


def _predict(bundle: Bundle, dataset: Dataset, out: Path) -> Summary:
    folder = out / "images"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for index, image in enumerate(dataset.test.read(slice(None))[0]):
        Image.fromarray(image[..., 0]).save(folder / f"{index:04}.png")
    engine = open_engine(bundle)
    source = open_sources([folder], engine.signature)
    return predict(engine, source, out / "predictions.csv", PredictOptions(top_k=3, resume=False))


def _bench(bundle: Bundle) -> Report:
    spec = BenchSpec([str(bundle.path)], Selection(backends=CANDIDATES), with_files=False, trust=bundle.trust)
    schedules: list[Schedule] = []
    with countdown("bench", lambda: schedules[0].left_s if schedules else None) as show:
        return bench(spec, BENCH, on_matrix=lambda matrix, schedule: schedules.append(schedule), on_step=show)


def _evaluate(checkpoint: Checkpoint, bundle: Bundle, dataset: Dataset) -> dict[str, Evaluation]:
    evaluations = {"torch": evaluate(checkpoint_runner(checkpoint), dataset.test)}
    for name in ("torchscript", "onnxruntime"):
        backend = open_artifact(bundle, bundle.preferred(BACKENDS[name].format))
        evaluations[name] = evaluate(backend.run, dataset.test)
    return evaluations


def print_results(results: Results, out: Path) -> None:
    """One table: accuracy, noise ratio and images/s of each backend."""
    ratios = {item.artifact: item.verdict.noise_ratio for item in results.verifications if item.verdict}
    rates = {(row.candidate.backend, row.batch_size): row for row in results.bench.rows}
    rows = []
    for name, evaluation in results.evaluations.items():
        single, many = rates[name, BENCH.batch_sizes[0]], rates[name, BENCH.batch_sizes[-1]]
        rows.append(
            [BACKENDS[name].title, f"{evaluation.accuracy:.2%}"]
            + ["1 (by definition)" if name == "torch" else f"{ratios[BACKENDS[name].format]:.2f}"]
            + [f"{single.images_per_s or 0:,.0f}", f"{many.images_per_s or 0:,.0f}"]
            + ["–" if many.ratio is None else f"{many.ratio.value:.1f}"]
        )
    columns = ["", ">test accuracy", ">noise ratio"]
    print_table(columns + [">images/s, batch 1", f">images/s, batch {BENCH.batch_sizes[-1]}", ">× PyTorch"], rows)
    say(f"done in {results.elapsed_s:.0f} s. Look at {out / 'report.html'}")
    say(f"next: onward predict {out / 'digits'} {out / 'images'} --out predictions.jsonl --top-k 3")
