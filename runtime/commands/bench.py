"""`onward bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runtime.commands.arguments import AsJson, BundlePath, ProviderName
from runtime.console import print_json, print_table, progress
from runtime.errors import UsageError

if TYPE_CHECKING:
    from runtime.bench import Timing

__all__ = ["bench", "print_timings"]


def bench(
    bundle: BundlePath,
    backends: Annotated[
        str | None, typer.Option(help="Comma-separated: torch, torchscript, onnxruntime; by default all there are.")
    ] = None,
    batch_sizes: Annotated[str, typer.Option(help="Comma-separated.")] = "1,8,32",
    rounds: Annotated[int, typer.Option(help="Interleaved rounds a batch size.")] = 10,
    provider: ProviderName = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of an inference; 0 takes every core we have.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Time the artifacts side by side: PyTorch, TorchScript, ONNX, in interleaved rounds."""
    from runtime.bench import Plan
    from runtime.bench import bench as run
    from runtime.bundle import Bundle

    plan = Plan(
        batch_sizes=_whole_numbers(batch_sizes, "--batch-sizes"),
        num_rounds=rounds,
        num_threads=threads or None,
        provider=provider,
    )
    with progress("bench", rounds * len(plan.batch_sizes), unit="rounds", quiet=as_json) as advance:
        timings = run(
            Bundle.open(bundle),
            plan,
            backends=backends.split(",") if backends else None,
            on_round=lambda: advance(1),
        )
    if as_json:
        print_json({"timings": [timing.to_json() for timing in timings]})
    else:
        print_timings(timings)


def print_timings(timings: list[Timing]) -> None:
    """The table of `bench`."""
    print_table(
        [">batch", "backend", ">median ms", ">p90 ms", ">p99 ms", ">images/s", ">× PyTorch"],
        [
            [str(row.batch_size), row.backend, f"{row.median_ms:.3f}", f"{row.p90_ms:.3f}", f"{row.p99_ms:.3f}"]
            + [f"{row.images_per_s:,.0f}", "–" if row.ratio is None else f"{row.ratio:.2f}"]
            for row in timings
        ],
    )


def _whole_numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}, expected whole numbers such as 1,8,32.") from error
