from __future__ import annotations

import base64
import io
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from runtime.bundle import Bundle
from runtime.errors import OutputError
from runtime.report import Page
from runtime.report.charts import bars, heatmap, histogram, lines, picture, reliability

LAW = settings(max_examples=40, deadline=None)
EVIL = "\"'><script>alert(1)</script>&amp;"
#: What XML can carry at all: no control characters, no lone surrogates.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12)
NAMES = st.lists(TEXT | st.just(EVIL), min_size=1, max_size=4, unique=True)
FIGURES = st.floats(-1e5, 1e5).filter(lambda value: value == 0 or abs(value) > 1e-3)
VOID = {"br", "meta", "img"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and minds that tags are closed in order."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(document)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def full_page(text: str) -> Page:
    """A page with `text` wherever text can stand."""
    image = picture(np.zeros((2, 2, 1), np.uint8))
    page = Page(text, text)
    page.tiles([(text, text, "good")])
    page.section(text, text)
    page.figures(
        [
            (text, bars({text: {text: 1.0}}, y_label=text)),
            (text, lines({text: [1.0, 2.0]}, x=[1, 2], x_label=text, y_label=text)),
            (text, heatmap(np.eye(2, dtype=int), [text, "other"])),
            (text, histogram({text: [1, 2]}, edges=[0.1, 1, 10], x_label=text, marks={text: 1.0})),
        ]
    )
    page.table([text, "verdict"], [[text, "passed"]])
    page.cards([(image, text, [(text, 0.5, True)])])
    page.samples([(image, text, [text, text]), ("", text, [text])])
    page.points([text])
    page.details(text, [text])
    page.footer(text)
    return page


def test_text_is_escaped_in_every_place() -> None:
    document = full_page(EVIL).render()
    plain = Reader(full_page("plain").render())
    read = Reader(document)
    assert "<script" not in document
    assert read.tags == plain.tags  # no text became markup
    assert [key for key, _ in read.attributes] == [key for key, _ in plain.attributes]
    assert read.text.count(EVIL) >= 10


@LAW
@given(TEXT)
def test_any_text_arrives_as_it_is(text: str) -> None:
    page = Page(text, text)
    page.section(text, text)
    page.table([text], [[text]])
    page.footer(text)
    assert Reader(page.render()).text.count(text) >= 6


def assert_self_contained(document: str) -> None:
    read = Reader(document)
    assert not re.search(r"https?://", document)
    assert not {"script", "link", "iframe", "object", "base"} & set(read.tags)
    assert not re.search(r"@import|url\(", document)
    for key, value in read.attributes:
        assert key not in ("href", "srcset", "action")
        assert key != "src" or (value or "").startswith("data:")


def test_a_page_needs_no_network() -> None:
    assert_self_contained(full_page("plain").render())


def test_the_parity_page_of_a_bundle_needs_no_network(shared_bundle: Bundle) -> None:
    assert_self_contained((shared_bundle.path / "parity.html").read_text(encoding="utf-8"))


def test_a_page_is_written_as_utf8_whole(tmp_path: Path) -> None:
    page = Page("Größe – 大きさ", "×")
    page.write(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page.render()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_place_that_cannot_be_written_to_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        Page("title", "lead").write(tmp_path)


def test_passed_and_failed_are_coloured() -> None:
    page = Page("title", "lead")
    page.table(["verdict"], [["passed"], ["failed"], ["passed over"]])
    document = page.render()
    assert '<td class="good">passed</td>' in document
    assert '<td class="bad">failed</td>' in document
    assert "<td>passed over</td>" in document


def parse(svg: str) -> ET.Element:
    """The SVG's tree; every number in it is finite."""
    root = ET.fromstring(svg)
    assert root.tag == "svg"
    for element in root.iter():
        for key, value in element.attrib.items():
            if key in {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"}:
                assert math.isfinite(float(value)), (element.tag, key)
            if key in {"points", "transform"}:
                assert not re.search("nan|inf", value), (element.tag, key)
    return root


@LAW
@given(NAMES, NAMES, st.data(), st.none() | st.floats(0.5, 100), st.booleans())
def test_bars_are_well_formed(
    groups: list[str], names: list[str], data: st.DataObject, rule: float | None, log_y: bool
) -> None:
    figures = st.floats(1e-6, 1e6) if log_y else FIGURES
    values = {group: {name: data.draw(figures) for name in names} for group in groups}
    root = parse(bars(values, y_label=EVIL, log_y=log_y, rule=rule))
    drawn = [element for element in root.iter("rect") if element.find("title") is not None]
    assert len(drawn) == len(groups) * len(names)


@LAW
@given(NAMES, st.integers(1, 30), st.data(), st.booleans())
def test_lines_are_well_formed(names: list[str], count: int, data: st.DataObject, log_y: bool) -> None:
    figures = st.floats(1e-6, 1e6) if log_y else FIGURES
    some = st.lists(figures | st.just(math.nan), min_size=count, max_size=count)
    series = {name: data.draw(some) for name in names}
    root = parse(lines(series, x=list(range(count)), x_label=EVIL, y_label=EVIL, log_y=log_y))
    finite = sum(math.isfinite(value) for line in series.values() for value in line)
    assert len(list(root.iter("polyline"))) == len(names)
    assert len(list(root.iter("circle"))) == finite


@LAW
@given(st.integers(1, 24), st.data())
def test_heatmaps_are_well_formed(size: int, data: st.DataObject) -> None:
    counts = data.draw(arrays(np.int64, (size, size), elements=st.integers(0, 10**6)))
    labels = data.draw(st.lists(TEXT | st.just(EVIL), min_size=size, max_size=size))
    root = parse(heatmap(counts, labels))
    assert len(list(root.iter("rect"))) == size * size


SHARES = st.floats(0, 1)


@LAW
@given(st.lists(st.tuples(SHARES, SHARES, st.integers(0, 10**7)), min_size=1, max_size=20))
def test_reliability_diagrams_have_a_bar_and_a_line_for_each_bin_that_holds_images(
    bins: list[tuple[float, float, int]],
) -> None:
    filled = sum(count > 0 for _, _, count in bins)
    empty = [bin if bin[2] else (math.nan, math.nan, 0) for bin in bins]
    root = parse(reliability(empty))
    for tag in ("rect", "line"):
        assert sum(element.find("title") is not None for element in root.iter(tag)) == filled


def test_a_bar_of_a_reliability_diagram_ends_at_its_line_where_the_confidence_is_the_accuracy() -> None:
    root = parse(reliability([(0.25, 0.25, 10), (0.75, 0.5, 10)]))
    tops = [float(item.attrib["y"]) for item in root.iter("rect") if item.find("title") is not None]
    across = [float(item.attrib["y1"]) for item in root.iter("line") if item.find("title") is not None]
    assert tops[0] == across[0]
    assert tops[1] > across[1]  # overconfident: the line is above the bar


@LAW
@given(NAMES, st.integers(1, 60), st.data())
def test_histograms_say_every_bin_of_every_series(names: list[str], num_bins: int, data: st.DataObject) -> None:
    counts = {name: data.draw(st.lists(st.integers(0, 10**6), min_size=num_bins, max_size=num_bins)) for name in names}
    edges = np.logspace(-4, 3, num_bins + 1).tolist()
    root = parse(histogram(counts, edges=edges, x_label=EVIL, marks={EVIL: 1.0, "far": 1e9}))
    assert sum(element.find("title") is not None for element in root.iter("rect")) == num_bins
    assert len(list(root.iter("polyline"))) == len(names)
    assert sum("stroke-dasharray" in line.attrib for line in root.iter("line")) == 1  # the far one is off the axis


def test_one_value_among_thousands_is_seen_in_a_histogram() -> None:
    root = parse(histogram({"onnx": [100_000, 0, 1]}, edges=[0.1, 1, 10, 100], x_label="x"))
    (line,) = root.iter("polyline")
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    _, first, _, second, _, third, _, ground = heights
    assert first < third <= ground - 2
    assert second == ground


def test_a_picture_with_a_long_side_is_made_smaller() -> None:
    _, _, data = picture(np.zeros((300, 150, 3), np.uint8), max_side_px=72).partition(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as read:
        assert read.size == (36, 72)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("log_y", [False, True])
def test_bars_show_a_figure_that_is_no_number(value: float, log_y: bool) -> None:
    # The noise ratio of a model whose output holds a NaN: the page of a refusal has to be drawn, too.
    parse(bars({"onnx": {"real": value, "random": 1.2}}, y_label="noise ratio", rule=3.0, log_y=log_y))


def test_bars_show_zero_on_a_logarithmic_axis() -> None:
    parse(bars({"onnx": {"real": 0.0, "random": 1.2}}, y_label="noise ratio", log_y=True))


@pytest.mark.parametrize("log_y", [False, True])
def test_lines_without_a_single_number_are_drawn_empty(log_y: bool) -> None:
    # The losses of a training that diverged in its first epoch.
    root = parse(lines({"loss": [math.nan, math.nan]}, x=[1, 2], x_label="epoch", y_label="loss", log_y=log_y))
    assert not list(root.iter("circle"))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_one_figure_alone_is_drawn(value: float) -> None:
    parse(bars({"a": {"b": value}}, y_label="y"))
    parse(lines({"a": [value]}, x=[1], x_label="x", y_label="y"))


def test_taller_bars_stand_for_larger_figures() -> None:
    root = parse(bars({"a": {"s": 1.0}, "b": {"s": 2.0}, "c": {"s": 3.0}}, y_label="y"))
    heights = [float(item.attrib["height"]) for item in root.iter("rect") if item.find("title") is not None]
    assert heights == sorted(heights)
    # Drawn with one decimal each: a twentieth of a unit, twice.
    assert heights[2] - heights[1] == pytest.approx(heights[1] - heights[0], abs=0.2)


@LAW
@given(arrays(np.uint8, st.sampled_from([(3, 5, 1), (3, 5, 3)])))
def test_a_picture_reads_back_equal(image: NDArray[np.uint8]) -> None:
    kind, _, data = picture(image).partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as read:
        np.testing.assert_array_equal(np.asarray(read).reshape(image.shape), image)
