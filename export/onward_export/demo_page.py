"""Demo page: learning curves, confusion matrix, error against the noise floor, latency, some digits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onward.benchmarking.report_view import interval
from onward.benchmarking.row import Row
from onward.parity import MAX_NOISE_RATIO
from onward.report import Page
from onward.report.charts import bars, heatmap, lines
from onward.report.page import UNCERTAIN, Tile, png_data_uri
from onward_export.report import ratio_charts

if TYPE_CHECKING:
    from onward_export.demo import Results

__all__ = ["write_demo_page"]

NUM_CARDS = 12
TOP_K = 3
NAMES = {"torch": "PyTorch", "torchscript": "TorchScript", "onnxruntime": "ONNX"}


def write_demo_page(path: Path, results: Results) -> None:
    """Write the page.

    Args:
        path: The file to write.
        results: The results of the demo.
    """
    reference, onnx = results.evaluations["torch"], results.evaluations["onnxruntime"]
    agreement = float((reference.predicted == onnx.predicted).mean())
    worst = max(item.verdict.noise_ratio for item in results.verifications if item.verdict)
    passed = all(item.passed for item in results.verifications)
    page = Page(
        "Handwritten digits, from training to deployment",
        f"{'Passed' if passed else 'FAILED'}: the exported models are at most {worst:.2f} times as far from the "
        f"mathematical model as PyTorch itself is, and give the same label on {agreement:.1%} of the test images.",
    )
    _tiles(page, results, worst, passed)
    _training(page, results)
    _parity(page, results)
    _speed(page, results)
    _digits(page, results)
    provenance = results.bundle.provenance
    versions = ", ".join(f"{name} {provenance[name]}" for name in ("onward", "torch", "onnx", "onnxruntime"))
    page.footer(f"{versions}. Made in {results.elapsed_s:.0f} s by `onward demo`. This file needs no network.")
    page.write(path)


def _tiles(page: Page, results: Results, worst: float, passed: bool) -> None:
    onnx = results.evaluations["onnxruntime"]
    low, high = onnx.interval_95
    rows = [row for row in results.bench.rows if row.ratio and row.candidate.backend == "onnxruntime"]
    best = max(rows, key=lambda row: (row.is_stable, row.batch_size), default=None)
    page.tiles(
        [
            (f"{onnx.accuracy:.2%}", f"test accuracy of the ONNX file (95 %: {low:.1%} to {high:.1%})", ""),
            (f"{worst:.2f}", f"worst noise ratio; {MAX_NOISE_RATIO:g} is the gate", "good" if passed else "bad"),
            *([_speed_tile(best)] if best else []),
            (f"{results.summary.images_per_s:,.0f}", "PNG files/s, from the folder to the CSV file", ""),
        ]
    )


def _speed_tile(row: Row) -> Tile:
    """A stable ratio at the largest batch size that has one; else an unstable one, which is small and grey."""
    assert row.ratio is not None
    what = f"as many images/s as PyTorch at batch size {row.batch_size} (95 %: {interval(row.ratio)})"
    if row.is_stable:
        return f"{row.ratio.value:.1f}×", what, ""
    return (
        f"about {row.ratio.value:.0f}×",
        f"{what}; not reproducible here; the command bench measures longer",
        UNCERTAIN,
    )


def _training(page: Page, results: Results) -> None:
    history = results.checkpoint.history
    epochs = [epoch.epoch for epoch in history]
    best = results.checkpoint.provenance["best_epoch"]
    page.section("Training", f"The epoch with the best validation accuracy was kept: {best} of {len(history)}.")
    losses = {
        "training": [epoch.train_loss for epoch in history],
        "validation": [epoch.validation_loss for epoch in history],
    }
    accuracy = {"validation": [100 * epoch.validation_accuracy for epoch in history]}
    page.figures(
        [
            (
                "Learning curves",
                lines(losses, x=epochs, x_label="epoch", y_label="cross-entropy", log_y=True)
                + lines(accuracy, x=epochs, x_label="epoch", y_label="accuracy, %"),
            ),
            (
                "Confusion matrix of the ONNX file on the test images",
                heatmap(results.evaluations["onnxruntime"].confusion, results.dataset.signature.labels),
            ),
        ]
    )


def _parity(page: Page, results: Results) -> None:
    page.section(
        "Error against the noise floor",
        "The reference is the network in float64. The largest error of PyTorch's own float32 is 1 here. Measured on "
        "the finished bundle by `onward verify`, which needs PyTorch for TorchScript and .pt2 only.",
    )
    verdicts = [item.verdict for item in results.verifications if item.verdict]
    page.figures(
        [
            (f"{output}: largest error over PyTorch's own, by kind of image", chart)
            for output, chart in ratio_charts(verdicts)
        ]
    )


def _speed(page: Page, results: Results) -> None:
    page.section(
        "Latency of the backends",
        "Each backend runs in its own process, in interleaved rounds, from raw uint8 pixels to probabilities. The "
        "outputs of half of the batches are known and checked. Intervals are 95 % confidence intervals.",
    )
    rows = [row for row in results.bench.rows if row.latency]
    sizes = sorted({row.batch_size for row in rows})
    median = {(row.candidate.backend, row.batch_size): row.latency.median for row in rows if row.latency}
    speed = {(row.candidate.backend, row.batch_size): row.images_per_s or 0.0 for row in rows}
    page.figures(
        [
            (
                f"{what}, by batch size",
                bars(
                    {
                        f"batch {size}": {
                            title: figures[name, size] for name, title in NAMES.items() if (name, size) in figures
                        }
                        for size in sizes
                    },
                    y_label=what,
                    log_y=True,
                ),
            )
            for what, figures in (("median ms", median), ("images/s", speed))
        ]
    )
    page.table(
        ["backend", "batch", "median ms", "p90 ms", "p99 ms", "images/s", "× PyTorch", "95 %"],
        [
            [NAMES[row.candidate.backend], str(row.batch_size), f"{latency.median:.3f}", f"{latency.p90:.3f}"]
            + [f"{latency.p99:.3f}", f"{row.images_per_s:,.0f}"]
            + ([f"{ratio.value:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}"] if ratio else ["–", ""])
            for row in rows
            for latency, ratio in [(row.latency, row.ratio)]
            if latency
        ],
    )


def _digits(page: Page, results: Results) -> None:
    evaluation = results.evaluations["onnxruntime"]
    labels = results.dataset.signature.labels
    confidence = evaluation.probabilities.max(1)
    wrong = evaluation.predicted != evaluation.targets
    order = np.lexsort((confidence, ~wrong))[:NUM_CARDS]  # mistakes first, then the least certain
    page.section(
        "Some digits", f"All {int(wrong.sum())} mistakes first, then the digits of which the network is least certain."
    )
    cards = []
    for index in order:
        top = np.argsort(-evaluation.probabilities[index], kind="stable")[:TOP_K]
        truth = int(evaluation.targets[index])
        cards.append(
            (
                png_data_uri(results.dataset.test.read(slice(index, index + 1))[0][0]),
                f"a handwritten {labels[truth]}",
                [
                    (
                        labels[label] + (" ✓" if label == truth else ""),
                        float(evaluation.probabilities[index, label]),
                        bool(place == 0 and label != truth),
                    )
                    for place, label in enumerate(top)
                ],
                "",
            )
        )
    page.cards(cards)
