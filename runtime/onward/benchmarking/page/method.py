"""Method: how it was measured, on which machine, how steady that was, and what has no figures."""

from __future__ import annotations

from collections.abc import Iterator
from math import nan
from statistics import median

from onward.benchmarking.report_view import ReportView, thousands
from onward.benchmarking.row import Row
from onward.bundle.trust import SKIPPED
from onward.host.fingerprint import Fingerprint
from onward.report import Page
from onward.report.charts import lines

__all__ = ["add_instabilities", "add_machine", "add_method", "add_unavailable"]

METHOD = (
    "Each candidate runs in a process of its own, and a new one for each process run. In each round every candidate "
    "takes one sample, in a random order, while all other processes are stopped. Warm-up inferences are not timed; "
    "they end when inferences get no faster."
)
RATIOS = (
    "A ratio is the reference's p10 latency over the candidate's: the geometric mean over process runs. The p10 "
    "latency is the one that 10 % of a sample's inferences stay below, and of these the one that 10 % of a process "
    "run's samples do. Other tenants of a shared machine make everything slower for a while, and nothing faster. The "
    "95 % interval is Student's, over process runs, because rounds of one process resemble one another."
)


def add_method(page: Page, view: ReportView) -> None:
    """How it was measured, and the options."""
    page.section("How it was measured", METHOD)
    page.points([RATIOS])
    page.table(["option", "value"], _options(view))


def _options(view: ReportView) -> list[list[str]]:
    options = view.report.options
    inferences = [row.num_inferences for row in view.timed]
    warm_up = [row.num_warm_up for row in view.timed]
    threads = sorted({row.candidate.threads for row in view.report.rows})
    return [
        ["batch sizes", ", ".join(map(str, options.batch_sizes))],
        ["process runs × rounds", f"{options.num_process_runs} × {options.num_rounds}"],
        ["threads per inference", ", ".join(map(str, threads))],
        ["sample", f"at least {options.sample_s * 1e3:g} ms"],
        ["timed inferences per row", _range(inferences)],
        ["warm-up inferences per process run", _range(warm_up)],
        ["warm-up", f"at most {options.max_warm_up_s:g} s"],
        ["seed", str(options.seed)],
    ]


def _range(counts: list[int]) -> str:
    """From the fewest to the most."""
    if not counts:
        return "–"
    low, high = thousands(min(counts)), thousands(max(counts))
    return low if low == high else f"{low} to {high}"


def add_machine(page: Page, view: ReportView) -> None:
    """The fingerprint, and the speed probe and latencies from round to round."""
    page.section("The machine", "Figures of another machine, or of other versions, are different.")
    if charts := [*_speed_probe(view), *_rounds(view)]:
        page.figures(charts)
    page.table(["property", "value"], [[what, found] for what, found in _fields(view.report.fingerprint)])


def _speed_probe(view: ReportView) -> Iterator[tuple[str, str]]:
    probe_ms = [ms for run in view.report.speed_probe_ms for rounds in run.values() for ms in rounds]
    if probe_ms:
        slowdown = max(probe_ms) / min(probe_ms) - 1
        caption = f"Speed probe before each round: the slowest took {slowdown:.0%} longer than the fastest"
        x = range(1, len(probe_ms) + 1)
        yield caption, lines({"probe": probe_ms}, x=x, x_label="round, of all batch sizes", y_label="ms")


def _rounds(view: ReportView) -> Iterator[tuple[str, str]]:
    """The latencies at the largest batch size, process run after process run."""
    size = view.batch_sizes[-1] if view.batch_sizes else 0
    found = {row.candidate: [ms for some in row.rounds_ms for ms in some] for row in view.rows_at(size)}
    longest = max(map(len, found.values()), default=0)
    if longest > 1:
        series = {view.flagged_name(one): _over_median(found.get(one, []), longest) for one in view.candidates}
        caption = f"p10 latency of each round, over the median of all rounds, batch size {size}"
        yield caption, lines(series, x=range(1, longest + 1), x_label="round", y_label="over the median")


def _over_median(rounds_ms: list[float], count: int) -> list[float]:
    """Each over their median; NaN for those that are missing at the end."""
    return [ms / median(rounds_ms) for ms in rounds_ms] + [nan] * (count - len(rounds_ms))


def _fields(found: Fingerprint) -> Iterator[tuple[str, str]]:
    processor, cores, memory = found.processor, found.cores, found.memory
    yield "processor", processor.model or "unknown"
    yield "instructions", ", ".join(processor.features) or "unknown"
    yield "cores", cores.describe()
    yield "clock governor", processor.governor or "unknown"
    yield "boost", _yes_or_no(processor.is_boosting, "on", "off")
    yield "SMT", _yes_or_no(processor.has_smt, "on", "off")
    yield "virtual", _yes_or_no(processor.is_virtual, "yes", "no")
    yield "memory", _gibibytes(memory.total_bytes)
    yield "memory limit", _gibibytes(memory.limit_bytes, "none")
    yield "system", f"{found.system}, {found.release}"
    yield "graphics", "; ".join(found.graphics) or "none"
    yield "load before", "unknown" if found.load is None else f"{found.load:.2f}"


def _yes_or_no(fact: bool | None, yes: str, no: str) -> str:
    return "unknown" if fact is None else yes if fact else no


def _gibibytes(size_bytes: int | None, missing: str = "unknown") -> str:
    return missing if size_bytes is None else f"{size_bytes / 2**30:.1f} GiB"


#: Kind of instability -> (what it means, what helps or follows).
KINDS = {
    "warm-up": ("inferences still got faster when the warm-up ended", "the figures are too slow: expect better ones"),
    "rounds": ("rounds or process runs disagree", "more of them: --process-runs, --rounds"),
    "process-runs": ("processes of the same program disagree", "more of them: --process-runs"),
    "drift": ("faster or slower from the first rounds to the last", "a machine at a steady temperature and load"),
    "load": ("another program ran at the same time", "end it, or leave it a core: --threads"),
    "host": ("the hypervisor took time from this machine", "another hour, or a machine that is not shared"),
    "busy": ("keeps cores busy while idle", "it slows down whatever shares the machine with it"),
    "threads": ("leaks threads", "a long run may fail"),
}


def add_instabilities(page: Page, view: ReportView) -> None:
    """Unstable rows, by reason."""
    unstable = [row for row in view.timed if row.instabilities]
    if not view.timed:
        return
    if not unstable:
        page.section("Unstable figures", "None: rounds and process runs agree, and no other program ran.")
        return
    page.section(
        "Unstable figures",
        f"{len(unstable)} of {len(view.timed)} rows are not reproducible. A row can have several reasons.",
    )
    grouped = _group(unstable, view)
    table = [[kind, str(len(details)), *KINDS.get(kind, ("", ""))] for kind, details in grouped.items()]
    page.table(["reason", "rows", "meaning", "what helps or follows"], table)
    for kind, details in grouped.items():
        page.details(f"{kind}: {len(details)} row{'s' * (len(details) != 1)}", details)


def _group(rows: list[Row], view: ReportView) -> dict[str, list[str]]:
    """Kind -> a line for each row, the most frequent kind first."""
    grouped: dict[str, list[str]] = {}
    for row in rows:
        name = f"{view.flagged_name(row.candidate)}, batch size {row.batch_size}"
        for item in row.instabilities:
            grouped.setdefault(item.kind, []).append(f"{name}: {item.detail}")
    return dict(sorted(grouped.items(), key=lambda group: -len(group[1])))


def add_unavailable(page: Page, view: ReportView) -> None:
    """Backends without figures, and why."""
    report = view.report
    table = [[view.flagged_name(row.candidate), row.status, row.reason] for row in report.rows if not row.latency]
    table += [[name, "not installed", hint] for name, hint in report.missing.items()]
    table += [[name, "skipped", SKIPPED] for name in report.untrusted]
    if table:
        page.section("Not measured")
        page.table(["backend", "status", "reason, or how to install it"], table)
