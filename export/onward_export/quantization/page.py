"""Page: fidelity.html, with both regimes side by side: the proof of float32, and the budget of INT8."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from onward.bundle import Bundle
from onward.report import Page

if TYPE_CHECKING:
    from onward_export.quantization.gate import CheckedFile
    from onward_export.quantization.selection import Choice

__all__ = ["FIDELITY_HTML", "write_fidelity_page"]

FIDELITY_HTML = "fidelity.html"


def write_fidelity_page(path: Path, bundle: Bundle, checked: CheckedFile, choice: Choice) -> None:
    """Write the page of a bundle whose last artifact has a lower precision."""
    fidelity, artifact = checked.fidelity, bundle.artifacts[-1]
    parent = bundle.artifact(artifact.parent)
    page = Page(
        f"fidelity of {bundle.provenance.get('architecture', artifact.name)} in {artifact.precision}",
        f"{_sentence(fidelity.describe())} {_of_size(parent.file.size_bytes, artifact.file.size_bytes)}",
        mood="good",
    )
    page.tiles(_tiles(checked))
    page.section(
        "A proof and a budget",
        "Float32 artifacts are as close to the mathematical model as PyTorch itself: their noise ratio is about 1, at "
        "most 3. An artifact of lower precision is far outside of that noise, on purpose. Its budget says how much the "
        "task may lose; that is a measurement on images, and no proof for others.",
    )
    page.table(
        ["artifact", "precision", "verdict by", "noise ratio", "file"],
        [
            [item.name, item.precision, "noise ratio, at most 3" if item.is_float32 else "budget"]
            + [f"{item.noise_ratio:,.2f}" if item.is_float32 else f"{item.noise_ratio:,.0f}"]
            + [f"{item.file.size_bytes / 1e6:,.2f} MB"]
            for item in bundle.artifacts
        ],
    )
    _add_images(page, checked)
    _add_kernels(page, checked)
    _add_choice(page, choice)
    page.write(path)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _of_size(before: int, after: int) -> str:
    return f"Its file has {after / before:.0%} of float32's size."


def _tiles(checked: CheckedFile) -> list[tuple[str, str, str]]:
    fidelity = checked.fidelity
    tiles = [(f"{fidelity.agreement:.2%}", f"same answer as float32, {fidelity.num_images:,} images", "")]
    if fidelity.loss is not None and fidelity.loss_bound is not None:
        tiles += [
            (
                f"{100 * fidelity.loss:+.2f}",
                f"points of accuracy lost, {fidelity.lost} lost and {fidelity.won} won",
                "",
            ),
            (
                f"{100 * fidelity.loss_bound:.2f}",
                f"at most (95 %), of {100 * fidelity.budget.max_loss:g} allowed",
                "good",
            ),
        ]
    return [*tiles, (f"{fidelity.kl:.1e}", "mean KL divergence, nats", "")]


def _add_images(page: Page, checked: CheckedFile) -> None:
    fidelity, budget = checked.fidelity, checked.fidelity.budget
    page.section("On held-out images", "None of these images had a part in any choice.")
    decides = fidelity.num_labelled == 0  # with labels, what is lost is known
    rows = [
        ["same answer as float32", f"{fidelity.agreement:.2%}", f"at least {budget.min_agreement:.1%}" * decides],
        ["other answers within float32's noise", f"{fidelity.num_within_noise:,}", ""],
        ["mean KL divergence, nats", f"{fidelity.kl:.2e}", f"at most {budget.max_kl:g}" * decides],
        ["99th percentile", f"{fidelity.kl_p99:.2e}", ""],
    ]
    if fidelity.accuracy_before is not None and fidelity.accuracy_after is not None:
        rows += [
            ["accuracy in float32", f"{fidelity.accuracy_before:.2%}", ""],
            ["accuracy here", f"{fidelity.accuracy_after:.2%}", ""],
            ["images lost", f"{fidelity.lost:,}", ""],
            ["images won", f"{fidelity.won:,}", ""],
            ["points lost (95 %)", f"{100 * (fidelity.loss_bound or 0):.3f}", f"at most {100 * budget.max_loss:g}"],
            ["rise of the NLL (95 %)", f"{fidelity.nll_bound or 0:.2e}", f"at most {budget.max_nll:g}"],
        ]
    page.table(["", "measured", "budget"], rows)
    if fidelity.worse_classes:
        page.points(
            [
                f"{item.label} loses more than the rest: {item.lost} of {item.num_images:,} lost, {item.won} won."
                for item in fidelity.worse_classes
            ]
        )


def _add_kernels(page: Page, checked: CheckedFile) -> None:
    page.section(
        "Kernels",
        "onnxruntime's outputs on the machine that built the bundle, beside the graph computed in float64. The "
        "difference is divided by the quantisation error: above 2 the kernels would be at fault.",
    )
    page.table(
        ["samples", "output", "difference / quantisation error", "quantisation error (rms)"],
        [[row.kind, row.output, f"{row.ratio:.1e}", f"{row.quantization_error:.2e}"] for row in checked.deviations],
    )


def _add_choice(page: Page, choice: Choice) -> None:
    page.section(
        "Nodes in float32",
        "Chosen on training images that were not used for calibration: as few as keep the divergence small.",
    )
    page.table(
        ["nodes in float32", "mean KL", "agreement"],
        [[str(trial.num_in_float), f"{trial.kl:.2e}", f"{trial.agreement:.1%}"] for trial in choice.trials],
    )
    if choice.in_float:
        page.details(f"{len(choice.in_float)} nodes stay in float32", list(choice.in_float))
