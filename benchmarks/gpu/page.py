"""Page: the tables of docs/gpu.md, from results.json. Each table stands between markers and names the card."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.gpu.results import Results, read_results
from benchmarks.gpu.section import Row

__all__ = ["TABLES", "fill", "write_page"]

NO_ROWS = "Not measured in this run: see [what was not measured](#what-was-not-measured)."


def write_page(results: Sequence[Path], docs: Path) -> None:
    """Fill the tables of the page with the results of one or several runs on one card.

    Raises:
        UsageError: The results are not those of one card.
    """
    found = read_results(results)
    docs.write_text(fill(docs.read_text(encoding="utf-8"), found), encoding="utf-8")


def fill(page: str, results: Results) -> str:
    """The page with every table written anew."""

    def table(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- gpu: {name} -->\n\n{TABLES[name](results)}\n\n<!-- end -->"

    return re.sub(r"<!-- gpu: ([\w ]+) -->.*?<!-- end -->", table, page, flags=re.DOTALL)


def _rows(results: Results, module: str) -> list[Row]:
    """The rows of all sections of a module, without those that have an error."""
    return [row for row in _all_rows(results, module) if "error" not in row]


def _all_rows(results: Results, module: str) -> list[Row]:
    return [row for item in results["sections"] if item["section"].partition(":")[0] == module for row in item["rows"]]


def _with_caption(make: Callable[[Results], str]) -> Callable[[Results], str]:
    """A table with the card, the driver and the versions above it."""

    def captioned(results: Results) -> str:
        table = make(results)
        return f"{_caption(results)}\n\n{table}" if table else NO_ROWS

    return captioned


def _caption(results: Results) -> str:
    machine = results["machine"]
    built = f" for CUDA {machine['onnxruntime_cuda']}" if machine.get("onnxruntime_cuda") else ""
    return (
        f"*{machine.get('card', 'unknown card')}, driver {machine.get('driver', 'unknown')}, "
        f"{machine.get('num_cores')} cores, PyTorch {machine.get('torch')}, "
        f"onnxruntime {machine.get('onnxruntime')}{built}*"
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; a column with `>` before its name holds numbers. Empty without rows."""
    lines = ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in rows]
    if not lines:
        return ""
    head = "| " + " | ".join(column.lstrip(">") for column in columns) + " |"
    rule = "| " + " | ".join("---:" if column.startswith(">") else "---" for column in columns) + " |"
    return "\n".join([head, rule, *lines])


def _number(value: object) -> str:
    if not isinstance(value, (int, float)):
        return "–"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def _yes(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, "–") if isinstance(value, bool) else "–"


def _beside(rows: Iterable[Row], ways: Sequence[str], *, ratios: Sequence[str]) -> str:
    """One line for each network and batch: milliseconds of every way, then how many times as fast some of them are."""
    lines: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        if "ms" in row:
            lines.setdefault((row["network"], row["batch"]), {})[row["way"]] = row
    shown = [way for way in ways if any(way in found for found in lines.values())]
    columns = ["network", ">batch", *(f">{way}, ms" for way in shown), *(f">× {way}" for way in ratios if way in shown)]
    table = []
    for (network, batch), found in sorted(lines.items()):
        cells = [_number(found.get(way, {}).get("ms")) for way in shown]
        cells += [_number(found.get(way, {}).get("ratio")) for way in ratios if way in shown]
        table.append([network, batch, *cells])
    return _table(columns, table)


SHOWN = (
    *("card", "driver", "memory", "power_limit", "processor", "num_cores", "system", "python", "torch", "torch_cuda"),
    *("cudnn", "onnxruntime", "onnxruntime_cuda", "torchvision", "triton", "onnx", "numpy"),
)


def _machine(results: Results) -> str:
    machine = results["machine"]
    return _table(
        ["", ""], [[name.replace("_", " "), machine[name]] for name in SHOWN if machine.get(name) is not None]
    )


def _suite(results: Results) -> str:
    rows = [row for row in _rows(results, "suite") if "detail" in row and row["outcome"] != "skipped"]
    return _table(["test", "outcome"], [[f"`{row['test']}`", row["outcome"]] for row in rows])


def _parity(results: Results) -> str:
    columns = [
        "network",
        "way",
        ">noise ratio",
        ">rms ratio",
        ">max Δ from PyTorch",
        "assert_close",
        "gate",
        "same bits",
    ]
    return _table(
        columns,
        [
            [row["network"], row["way"], _number(row["noise_ratio"]), _number(row.get("rms_ratio"))]
            + [f"{row['max_delta']:.1e}" if "max_delta" in row else "–", _yes(row.get("assert_close"))]
            + ["passes" if row["passed"] else "fails", _yes(row["same_bits"])]
            for row in _rows(results, "parity")
        ],
    )


WAYS = ("onnxruntime", "PyTorch eager", "PyTorch channels_last", "PyTorch compiled")


def _latency(place: str) -> Callable[[Results], str]:
    def table(results: Results) -> str:
        rows = [row for row in _rows(results, "latency") if row.get("from") == place]
        return _beside(rows, WAYS, ratios=("onnxruntime", "PyTorch channels_last", "PyTorch compiled"))

    return table


def _binding(results: Results) -> str:
    ways = ("run", "bound", "bound, pinned", "on the card")
    return _beside(_rows(results, "binding"), ways, ratios=ways[1:])


def _tf32(results: Results) -> str:
    lines: dict[tuple[str, int], dict[str, float]] = {}
    for row in _rows(results, "tf32"):
        lines.setdefault((row["network"], row["batch"]), {})[row["way"]] = row["ms"]
    columns, table = ["network", ">batch"], []
    for way in (names := ("onnxruntime", "PyTorch eager")):
        columns += [f">{way}, ms", ">with TF32, ms", ">×"]
    for (network, batch), ms in sorted(lines.items()):
        cells: list[object] = [network, batch]
        for way in names:
            off, on = ms.get(way), ms.get(f"{way}, TF32")
            cells += map(_number, (off, on, off / on if off and on else None))
        table.append(cells)
    return _table(columns, table)


def _cuda_graphs(results: Results) -> str:
    ways = ("onnxruntime", "onnxruntime, CUDA graph", "PyTorch eager", "PyTorch eager, CUDA graph")
    return _beside(_rows(results, "cuda_graphs"), ways, ratios=(ways[0], ways[1], ways[3]))


def _precision(results: Results) -> str:
    rows = _rows(results, "precision")
    times = {(row["network"], row["way"]): row for row in rows if row.get("timed")}
    labels = {row["way"]: row["labels"] for row in rows if "labels" in row}
    first = next(iter(labels.values()), "")
    columns = ["network", "way", ">noise ratio", ">error / scale", ">same top-1", ">accuracy", ">changed labels"]
    table = []
    for row in rows:
        if row.get("timed"):
            continue
        timed = times.get((row["network"], row["way"]), {})
        changed = sum(one != other for one, other in zip(first, row.get("labels", ""), strict=False))
        table.append(
            [row["network"], row["way"], _number(row["noise_ratio"]), f"{row['relative_error']:.1e}"]
            + [f"{row['agreement']:.1%}", f"{row['accuracy']:.2%}" if "accuracy" in row else "–"]
            + [f"{changed} of {row['num_test']}" if "labels" in row else "–"]
            + [_number(timed.get("ms")), _number(_times_float32(timed, times))]
        )
    return _table([*columns, ">ms", ">× float32"], table)


def _times_float32(timed: Row, times: Mapping[tuple[str, str], Row]) -> float | None:
    """How many times as fast as the same runtime in float32."""
    if not timed:
        return None
    runtime = "onnxruntime, float32" if timed["way"].startswith("onnxruntime") else "PyTorch eager, float32"
    whole = times.get((timed["network"], runtime))
    return whole["ms"] / timed["ms"] if whole else None


def _training(results: Results) -> str:
    rows = _rows(results, "training")
    speeds = {row["precision"]: row for row in rows if row.get("timed")}
    base = speeds.get("float32", {}).get("images_s")
    table = []
    for row in rows:
        if "accuracy" in row:
            speed = speeds.get(row["precision"], {}).get("images_s")
            ratio = speed / base if speed and base else None
            table.append([row["precision"], f"{row['accuracy']:.2%}", _number(speed), _number(ratio)])
    return _table(["precision", ">CNN, test accuracy on digits", ">ResNet-18, images/s", ">× float32"], table)


def _resume(results: Results) -> str:
    rows = [row for row in _rows(results, "training") if "resumed_equal" in row]
    columns = ["precision", "deterministic algorithms", "two runs are equal", "a resumed run is equal", "stopped at"]
    return _table(
        columns,
        [
            [row["precision"], _yes(row["deterministic"]), _yes(row["two_runs_equal"]), _yes(row["resumed_equal"])]
            + [row["stopped_at"]]
            for row in rows
        ],
    )


def _jpegs(results: Results) -> str:
    rows = _rows(results, "jpegs")
    columns = ["network", "way", ">files", ">images/s", ">same labels"]
    return _table(
        columns,
        [
            [row["network"], row["way"], row["num_images"], _number(row["images_s"])]
            + [f"{row['same_labels']:.1%}" if isinstance(row.get("same_labels"), float) else "–"]
            for row in rows
        ],
    )


def _exports(results: Results) -> str:
    rows = _rows(results, "bundles")
    compiled: dict[str, list[str]] = {}
    for row in rows:
        if "compile_s" in row:
            compiled.setdefault(row["network"], []).append(f"{row['batch']}: {row['compile_s']:.0f} s")
    table = [
        [row["network"], _number(row["size_bytes"] / 1e6), _number(row["noise_ratio_cpu"])]
        + [", ".join(compiled.get(row["network"], ["–"]))]
        for row in rows
        if row.get("artifact") == "onnx"
    ]
    columns = ["network", ">MB", ">noise ratio on the CPU", "first run compiled, batch: seconds"]
    return _table(columns, table)


#: What a row is about.
KEYS = ("network", "batch", "from", "way", "precision", "deterministic", "test")


def _missing(results: Results) -> str:
    """Sections that did not finish, and rows with an error: those of a section with the same error are one line."""
    table = [
        [item["section"], item["status"], item["reason"] or "–"]
        for item in results["sections"]
        if item["status"] != "done"
    ]
    for item in results["sections"]:
        errors: dict[str, dict[str, list[str]]] = {}
        for row in item["rows"]:
            for key, value in row.items() if "error" in row else ():
                seen = errors.setdefault(row["error"], {}).setdefault(key, [])
                seen += [] if str(value) in seen else [str(value)]
        for error, values in errors.items():
            what = ", ".join(f"{key} {' and '.join(seen)}" for key, seen in values.items() if key in KEYS)
            table.append([f"{item['section']}: {what}", "failed", error])
    return _table(["what", "status", "reason"], table) or "Everything was measured."


#: Marker -> what makes its table.
TABLES: Mapping[str, Callable[[Results], str]] = {
    "machine": _machine,
    "missing": _missing,
    "suite": _with_caption(_suite),
    "exports": _with_caption(_exports),
    "parity": _with_caption(_parity),
    "latency arrays": _with_caption(_latency("arrays")),
    "latency card": _with_caption(_latency("card")),
    "binding": _with_caption(_binding),
    "tf32": _with_caption(_tf32),
    "cuda graphs": _with_caption(_cuda_graphs),
    "precision": _with_caption(_precision),
    "training": _with_caption(_training),
    "resume": _with_caption(_resume),
    "jpegs": _with_caption(_jpegs),
}
