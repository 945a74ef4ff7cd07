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

from onward.bundle import Bundle
from onward.errors import OutputError
from onward.report import Page
from onward.report.charts import (
    bars,
    heatmap,
    histogram,
    lines,
    reliability,
    scatter,
    stacked,
    standalone,
    violin,
)
from onward.report.page import SERIES, png_data_uri

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
    image = png_data_uri(np.zeros((2, 2, 1), np.uint8))
    page = Page(text, text)
    page.tiles([(text, text, "good")])
    page.section(text, text)
    page.figures(
        [
            (text, bars({text: {text: 1.0}}, y_label=text)),
            (text, lines({text: [1.0, 2.0]}, x=[1, 2], x_label=text, y_label=text)),
            (text, heatmap(np.eye(2, dtype=int), [text, "other"])),
            (text, histogram({text: [1, 2]}, edges=[0.1, 1, 10], x_label=text, marks={text: 1.0})),
            (text, violin({text: [1.0, 2.0]}, x_label=text)),
            (text, stacked({text: {text: 1.0}}, x_label=text)),
            (text, scatter({text: (1.0, 2.0)}, x_label=text, y_label=text, errors={text: (1.0, 3.0)})),
        ]
    )
    page.table([text, "verdict"], [[text, "passed"]])
    page.cards([(image, text, [(text, 0.5, True)], text)])
    page.samples([(image, text, [text, text]), ("", text, [text])])
    page.points([text])
    page.details(text, [text])
    page.footer(text)
    return page


def test_backticks_mark_code_and_what_is_in_them_is_escaped() -> None:
    page = Page("`title`", "See `a <b>`.")
    page.section("Heading", "Run `onward verify`.")
    page.points(["`one` and `two`, but ` alone"])
    page.footer("By `onward demo`.")
    html = page.render()
    for code in ("a &lt;b&gt;", "onward verify", "one", "two", "onward demo"):
        assert f"<code>{code}</code>" in html
    assert "but ` alone" in html


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
    _, _, data = png_data_uri(np.zeros((300, 150, 3), np.uint8), max_side_px=72).partition(",")
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
    kind, _, data = png_data_uri(image).partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as read:
        np.testing.assert_array_equal(np.asarray(read).reshape(image.shape), image)


#: Whatever a measurement that went wrong may hand over.
ANY = st.floats() | st.sampled_from([0.0, 1.0, math.nan, 1e-310, 1.7e308, -1.7e308])
WORDS = st.dictionaries(TEXT | st.just(EVIL), ANY, max_size=14)


@LAW
@given(st.dictionaries(TEXT | st.just(EVIL), st.lists(ANY, max_size=60), max_size=14), st.booleans())
def test_spans_have_a_row_for_each_name_whatever_the_values(rows: dict[str, list[float]], log_x: bool) -> None:
    root = parse(violin(rows, x_label=EVIL, log_x=log_x))
    some = [name for name, values in rows.items() if any(abs(v) < 1e38 and (v > 1e-38 or not log_x) for v in values)]
    # what is said of a row; a name that is cut short has a title of its own, and may have the word in it
    said = [
        item for item in root.iter("title") if re.search(r": median .*, p90 .*, p99 .*; \d+ values?$", item.text or "")
    ]
    assert len(said) == len(some)


@LAW
@given(st.dictionaries(TEXT | st.just(EVIL), WORDS, max_size=6))
def test_stacked_bars_have_every_part_whatever_the_values(rows: dict[str, dict[str, float]]) -> None:
    root = parse(stacked(rows, x_label=EVIL))
    drawn = [element for element in root.iter("rect") if element.find("title") is not None]
    assert len(drawn) == sum(map(len, rows.values()))


@LAW
@given(
    st.dictionaries(TEXT | st.just(EVIL), st.tuples(ANY, ANY), max_size=14),
    st.dictionaries(TEXT | st.just(EVIL), st.tuples(ANY, ANY), max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_scatters_have_every_point_that_has_a_place(
    points: dict[str, tuple[float, float]], errors: dict[str, tuple[float, float]], log_x: bool, log_y: bool
) -> None:
    root = parse(scatter(points, x_label=EVIL, y_label=EVIL, log_x=log_x, log_y=log_y, errors=errors))
    axes = ((0, log_x), (1, log_y))
    shown = [p for p in points.values() if all(abs(p[at]) < 1e38 and (p[at] > 1e-38 or not log) for at, log in axes)]
    assert len(list(root.iter("circle"))) == len(shown)


@LAW
@given(NAMES, st.lists(ANY, max_size=8), st.data(), st.booleans(), st.booleans())
def test_lines_and_bars_take_any_value(
    names: list[str], x: list[float], data: st.DataObject, log_x: bool, log_y: bool
) -> None:
    series = {name: data.draw(st.lists(ANY, min_size=len(x), max_size=len(x))) for name in names}
    parse(lines(series, x=x, x_label=EVIL, y_label=EVIL, log_x=log_x, log_y=log_y))
    values = {name: dict(zip("abcdefgh", line, strict=False)) for name, line in series.items()}
    parse(bars(values, y_label=EVIL, log_y=log_y, rule=data.draw(ANY)))


def test_charts_of_nothing_are_drawn() -> None:
    for svg in (
        lines({}, x=[], x_label="x", y_label="y"),
        lines({"a": []}, x=[], x_label="x", y_label="y", log_x=True, log_y=True),
        bars({}, y_label="y"),
        heatmap(np.zeros((0, 0), int), []),
        histogram({}, edges=[], x_label="x"),
        reliability([]),
        violin({}, x_label="ms"),
        stacked({"a": {}}, x_label="s"),
        scatter({}, x_label="ms", y_label="%"),
    ):
        parse(svg)


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter("text")]


def test_a_logarithmic_x_axis_has_its_ticks_at_the_batch_sizes() -> None:
    root = parse(lines({"onnx": [5, 6, 7, 8]}, x=[1, 8, 32, 128], x_label="batch", y_label="images/s", log_x=True))
    places = [float(item.attrib["cx"]) for item in root.iter("circle")]
    marks = {item.text: float(item.attrib["x"]) for item in root.iter("text")}
    assert [marks[name] for name in ("1", "8", "32", "128")] == places
    assert places[2] - places[1] == pytest.approx(places[3] - places[2], abs=0.2)  # 4 times each; one decimal is drawn


def test_the_marks_of_a_span_stand_at_its_quantiles() -> None:
    values = np.linspace(1, 101, 1001)
    root = parse(violin({"onnx": values}, x_label="ms", log_x=False))
    ticks = [line for line in root.iter("line") if line.get("stroke") == "var(--c0)"]
    p90, p99 = (float(line.attrib["x1"]) for line in ticks if line.get("x1") == line.get("x2"))
    median = float(next(root.iter("circle")).attrib["cx"])
    assert (p99 - median) / (p90 - median) == pytest.approx(49 / 40, abs=0.01)
    assert "51" in texts(root)
    assert any("median 51, p90 91, p99 100; 1,001 values" in (title.text or "") for title in root.iter("title"))


def test_a_span_of_many_values_is_a_small_chart() -> None:
    values = np.random.default_rng(0).lognormal(size=300_000)
    assert len(violin({"onnx": values}, x_label="ms")) < 10_000


def test_the_total_of_stacked_bars_is_written() -> None:
    root = parse(stacked({"onnx": {"import": 0.5, "open": 1.25}, "torch": {"import": 2.0}}, x_label="s"))
    assert {"1.75", "2"} <= set(texts(root))
    widths = [float(item.attrib["width"]) for item in root.iter("rect") if item.find("title") is not None]
    assert (widths[0] + 1) * 4 == pytest.approx(widths[2] + 1, abs=0.3)  # drawn with one decimal, less a gap of 1


def boxes(root: ET.Element) -> list[tuple[float, float, float, float]]:
    """Where the names in a scatter are, at least: 5 units a letter."""
    found = []
    for item in root.iter("text"):
        if item.get("font-size") == "10.5":
            width, x, y = 5.0 * len(item.text or ""), float(item.attrib["x"]), float(item.attrib["y"])
            left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[item.attrib["text-anchor"]]
            found.append((left, y - 8, left + width, y))
    return found


def test_names_in_a_scatter_do_not_cover_each_other() -> None:
    names = (
        "PyTorch",
        "PyTorch, channels_last",
        "TorchScript",
        ".pt2 as loaded",
        "torch.compile, frozen",
        "onnxruntime",
    )
    points = {name: (0.30 + 0.01 * at, 91.2) for at, name in enumerate(names)} | {"OpenVINO": (0.011, 91.3)}
    placed = boxes(parse(scatter(points, x_label="ms", y_label="%")))
    assert len(placed) == 7
    for at, one in enumerate(placed):
        assert one[0] >= 0
        assert one[2] <= 460
        for other in placed[at + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_legend_that_has_no_room_beside_the_title_stands_below_the_chart() -> None:
    names = ("PyTorch, channels_last", "torch.compile, frozen", ".pt2 as loaded", "onnxruntime", "OpenVINO", "e" * 99)
    few = parse(lines({"onnx": [1.0, 2]}, x=[1, 2], x_label="x", y_label="images/s"))
    many = parse(lines({name: [1.0, 2] for name in names}, x=[1, 2], x_label="x", y_label="images/s"))
    assert few.attrib["viewBox"] == "0 0 460 250"
    _, _, width, height = map(float, many.attrib["viewBox"].split())
    swatches = list(many.iter("rect"))
    assert len(swatches) == len(names)
    assert all(0 <= float(item.attrib["x"]) < width and 250 < float(item.attrib["y"]) < height for item in swatches)


def test_twelve_series_have_a_colour_each_on_a_page_and_alone() -> None:
    svg = lines({f"series {at}": [1.0 + at] for at in range(13)}, x=[1], x_label="x", y_label="y")
    used = set(re.findall(r"var\((--c\d+)\)", svg))
    assert used == {f"--c{at}" for at in range(12)}
    for document in (Page("title", "lead").render(), standalone(svg)):
        assert all(f"{name}:" in document for name in used)
    assert len(set(SERIES)) == 12


def luminance(colour: str) -> float:
    """Source: WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("at", "panel"), [(0, "#f6f7f9"), (1, "#1d2126")])
def test_the_colours_of_series_stand_out_from_the_panel(at: int, panel: str) -> None:
    for pair in SERIES:
        low, high = sorted((luminance(pair[at]), luminance(panel)))
        assert (high + 0.05) / (low + 0.05) >= 2.99, pair  # 3, rounded to whole steps of 256
