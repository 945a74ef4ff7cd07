"""`onward embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onward.cli.console import print_json, print_table
from onward.cli.options import AsJson, BundlePath

__all__ = ["embed"]


def embed(
    bundle: BundlePath,
    target: Annotated[str, typer.Option(help="python, node, web, or triton.")],
    out: Annotated[Path | None, typer.Option(help="The app's folder, new or empty; by default BUNDLE-TARGET.")] = None,
    title: Annotated[str | None, typer.Option(help="What stands above it; by default the bundle's name.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the app that stands there.")] = False,
    onnxruntime_web: Annotated[
        Path | None, typer.Option(metavar="PATH", help="web: the npm package onnxruntime-web, unpacked or as .tgz.")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="web: npm may fetch onnxruntime-web, once.")] = False,
    webgpu: Annotated[bool, typer.Option(help="web: with what a browser needs to use its GPU, 27 MB.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write a small app around the model, to read, keep and change, that verifies itself where it runs."""
    from onward.bundle import Bundle
    from onward.embedding import BrowserRuntime, Options
    from onward.embedding import embed as run

    opened = Bundle.open(bundle)
    options = Options(title, overwrite, BrowserRuntime(onnxruntime_web, download, webgpu))
    path = opened.path.resolve()
    written = run(opened, target, out or path.with_name(f"{path.name}-{target}"), options)
    if as_json:
        print_json(written.to_json())
        return
    print_table(
        [str(written.path), ">kB"], [[part, f"{size / 1e3:,.1f}"] for part, size in written.sizes_bytes.items() if size]
    )
    print("\n".join([f"cd {written.path}", *written.target.next_steps]))
