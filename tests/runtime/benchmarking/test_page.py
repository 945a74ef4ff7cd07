"""The page of `onward bench --html`, for every kind of report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from onward.benchmarking.instability import Instability
from onward.benchmarking.page import write_page
from onward.benchmarking.report import Report
from onward.benchmarking.report_view import difference, interval, mebibytes, milliseconds, ratio, thousands
from onward.benchmarking.row import DRAWN_PERCENT
from onward.report.charts import violin
from onward.statistics import Interval
from tests.runtime.benchmarking.reports import EVIL, REPORTS, row

#: Elements that have no end.
VOID = {"meta", "img", "br"}
LOADING = re.compile(
    r"""https?:|//[a-z]|\b(?:src|href|srcset)\s*=|url\(|@import|<(?:script|link|iframe)""", re.IGNORECASE
)


class Nesting(HTMLParser):
    """Checks that elements nest, and collects their names and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page(report: Report, folder: Path) -> str:
    write_page(folder / "bench.html", report)
    return (folder / "bench.html").read_text(encoding="utf-8")


def read(document: str) -> Nesting:
    found = Nesting()
    found.feed(document)
    found.close()
    assert found.open == []
    return found


def lead(document: str) -> str:
    found = re.search(r'<p class="lead">(.*?)</p>', document)
    assert found
    return found[1].replace("\N{NO-BREAK SPACE}", " ")


def headings(document: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", document)


def figures(document: str) -> Iterator[str]:
    """Numeric attributes of charts."""
    yield from re.findall(r' (?:x|y|x1|x2|y1|y2|cx|cy|width|height|points|d)="([^"]*)"', document)


@pytest.mark.parametrize("kind", REPORTS)
def test_every_kind_of_report_becomes_a_page_that_needs_no_network(kind: str, tmp_path: Path) -> None:
    document = page(REPORTS[kind], tmp_path)
    read(document)
    assert not LOADING.search(document)
    assert not any("nan" in figure or "inf" in figure for figure in figures(document))


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    assert page(REPORTS["normal"], tmp_path) == page(Report.from_json(REPORTS["normal"].to_json()), tmp_path)


def test_the_first_sentence_names_the_fastest_with_its_interval(tmp_path: Path) -> None:
    document = page(REPORTS["normal"], tmp_path)
    assert lead(document).startswith("onnxruntime is the fastest at batch size 32: ")
    assert "4.00 times as fast as PyTorch (95 % interval 3.92–4.04); 1 of 12 rows is not stable." in lead(document)
    assert headings(document) == [
        "Speed",
        "Latency of single inferences",
        "Accuracy and speed",
        "Cold start",
        "From image files to rows",
        "Unstable figures",
        "How it was measured",
        "The machine",
    ]
    assert "91.30%" in document
    assert "no values" not in document
    medians = [item.latency.median for item in REPORTS["normal"].rows if item.latency]
    assert all(f": median {median:.4g}, p90 " in document for median in medians)
    assert "another program ran: 8 % of the time" in document


def test_a_complete_and_stable_report_is_good(tmp_path: Path) -> None:
    document = page(REPORTS["stable"], tmp_path)
    assert '<h1 class="good">Benchmark of cnn</h1>' in document
    assert lead(document).endswith("all figures are stable.")


def test_a_candidate_whose_interval_overlaps_the_fastest_is_named(tmp_path: Path) -> None:
    near = replace(row("openvino", 8), ratio=Interval(3.9, 3.8, 4.0))
    report = replace(REPORTS["stable"], rows=(row("torch", 8), row("onnxruntime", 8), near))
    assert "; OpenVINO may be as fast; " in lead(page(report, tmp_path))


def test_a_reference_that_is_the_fastest_is_called_so(tmp_path: Path) -> None:
    report = replace(REPORTS["stable"], reference=row("onnxruntime", 8).candidate)
    assert "; it is the reference itself; " in lead(page(report, tmp_path))


def test_a_single_candidate_has_no_ratios(tmp_path: Path) -> None:
    document = page(REPORTS["one candidate"], tmp_path)
    assert lead(document).startswith("Only onnxruntime was timed: ")
    assert "Speed relative to the reference" not in document


def test_a_candidate_with_wrong_outputs_is_never_the_fastest(tmp_path: Path) -> None:
    wrong = [replace(item, status="wrong") if item.candidate.backend == "onnxruntime" else item
             for item in REPORTS["stable"].rows]  # fmt: skip
    document = page(replace(REPORTS["stable"], rows=tuple(wrong)), tmp_path)
    assert lead(document).startswith("OpenVINO is the fastest")
    assert lead(document).endswith("Wrong outputs: onnxruntime.")
    assert '<h1 class="bad">' in document
    assert "<td>WRONG</td>" in document
    assert '<td class="bad">failed</td>' in document


def test_the_reason_for_wrong_outputs_is_given_once_with_its_batch_sizes(tmp_path: Path) -> None:
    document = page(REPORTS["wrong"], tmp_path)
    assert document.count("<li>OpenVINO at batch size 1, 8, 32: WRONG: outputs are up to 1,234.5 times") == 1


def test_if_all_outputs_are_wrong_nothing_is_the_fastest(tmp_path: Path) -> None:
    wrong = tuple(replace(item, status="wrong") for item in REPORTS["stable"].rows)
    assert lead(page(replace(REPORTS["stable"], rows=wrong), tmp_path)).startswith("No backend has correct outputs")


def test_failed_and_missing_rows_have_their_reasons_and_hints(tmp_path: Path) -> None:
    document = page(REPORTS["failed"], tmp_path)
    assert lead(document).endswith("Failed: torch.compile.")
    assert "Not measured" in headings(document)
    for text in (r"RuntimeError: no compiler\n was found", "openvino is not installed.", "pip install torch"):
        assert text in document


def test_an_interrupted_report_is_incomplete(tmp_path: Path) -> None:
    document = page(REPORTS["interrupted"], tmp_path)
    assert lead(document).endswith("The benchmark was interrupted: this page has what was measured until then.")
    assert "Failed" not in lead(document)
    assert '<h1 class="bad">' in document
    assert "skipped: the benchmark was interrupted before its first sample." in document


def test_uncertain_figures_are_not_large(tmp_path: Path) -> None:
    report = REPORTS["stable"]
    assert 'class="uncertain"' not in page(report, tmp_path)
    disturbed = [replace(item, instabilities=(Instability("host", "slow"),)) for item in report.rows]
    assert page(replace(report, rows=tuple(disturbed)), tmp_path).count('<b class="uncertain">') == 2


def test_an_interrupted_or_empty_report_is_not_stable() -> None:
    assert REPORTS["stable"].is_stable
    assert not replace(REPORTS["stable"], is_complete=False).is_stable
    assert not replace(REPORTS["stable"], rows=()).is_stable


def test_a_report_without_samples_has_a_page(tmp_path: Path) -> None:
    document = page(REPORTS["nothing timed"], tmp_path)
    assert lead(document).startswith("Nothing was timed.")
    assert headings(document) == ["Not measured", "How it was measured", "The machine"]


def test_a_file_without_a_golden_record_has_differences_and_no_noise(tmp_path: Path) -> None:
    document = page(REPORTS["no bundle"], tmp_path)
    assert "oise ratio" not in document
    assert "4.0e-7" in document
    assert "passed" not in document  # nobody knows the right outputs
    assert "repeatable" in document
    assert "From image files to rows" not in headings(document)


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    document = page(REPORTS["hostile names"], tmp_path)
    found = read(document)
    assert "script" not in found.names
    assert EVIL in "".join(found.texts)


def test_models_and_threads_are_named_if_there_are_several(tmp_path: Path) -> None:
    document = page(REPORTS["two models, two counts of threads"], tmp_path)
    assert "Benchmark of cnn and resnet18" in document
    assert "resnet18: onnxruntime (1 thread)" in document
    assert "(1 thread)" not in page(REPORTS["normal"], tmp_path)


def test_long_names_keep_their_ends_if_that_distinguishes_them(tmp_path: Path) -> None:
    def named(*targets: str) -> str:
        rows = tuple(row(backend, 8, target=target) for target in targets for backend in ("torch", "onnxruntime"))
        return page(replace(REPORTS["stable"], rows=rows, reference=rows[0].candidate), tmp_path)

    assert "resnet…_first: onnxruntime" in named("a/resnet18_of_all_first", "a/resnet18_of_all_last")
    assert "resnet18_of_one_first: onnxruntime" in named("a/resnet18_of_all_first", "a/resnet18_of_one_first")


def test_numbers_have_the_digits_that_matter() -> None:
    assert [*map(milliseconds, (0.01234, 0.9996, 1.234, 9.996, 99.96, 1234.5, None))] == [
        "0.012", "1.00", "1.23", "10.0", "100", "1,234", "–"]  # fmt: skip
    assert [*map(ratio, (0.834, 12.34, 1234.5, None))] == ["0.83", "12.3", "1,234", "–"]
    assert [*map(thousands, (12345.6, 12.345))] == ["12,346", "12.3"]
    assert [*map(difference, (2.4e-7, 0.0, None))] == ["2.4e-7", "0", "–"]
    assert interval(Interval(2, 1.5, 2.5)) == "1.50–2.50"
    assert mebibytes(3 << 20) == "3"


def test_percentiles_are_drawn_like_the_values_themselves() -> None:
    values = np.random.default_rng(0).gamma(4.0, 0.1, 20_000)
    percentiles = dict(zip(DRAWN_PERCENT, np.percentile(values, DRAWN_PERCENT).tolist(), strict=True))
    drawn, summed = (np.array(marks(violin({"onnx": found}, x_label="ms"))) for found in (values, percentiles))
    assert np.abs(drawn - summed).max() < 0.2  # of 460 wide; places are written with one decimal
    assert "no values" in violin({"onnx": {}}, x_label="ms")
    assert "values" in violin({"onnx": values}, x_label="ms")
    assert "values" not in violin({"onnx": percentiles}, x_label="ms")  # how many there were is not known


def marks(picture: str) -> list[float]:
    """Positions of the thin and the thick bar's ends, the ticks at p90 and p99, and the dot."""
    return [float(x) for x in re.findall(r' (?:x1|x2|cx)="([^"]*)"', picture[picture.index("<g><title>onnx: ") :])]
