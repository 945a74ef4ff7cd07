"""The commands of the runtime floor: predict, verify, bench, inspect, doctor. None of them needs PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.console import app as make_app
from runtime.console import print_json, print_table, progress, remark
from runtime.errors import UsageError

if TYPE_CHECKING:
    from runtime.bench import Timing
    from runtime.predict import Summary
    from runtime.verify import Verification

__all__ = ["app", "bench", "doctor", "inspect", "predict", "verify"]

app = make_app("Run exported classifiers. This floor never needs PyTorch.")

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that `onward export` wrote.")]
ProviderName = Annotated[
    str,
    typer.Option(
        help="Execution provider: cpu, cuda, tensorrt, openvino, coreml, directml or a full name. Never replaced "
        "silently."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
MAX_FAILURES_SHOWN = 10


@app.command()
def predict(
    bundle: BundlePath,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Folders, images, .npy or IDX files (.gz too).")
    ],
    out: Annotated[
        Path, typer.Option(help="Where rows go: .csv, .jsonl or .npy; `-` streams JSON Lines to standard output.")
    ] = Path("predictions.csv"),
    top_k: Annotated[int, typer.Option(help="How many labels a row.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Images an inference; 0 chooses by image size.")] = 0,
    artifact: Annotated[str, typer.Option(help="onnx, torchscript or pt2.")] = "onnx",
    provider: ProviderName = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of an inference; 0 takes every core we have.")] = 0,
    quiet: Annotated[bool, typer.Option(help="No progress bar and no summary.")] = False,
    as_json: AsJson = False,
) -> None:
    """Classify images in batches, one row each."""
    from runtime.backends import Threads
    from runtime.classifier import default_batch_size, load
    from runtime.predict import predict as run
    from runtime.sinks import STDOUT, open_sink
    from runtime.sources import open_sources
    from runtime.tensor_signature import of_images

    if as_json and out == STDOUT:
        raise UsageError("--json and `--out -` both write to standard output; choose one.")
    with load(bundle, artifact=artifact, provider=provider, threads=Threads(threads or None, spin=False)) as classifier:
        signature, backend = of_images(classifier.signature), classifier.backend
        if not 1 <= top_k <= signature.num_classes:
            raise UsageError(f"--top-k is {top_k}, expected 1 to {signature.num_classes}, the number of classes.")
        source = open_sources(inputs, signature)
        with (
            open_sink(out, signature, top_k) as sink,
            progress("predict", source.num_inputs, unit="images", quiet=quiet) as advance,
        ):
            summary = run(
                backend,
                source,
                sink,
                batch_size=batch_size or default_batch_size(signature),
                on_progress=advance,
            )
    if as_json:
        print_json(summary.to_json() | {"out": str(out), "backend": backend.name})
    elif not quiet:
        _remark_on(summary, out)
    if summary.failures:
        raise typer.Exit(1)


@app.command()
def verify(
    bundle: BundlePath,
    artifact: Annotated[
        list[str] | None, typer.Option(help="Only this one (repeatable): onnx, torchscript, pt2.")
    ] = None,
    provider: ProviderName = "cpu",
    as_json: AsJson = False,
) -> None:
    """Prove again, here, that each artifact is as close to the mathematical model as PyTorch is."""
    from runtime.bundle import Bundle
    from runtime.verify import verify as run

    results = run(Bundle.open(bundle), artifacts=artifact, provider=provider)
    passed = all(result.passed for result in results)
    if as_json:
        print_json({"passed": passed, "artifacts": [result.to_json() for result in results]})
    else:
        print_verifications(results)
        print("passed: every digest holds, and each artifact is as close as PyTorch." if passed else "FAILED")
    if not passed:
        raise typer.Exit(1)


@app.command()
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


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE|FILE.onnx", help="What to look into.")],
    as_json: AsJson = False,
) -> None:
    """Say what a bundle or an ONNX file takes, gives and comes from."""
    from runtime.inspection import inspect_bundle, inspect_onnx

    document = inspect_onnx(path) if path.is_file() else inspect_bundle(path)
    if as_json:
        print_json(document)
        return
    print_signature(document["signature"], path)
    if "artifacts" in document:
        rows = [
            [item["name"], item["file"]["path"], f"{item['file']['size_bytes'] / 1e3:,.0f} kB", item["precision"]]
            + [f"{item['noise_ratio']:.2f}", item["file"]["sha256"][:12]]
            for item in document["artifacts"]
        ]
        print_table(["artifact", "file", ">size", "precision", ">noise ratio", "SHA-256"], rows)
        print_table(["provenance", ""], [[key, str(value)] for key, value in document["provenance"].items()])
    else:
        print_outline(document)


def print_outline(document: dict[str, Any]) -> None:
    """What an ONNX file is made of, for people."""
    values = [
        [side, item["name"], item["dtype"], "unknown" if item["shape"] is None else _shape(item)]
        for side, key in (("in", "inputs"), ("out", "outputs"))
        for item in document[key]
    ]
    print_table(["", "name", "dtype", "shape"], values)
    nodes = ", ".join(f"{count} {name}" for name, count in list(document["nodes"].items())[:8])
    rows = [
        ["written by", f"{document['producer']} {document['producer_version']}".strip()],
        ["IR version", str(document["ir_version"])],
        ["opsets", ", ".join(f"{domain} {number}" for domain, number in document["opsets"].items())],
        ["nodes", f"{document['num_nodes']:,}: {nodes}{', …' if len(document['nodes']) > 8 else ''}"],
        ["weights", f"{document['num_initializers']:,} tensors, {document['initializers_bytes'] / 1e6:,.2f} MB"],
    ]
    rows += [
        ["weights beside it", f"{item['location']}, {item['num_tensors']:,} tensors: {item['state']}"]
        for item in document["external"]
    ]
    print_table(["file", ""], rows)
    print_table(["metadata", ""], _metadata_rows(document["metadata"]))


def _metadata_rows(metadata: dict[str, str]) -> list[list[str]]:
    rows = []
    for key, value in metadata.items():
        if key == "onward.labels":  # they stand in the signature
            continue
        if key == "onward.provenance":
            rows += [[name, str(item)] for name, item in json.loads(value).items() if item not in (None, "", {})]
        else:
            rows.append([key.removeprefix("onward."), value if len(value) <= 90 else f"{value[:89]}…"])
    return rows


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what this machine can run, and why not the rest."""
    from runtime.machine import examine

    machine = examine()
    if as_json:
        print_json(machine.to_json())
        return
    print(f"{machine.system}, Python {machine.python}, {machine.num_cores} cores for this process")
    print_table(
        ["", "what", ""],
        [["yes" if item.works else "no", item.what, item.detail] for item in machine.findings],
    )


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


def print_signature(signature: dict[str, Any] | None, path: Path) -> None:
    """What goes in and what comes out, for people."""
    if signature is None:
        print(f"{path} carries no signature of Onward's.")
        return
    labels = signature["labels"]
    shown = ", ".join(labels[:12]) + (f", … ({len(labels)} in all)" if len(labels) > 12 else "")
    outputs = "; ".join(f"{item['name']} float32 {_shape(item)}" for item in signature["outputs"])
    taken = _image_rows(signature) if "input" in signature else _tensor_rows(signature)
    print_table(["signature", ""], [*taken, ["outputs", outputs], ["labels", shown]])


def _image_rows(signature: dict[str, Any]) -> list[list[str]]:
    image, rule, normalize = signature["input"], signature["preprocess"], signature["normalize"]
    where = "inside" if normalize["in_model"] else "by the app"
    content = "raw pixels 0 to 255" if normalize["in_model"] else "normalised by the app"
    return [
        ["image", f"{image['dtype']} {_shape(image)}, {image['layout']}, {rule['color']}, {content}"],
        ["resize", f"{rule['resize']}, {rule['interpolation']}"],
        [f"normalised {where}", f"mean {normalize['mean']}, std {normalize['std']}"],
    ]


def _tensor_rows(signature: dict[str, Any]) -> list[list[str]]:
    return [
        [item["name"], f"{item['dtype']} {_shape(item)}" + (f", {item['range']}" if item["range"] else "")]
        for item in signature["inputs"]
    ]


def _shape(item: dict[str, Any]) -> str:
    return f"({', '.join(map(str, item['shape']))})"


def _remark_on(summary: Summary, out: Path) -> None:
    remark(
        f"{summary.num_predicted:,} images in {summary.elapsed_s:.2f} s: {summary.images_per_s:,.0f} images/s "
        f"({summary.infer_s / max(summary.elapsed_s, 1e-9):.0%} of it inference) → {out}"
    )
    if summary.failures:
        remark(f"{len(summary.failures):,} could not be read:")
        for failure in summary.failures[:MAX_FAILURES_SHOWN]:
            remark(f"  {failure.input}: {failure.reason}")
        if len(summary.failures) > MAX_FAILURES_SHOWN:
            remark(f"  … and {len(summary.failures) - MAX_FAILURES_SHOWN:,} more (--json lists all)")


def _whole_numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(item) for item in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}, expected whole numbers such as 1,8,32.") from error
