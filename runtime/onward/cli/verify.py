"""`onward verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.console import print_json, print_table
from onward.cli.options import AsJson, BundlePath, ProviderName

if TYPE_CHECKING:
    from onward.bundle.verification import Verification

__all__ = ["print_verifications", "verify"]


def verify(
    bundle: BundlePath,
    artifact: Annotated[
        list[str] | None, typer.Option(help="Only this one (repeatable): onnx, torchscript, pt2.")
    ] = None,
    provider: ProviderName = "cpu",
    as_json: AsJson = False,
) -> None:
    """Prove again, here, that each artifact is as close to the mathematical model as PyTorch is."""
    from onward.bundle import Bundle
    from onward.bundle.verification import verify as run

    results = run(Bundle.open(bundle), artifacts=artifact, provider=provider)
    passed = all(result.passed for result in results)
    if as_json:
        print_json({"passed": passed, "artifacts": [result.to_json() for result in results]})
    else:
        print_verifications(results)
        print("passed: every digest holds, and each artifact is as close as PyTorch." if passed else "FAILED")
    if not passed:
        raise typer.Exit(1)


def print_verifications(results: list[Verification]) -> None:
    """The table of `verify`."""
    rows = []
    for result in results:
        if result.verdict is None:
            rows.append([result.artifact, f"skipped: {result.skipped}", "", "", "", "", ""])
            continue
        worst = result.verdict.worst
        close = all(row.assert_close for row in result.verdict.comparisons)
        rows.append(
            [result.artifact, result.backend, f"{worst.noise_ratio:.2f}", f"{worst.rms_ratio:.2f}"]
            + [f"{max(row.max_delta for row in result.verdict.comparisons):.1e}", "yes" if close else "no"]
            + ["yes" if result.same_bits else "no"]
        )
    print_table(
        ["artifact", "backend", ">noise ratio", ">rms ratio", ">max |Δ| PyTorch", ">assert_close", ">builder's bits"],
        rows,
    )
