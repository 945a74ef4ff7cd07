"""The short commands: `onward verify`, `onward embed`, `onward doctor`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onward.cli.console import (
    AsJson,
    BundlePath,
    ProviderName,
    SignerKey,
    TrustWord,
    print_json,
    print_table,
    say,
    say_next,
)

if TYPE_CHECKING:
    from onward.bundle.verification import Verification

__all__ = ["doctor", "embed", "verify"]


def verify(
    bundle: BundlePath,
    artifact: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of an artifact to verify, repeatable: onnx, onnx-int8, pt2. Default: all that can run."
        ),
    ] = None,
    provider: ProviderName = "cpu",
    trust: TrustWord = False,
    key: SignerKey = None,
    as_json: AsJson = False,
) -> None:
    """Prove again, on this machine, that each artifact is as close to the mathematical model as PyTorch is.

    An artifact of lower precision than float32 must give the outputs that it gave when it was built.

    Examples:
        onward verify artifacts/digits
        onward verify received/ --key key.pub
        onward verify artifacts/digits --provider cuda --json
    """
    from onward.bundle import Bundle
    from onward.bundle.trust import Trust
    from onward.bundle.verification import verify as run

    opened = Bundle.open(bundle, Trust.of(trust, key))
    results = run(opened, artifacts=artifact, provider=provider)
    num_run = sum(result.was_run for result in results)
    passed = num_run > 0 and all(result.passed for result in results)
    if as_json:
        document = {"passed": passed, "signature": opened.signature_state}
        print_json(document | {"artifacts": [result.to_json() for result in results]})
    else:
        _print_verifications(results)
        if opened.signature_state == "holds":
            say(f"The signature holds: {key} made it.")
        elif opened.signature_state == "not checked":
            say("The signature was not checked: --key with the signer's public key checks it.")
        for result in results:
            if result.lower_precision:
                say(result.lower_precision.describe())
        say(_sentence(passed, results))
        if passed:
            say_next(("bench", bundle), ("embed", bundle, "--target", "python"))
    if not passed:
        raise typer.Exit(1)


def _sentence(passed: bool, results: list[Verification]) -> str:
    num_run = sum(result.was_run for result in results)
    if not num_run:
        return "NOT VERIFIED: no artifact was run."
    if not passed:
        return "FAILED"
    num_lower = sum(result.lower_precision is not None for result in results)
    which = ["each artifact", "each artifact that ran"][num_run < len(results)]
    if num_lower:
        which = which.replace("artifact", "float32 artifact")
    close = f", and {which} is as close as PyTorch" if num_run > num_lower else ""
    skipped = f" {len(results) - num_run} did not run." if num_run < len(results) else ""
    return f"passed: every digest is right{close}.{skipped}"


def _print_verifications(results: list[Verification]) -> None:
    """A table of the float32 artifacts, and one of those of lower precision, which are judged by another rule."""
    rows = []
    for result in results:
        if not result.was_run:
            rows.append([result.artifact, f"skipped: {result.skipped}", "", "", "", "", ""])
        elif result.verdict:
            worst, comparisons = result.verdict.worst, result.verdict.comparisons
            close = all(row.assert_close for row in comparisons)
            rows.append(
                [result.artifact, _backend(result), f"{worst.noise_ratio:.2f}", f"{worst.rms_ratio:.2f}"]
                + [f"{max(row.max_delta for row in comparisons):.1e}", "yes" if close else "no"]
                + ["yes" if result.same_bits else "no"]
            )
    if rows:
        columns = ["artifact", "backend", ">noise ratio", ">rms ratio", ">max |Δ| PyTorch", ">assert_close"]
        print_table([*columns, ">builder's bits"], rows)
    lower = [
        [result.artifact, _backend(result), verdict.precision, f"{verdict.deviation_ratio:.2f}"]
        + ["–" if verdict.agreement is None else f"{verdict.agreement:.1%}", "yes" if result.same_bits else "no"]
        for result in results
        if (verdict := result.lower_precision)
    ]
    if lower:
        columns = ["artifact", "backend", "precision", ">deviation / quantisation error", ">builder's answers"]
        print_table([*columns, ">builder's bits"], lower)


def _backend(result: Verification) -> str:
    return " with ".join([result.backend, *result.requires])


def embed(
    bundle: BundlePath,
    target: Annotated[str, typer.Option(help="What to write: python, node, web or triton.")],
    out: Annotated[Path | None, typer.Option(help="The app's folder, new or empty. Default: BUNDLE-TARGET.")] = None,
    title: Annotated[str | None, typer.Option(help="The app's title. Default: the bundle's name.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an app in that folder.")] = False,
    onnxruntime_web: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="For web: the npm package onnxruntime-web, as a folder or .tgz file."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="For web: let npm download onnxruntime-web, once.")
    ] = False,
    artifact: Annotated[
        str | None, typer.Option(help="Name of the ONNX artifact, such as onnx-int8. Default: onnx, in float32.")
    ] = None,
    webgpu: Annotated[bool, typer.Option(help="For web: include what a browser needs to use the GPU, 27 MB.")] = True,
    key: SignerKey = None,
    as_json: AsJson = False,
) -> None:
    """Write a small app around the model: source code to read and change, that verifies itself where it runs.

    Examples:
        onward embed artifacts/digits --target python --out app/
        onward embed artifacts/digits --target web --out site/ --download
    """
    from onward.bundle import Bundle
    from onward.bundle.trust import Trust
    from onward.embedding import BrowserRuntime, EmbedOptions
    from onward.embedding import embed as run

    opened = Bundle.open(bundle, Trust.of(key=key))
    options = EmbedOptions(title, overwrite, BrowserRuntime(onnxruntime_web, download, webgpu), artifact)
    path = opened.path.resolve()
    written = run(opened, target, out or path.with_name(f"{path.name}-{target}"), options)
    if as_json:
        print_json(written.to_json())
        return
    print_table(
        [str(written.path), ">kB"], [[part, f"{size / 1e3:,.1f}"] for part, size in written.sizes_bytes.items() if size]
    )
    for line in (f"cd {written.path}", *written.target.next_steps):
        say(line)


def doctor(as_json: AsJson = False) -> None:
    """Show what this machine can run, and what is missing for the rest."""
    from onward.host.doctor import examine

    machine = examine()
    if as_json:
        print_json(machine.to_json())
        return
    say(f"{machine.system}, Python {machine.python}, {machine.num_cores} cores for this process")
    print_table(
        ["works", "what", "details"],
        [["yes" if item.works else "no", item.what, item.detail] for item in machine.findings],
    )
    say_next(("demo",) if find_spec("onward_export") and find_spec("torch") else ("verify", "BUNDLE"))
