"""The page, in a headless Chromium: it answers as Python does, verifies itself, and says plainly what goes wrong."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import onward
from onward.bundle import Bundle
from onward.embedding import BrowserRuntime, EmbedOptions, embed
from onward.errors import UsageError
from onward.images.decode import decode as decode_file
from onward.images.decode import prepare
from onward.parity import MAX_NOISE_RATIO
from onward.signature import Preprocess, Signature
from tests.bundles import DIGITS_INT8, path_of
from tests.image_files import encode, exif_of, png_of_16_bits
from tests.runtime.embedding.browser import (
    Tab,
    lack,
    open_browser,
    open_tab,
    serve,
    serve_cached,
    serve_plainly,
    served,
)

pytestmark = pytest.mark.long

#: Two builds of onnxruntime on the same pixels; measured: 1e-7.
RUNTIME_ATOL = 1e-5
#: The page shows a tenth of a percent.
SHOWN_ATOL = 0.0501
#: Field 6 of ModelProto, `doc_string`: changes an ONNX file and nothing that it computes.
ONNX_REMARK = b"\x32\x04anew"
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", 'it\'s "quoted" & $name', "שלום 123")


@pytest.fixture(scope="module")
def app(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app of a small, trained bundle."""
    runtime = BrowserRuntime(download=True, webgpu=False)
    try:
        out = tmp_path_factory.mktemp("app") / "digits"
        return embed(shared_bundle, "web", out, EmbedOptions(title="Digits", browser_runtime=runtime)).path
    except UsageError as error:
        lack(str(error))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(app: Path) -> Iterator[str]:
    with served(serve(app)) as (_, at):
        yield at


@pytest.fixture(scope="module")
def shared_tab(browser: Any, address: str) -> Iterator[Tab]:
    with open_tab(browser) as tab:
        yield tab.open(address)


@pytest.fixture
def tab(shared_tab: Tab, address: str) -> Iterator[Tab]:
    """One tab for all tests that leave it as it was; nothing may be thrown in it, and all it asks for is its own."""
    shared_tab.page.check("[value=picture]")
    yield shared_tab
    assert shared_tab.errors == []
    assert shared_tab.dialogs == []
    assert [url for url in shared_tab.requests if not url.startswith((address, f"blob:{address}"))] == []


def upload(tab: Tab, content: bytes, name: str = "picture.png") -> None:
    """Choose a file, and wait for its answer or for what is wrong with it."""
    tab.page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": content})
    tab.page.wait_for_selector("#problem:visible, #label:not(.placeholder)")


def shown_percentages(tab: Tab) -> dict[str, float]:
    bars = tab.page.locator("#bars li").all()
    texts = [(bar.locator(".name").inner_text(), bar.locator(".percent").inner_text()) for bar in bars]
    return {name: 0.0 if percent.startswith("<") else float(percent.removesuffix(" %")) for name, percent in texts}


def decode(tab: Tab, content: bytes, exif: str = "apply") -> NDArray[np.uint8]:
    """What decode.js makes of a file: uint8 `(height, width, 3)`."""
    script = """async ([encoded, exif]) => {
      const { decode } = await import("./decode.js");
      const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
      const { width, height, data } = await decode(bytes.buffer, { exif });
      return [width, height, Array.from(data)];
    }"""
    width, height, data = tab.page.evaluate(script, [base64.b64encode(content).decode(), exif])
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


def gradient(width: int = 60, height: int = 40) -> NDArray[np.uint8]:
    """uint8 `(height, width, 4)`, every channel another pattern."""
    down, across = np.mgrid[:height, :width]
    return np.stack([across * 4, down * 6, across * down, across * 7 + down * 3], -1).astype(np.uint8)


@pytest.fixture
def photo() -> bytes:
    """Larger than the model takes, in colour, and with alpha."""
    return encode(Image.fromarray(gradient()))


def test_an_upload_is_answered_as_python_answers(
    tab: Tab, shared_bundle: Bundle, pixels: NDArray[np.uint8], photo: bytes
) -> None:
    large = Image.fromarray(pixels[0, ..., 0]).resize((300, 260))
    for content in (encode(Image.fromarray(pixels[1, ..., 0])), encode(large, "JPEG"), photo):
        upload(tab, content)
        with onward.load(shared_bundle.path) as classifier:
            expected = classifier(content)
        assert tab.text("#label") == expected.labels[0]
        percentages = shown_percentages(tab)
        assert set(percentages) == set(shared_bundle.signature.labels)
        for label, probability in zip(shared_bundle.signature.labels, expected.probabilities[0], strict=True):
            assert percentages[label] == pytest.approx(100 * probability, abs=SHOWN_ATOL)
        assert list(percentages.values()) == sorted(percentages.values(), reverse=True)


def test_the_model_sees_the_very_pixels_that_python_sees(tab: Tab, shared_bundle: Bundle, photo: bytes) -> None:
    upload(tab, photo)
    width, height, data = tab.page.evaluate(
        """() => {
          const seen = document.querySelector("#seen");
          const { data } = seen.getContext("2d").getImageData(0, 0, seen.width, seen.height);
          return [seen.width, seen.height, Array.from(data)];
        }"""
    )
    with Image.open(io.BytesIO(photo)) as image:
        expected = prepare(image, shared_bundle.signature)
    np.testing.assert_array_equal(np.reshape(data, (height, width, 4))[..., :1], expected)


def test_probabilities_equal_those_of_onward_load(tab: Tab, shared_bundle: Bundle, pixels: NDArray[np.uint8]) -> None:
    script = """async (images) => {
      const { Classifier, downloadModel, numThreads, readModel } = await import("./classifier.js");
      const { signature, model } = await readModel();
      const { bytes } = await downloadModel(model);
      const classifier = await Classifier.open(bytes, signature, "wasm", numThreads());
      const answers = [];
      for (const image of images) answers.push(await classifier.classify(new Uint8ClampedArray(image)));
      await classifier.close();
      return answers.map(({ probabilities }) => Array.from(probabilities));
    }"""
    found = tab.page.evaluate(script, pixels.reshape(len(pixels), -1).tolist())
    with onward.load(shared_bundle.path) as classifier:
        np.testing.assert_allclose(found, classifier(pixels).probabilities, rtol=0, atol=RUNTIME_ATOL)


def test_a_drawing_is_answered_while_it_is_drawn_and_cleared(tab: Tab) -> None:
    tab.page.check("[value=draw]")
    assert tab.text("#label") == "Nothing yet"
    box = tab.page.locator("#canvas").bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ((0.3, 0.2), (0.7, 0.2), (0.5, 0.8))]
    tab.page.mouse.move(*at[0])
    tab.page.mouse.down()
    for point in at[1:]:
        tab.page.mouse.move(*point, steps=4)
    tab.page.wait_for_selector("#label:not(.placeholder)")
    tab.page.mouse.up()
    corner, middle = tab.page.evaluate(
        """() => [[5, 5], [224, 90]].map(([x, y]) => {
          return document.querySelector("#canvas").getContext("2d").getImageData(x, y, 1, 1).data[0];
        })"""
    )
    assert (corner, middle) == (0, 255)  # white on black, as this model's training images are
    tab.page.click("#clear")
    assert tab.text("#label") == "Nothing yet"


def test_keys_alone_choose_draw_clear_and_verify(tab: Tab) -> None:
    page, keyboard = tab.page, tab.page.keyboard
    page.focus("[value=picture]")
    keyboard.press("ArrowRight")
    keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "canvas"
    assert page.is_visible("#marker")
    for key in ("Space", *["ArrowDown"] * 4, "Space"):
        keyboard.press(key)
    page.wait_for_selector("#label:not(.placeholder)")
    keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert (page.evaluate("document.activeElement.id"), outline) == ("clear", "solid")
    keyboard.press("Enter")
    assert tab.text("#label") == "Nothing yet"
    for focused in ("provider", "verify"):
        keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == focused
    keyboard.press("Enter")
    page.wait_for_selector("#verdict", state="visible")


def test_a_picture_can_be_dropped_and_pasted(tab: Tab, photo: bytes) -> None:
    script = """([kind, encoded]) => {
      const data = new DataTransfer();
      const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
      data.items.add(new File([bytes], `${kind}.png`));
      const options = { bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data };
      document.body.dispatchEvent(kind === "drop" ? new DragEvent(kind, options) : new ClipboardEvent(kind, options));
    }"""
    for kind in ("drop", "paste"):
        tab.page.check("[value=draw]")
        tab.page.evaluate(script, [kind, base64.b64encode(photo).decode()])
        tab.page.wait_for_selector("#label:not(.placeholder)")
        assert tab.text("#file-name") == f"{kind}.png"
        assert tab.page.is_visible("#shown")


def test_an_example_is_answered(tab: Tab) -> None:
    tab.page.click("#examples button >> nth=1")
    tab.page.wait_for_selector("#label:not(.placeholder)")
    assert tab.text("#file-name") == "Example 2"
    assert tab.page.locator("#examples canvas").count() == 8


def test_the_page_computes_its_noise_ratio(tab: Tab, shared_bundle: Bundle) -> None:
    tab.page.click("#verify")
    tab.page.wait_for_selector("#verdict", state="visible")
    assert 0 < float(tab.text("#ratio")) <= MAX_NOISE_RATIO
    assert tab.text("#verdict-words") == "Passed"
    rows = [row.inner_text().split("\t") for row in tab.page.locator("#rows tr").all()]
    kinds = shared_bundle.golden().inputs
    assert [row[:2] for row in rows] == [[kind, output] for kind in kinds for output in ("logits", "probabilities")]
    assert all(row[-1] == "passed" for row in rows)
    cards = {
        card[0]: card[-1] for card in (row.inner_text().split("\t") for row in tab.page.locator("#cards tr").all())
    }
    assert cards == dict.fromkeys(("card.png", "transparent.png", "deep.png", "card.jpg", "turned.jpg"), "passed")


def test_a_model_that_drifted_fails_in_words(browser: Any, address: str, app: Path) -> None:
    reference = np.fromfile(app / "golden/real.logits.bin", "<f8")
    with open_tab(browser) as tab:
        tab.page.route("**/real.logits.bin", lambda route: route.fulfill(body=(reference + 1e-3).tobytes()))
        tab.open(address).page.click("#verify")
        tab.page.wait_for_selector("#verdict", state="visible")
        assert float(tab.text("#ratio")) > MAX_NOISE_RATIO
        assert tab.text("#verdict-words").startswith("Failed")
        assert tab.page.locator("#rows td.failed").count() == 1


def test_a_model_of_lower_precision_is_compared_with_what_it_gave(
    browser: Any, app: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("app") / "int8"
    options = EmbedOptions(artifact="onnx-int8", browser_runtime=BrowserRuntime(download=True, webgpu=False))
    int8 = embed(Bundle.open(path_of(DIGITS_INT8)), "web", out, options).path
    recorded = np.fromfile(int8 / "golden/random.logits.bin", "<f4")
    with served(serve(int8)) as (_, at), open_tab(browser) as tab:
        tab.open(at).page.click("#verify")
        tab.page.wait_for_selector("#verdict", state="visible")
        assert 0 <= float(tab.text("#ratio")) <= 2
        assert tab.text("#verdict-words") == "Passed"
        assert tab.text("#verify-heading") == "Does the model compute here what was measured?"
        assert "int8" in tab.text("#about")
        shown = " ".join(tab.text("[aria-labelledby=verify-heading]").split())
        assert "quantisation error" in shown.lower()
        assert "above 2 fails" in shown
        assert "noise ratio" not in shown.lower()
        tab.page.route("**/random.logits.bin", lambda route: route.fulfill(body=(recorded + 1).tobytes()))
        tab.page.click("#verify")
        tab.page.wait_for_selector("#verdict.failed", state="visible")
        assert float(tab.text("#ratio")) > 2
        assert tab.page.locator("#rows td.failed").count() == 1
        assert tab.errors == []


def test_the_number_of_threads_can_be_one(browser: Any, address: str, photo: bytes) -> None:
    with open_tab(browser) as tab:
        tab.open(f"{address}?threads=1")
        assert tab.text("#backend") == "WebAssembly, SIMD, 1 thread"
        upload(tab, photo)
        assert tab.page.is_hidden("#problem")


def test_on_a_plain_host_it_runs_at_once_and_with_threads_after_a_reload(browser: Any, app: Path, photo: bytes) -> None:
    with served(serve_plainly(app)) as (_, at), open_tab(browser, service_workers="allow") as tab:
        tab.open(at)
        assert tab.text("#backend") == "WebAssembly, SIMD, 1 thread (page is not cross-origin isolated)"
        upload(tab, photo)
        assert tab.page.is_hidden("#problem")
        with tab.page.expect_navigation():
            tab.page.click("#reload")
        tab.page.wait_for_selector("#app", state="visible")
        assert tab.page.evaluate("crossOriginIsolated")
        assert "not cross-origin" not in tab.text("#backend")


def test_it_works_offline_after_the_first_visit(browser: Any, app: Path, photo: bytes) -> None:
    with served(serve(app)) as (process, at), open_tab(browser, service_workers="allow") as tab:
        tab.open(at).page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        process.terminate()
        process.wait()
        tab.page.reload()
        tab.page.wait_for_selector("#app", state="visible")
        upload(tab, photo)
        tab.page.click("#verify")
        tab.page.wait_for_selector("#verdict", state="visible")
        assert tab.text("#verdict-words") == "Passed"


@pytest.mark.parametrize(
    ("service_workers", "cache_control"),
    [("allow", "public, max-age=31536000, immutable"), ("block", "")],
)
def test_a_page_that_was_deployed_anew_runs_the_new_model_at_the_next_visit(
    browser: Any, app: Path, tmp_path: Path, service_workers: str, cache_control: str
) -> None:
    site = tmp_path / "site"
    shutil.copytree(app, site)
    _made_days_ago(site, 30)
    with (
        served(serve_cached(site, cache_control)) as (_, at),
        open_tab(browser, service_workers=service_workers) as tab,
    ):
        tab.open(at)
        if service_workers == "allow":
            tab.page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        old = tab.text("#about")
        document = json.loads((site / "model.json").read_text())
        content = (site / "model.onnx").read_bytes() + ONNX_REMARK
        document["model"] |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        (site / "model.onnx").write_bytes(content)
        (site / "model.json").write_text(json.dumps(document | {"title": "Anew"}))
        _made_days_ago(site, 20)
        tab.page.goto("about:blank")
        tab.open(at)
        assert tab.text("#title") == "Anew"
        assert document["model"]["sha256"][:12] in tab.text("#about") != old


def _made_days_ago(folder: Path, days: int) -> None:
    """Files that have not changed for long are kept for long by browsers that are told nothing."""
    at = time.time() - days * 86_400
    for path in folder.rglob("*"):
        os.utime(path, (at, at))


def test_the_camera_is_classified_or_its_refusal_is_said(browser: Any, address: str) -> None:
    with open_tab(browser) as tab:
        page = tab.open(address).page
        page.check("[value=camera]")
        page.click("#camera")
        page.wait_for_selector("#snapshot:enabled")
        page.click("#snapshot")
        page.wait_for_selector("#label:not(.placeholder)")
        page.click("#camera")
        assert page.evaluate("document.querySelector('#video').srcObject") is None
        page.evaluate(
            """() => {
              navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotAllowedError"));
            }"""
        )
        page.click("#camera")
        page.wait_for_selector("#problem", state="visible")
        assert tab.text("#problem").startswith("The camera was not allowed.")


def test_a_narrow_window_never_scrolls_sideways(browser: Any, address: str, photo: bytes) -> None:
    viewport = {"width": 360, "height": 740}
    with open_tab(browser, viewport=viewport, reduced_motion="reduce") as tab:
        upload(tab.open(address), photo, "a-name-that-is-much-longer-than-a-telephone-is-wide-" * 3 + ".png")
        tab.page.click("#verify")
        tab.page.wait_for_selector("#verdict", state="visible")
        assert tab.page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        scrolls = "Array.from(document.querySelectorAll('.scroll'), (table) => table.scrollWidth > table.clientWidth)"
        assert tab.page.evaluate(scrolls) == [False, False]  # the tables are stacked
        tab.page.check("[value=draw]")
        assert tab.page.evaluate("document.documentElement.scrollWidth") == viewport["width"]


def test_it_is_dark_for_whom_wants_it_dark(tab: Tab) -> None:
    levels = {}
    for scheme in ("dark", "light"):
        tab.page.emulate_media(color_scheme=scheme)
        for style in ("backgroundColor", "color"):
            colour = tab.page.evaluate(f"getComputedStyle(document.body).{style}")
            levels[scheme, style] = max(map(int, re.findall(r"\d+", colour)))
    assert max(levels["dark", "backgroundColor"], levels["light", "color"]) < 64
    assert min(levels["light", "backgroundColor"], levels["dark", "color"]) > 192


BAD_FILES = {
    "empty": (b"", "The file is empty: it has 0 bytes"),
    "text": (b"no picture at all", "The browser cannot read this file as a picture"),
    "100 megapixels": (
        encode(Image.new("P", (10_000, 10_001))),
        "The picture is too large: 10000 × 10001 pixels, expected at most 89,478,485",
    ),
    "truncated PNG": (encode(Image.effect_noise((90, 90), 60))[:-400], "The picture is damaged"),
    "truncated JPEG": (encode(Image.effect_noise((90, 90), 60), "JPEG")[:-400], "The picture is damaged"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_answered_with_a_sentence(tab: Tab, kind: str, photo: bytes) -> None:
    content, problem = BAD_FILES[kind]
    upload(tab, photo)
    upload(tab, content)
    assert tab.text("#problem").startswith(problem)
    assert tab.text("#label") == "Nothing yet"
    upload(tab, photo)
    assert tab.page.is_hidden("#problem")


def _pictures() -> Iterator[tuple[str, bytes]]:
    rgba = Image.fromarray(gradient())
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    yield "rgb", encode(rgb)
    yield "alpha", encode(rgba)
    yield "grey", encode(grey)
    yield "grey with alpha", encode(rgba.convert("LA"))
    yield "palette", encode(rgb.quantize(64))
    yield "palette with transparency", encode(rgb.quantize(64), transparency=3)
    yield "1 bit", encode(grey.convert("1"))
    yield "webp with alpha", encode(rgba, "WEBP", lossless=True, exact=True)
    yield "bmp", encode(rgb, "BMP")
    yield "animated gif", encode(rgb.quantize(64), "GIF", save_all=True, append_images=[grey.convert("P")])
    yield "animated png", encode(rgb, save_all=True, append_images=[grey.convert("RGB")])
    for orientation in range(1, 9):
        exif = exif_of(orientation)
        yield f"orientation {orientation}", encode(rgb, exif=exif)
        yield f"orientation {orientation} in WebP", encode(rgb, "WEBP", lossless=True, exif=exif)
    little = exif_of(6)
    little.endian = "<"
    yield "orientation 6, little-endian", encode(rgb, exif=little)
    levels = np.random.default_rng(6).integers(0, 65536, (30, 20, 4))
    for channels in range(1, 5):
        yield f"16 bits, {channels} channels", png_of_16_bits(levels[..., :channels])


PICTURES = dict(_pictures())


@pytest.mark.parametrize("kind", PICTURES)
def test_lossless_pictures_are_decoded_as_pillow_does(tab: Tab, kind: str) -> None:
    for exif in ("ignore", "apply"):
        expected = read_as_onward_reads(PICTURES[kind], exif)
        np.testing.assert_array_equal(decode(tab, PICTURES[kind], exif), expected, err_msg=exif)


def read_as_onward_reads(content: bytes, exif: str) -> NDArray[np.uint8]:
    signature = Signature(1, 1, 3, (0.5,) * 3, (0.5,) * 3, ("a", "b"), Preprocess(exif=exif))
    return np.asarray(decode_file(content, signature).image)


def test_a_turned_jpeg_is_turned_only_if_the_model_was_trained_so(tab: Tab) -> None:
    """Browsers turn it whatever `imageOrientation` says."""
    rgb = Image.fromarray(gradient()).convert("RGB").resize((96, 64))
    for orientation in (1, 3, 6, 8):
        content = encode(rgb, "JPEG", quality=95, exif=exif_of(orientation))
        for exif in ("ignore", "apply"):
            expected = read_as_onward_reads(content, exif)
            levels = np.abs(decode(tab, content, exif).astype(int) - expected)
            assert levels.mean() < 1, (orientation, exif)
    damaged = content.replace(b"Exif\0\0MM", b"Exif\0\0??")
    assert decode(tab, damaged).shape == (64, 96, 3)
    assert decode(tab, content[:20] + content[20:].replace(b"\0\0\0\x08", b"\xff\0\0\x08", 1)).shape == (64, 96, 3)


def test_cmyk_is_decoded_sensibly(tab: Tab) -> None:
    rgb = Image.fromarray(gradient()).convert("RGB")
    cmyk = encode(rgb.convert("CMYK"), "JPEG", quality=95)
    with Image.open(io.BytesIO(cmyk)) as image:
        levels = np.abs(decode(tab, cmyk).astype(int) - np.asarray(image.convert("RGB")))
    assert levels.mean() < 1  # decoders of JPEG may differ; Chromium's and Pillow's are one


def test_without_webgl_pictures_are_still_decoded(browser: Any, address: str, photo: bytes) -> None:
    script = """const getContext = OffscreenCanvas.prototype.getContext;
    OffscreenCanvas.prototype.getContext = function (kind, ...rest) {
      return kind === "webgl2" ? null : getContext.call(this, kind, ...rest);
    };"""
    with open_tab(browser, script=script) as tab:
        upload(tab.open(address), photo)
        assert tab.page.is_hidden("#problem")


def test_a_changed_model_is_refused_with_both_digests(browser: Any, address: str, app: Path) -> None:
    content = (app / "model.onnx").read_bytes()
    with open_tab(browser) as tab:
        tab.page.route("**/model.onnx", lambda route: route.fulfill(body=content[:-1] + b"?"))
        tab.page.goto(address)
        tab.page.locator("#notice", has_text="SHA-256").wait_for()
        described = json.loads((app / "model.json").read_text())["model"]
        assert f"expected {described['sha256'][:12]}" in tab.text("#notice")
        assert re.search(r"begins with [0-9a-f]{12},", tab.text("#notice"))
        assert tab.page.is_hidden("#app")


@pytest.mark.parametrize(
    ("script", "selector", "text"),
    [
        ("WebAssembly.validate = () => false;", "#notice", "This browser has no WebAssembly with SIMD"),
        (
            "Object.defineProperty(Crypto.prototype, 'subtle', { value: undefined });",
            "#about",
            "not checked: the check needs HTTPS",
        ),
    ],
)
def test_what_a_browser_lacks_is_said(browser: Any, address: str, script: str, selector: str, text: str) -> None:
    with open_tab(browser, script=script) as tab:
        tab.page.goto(address)
        tab.page.locator(selector, has_text=text).wait_for()


def test_a_file_that_is_missing_is_named(browser: Any, address: str) -> None:
    with open_tab(browser) as tab:
        tab.page.route("**/model.onnx", lambda route: route.fulfill(status=404))
        tab.page.goto(address)
        tab.page.locator("#notice", has_text="404").wait_for()
        assert tab.text("#notice").startswith("model.onnx: the server answered 404, expected 200.")


def test_opened_as_a_file_it_says_what_to_run(browser: Any, app: Path) -> None:
    with open_tab(browser) as tab:
        tab.page.goto((app / "index.html").as_uri())
        assert "python3 serve.py" in tab.text("#notice")
        assert tab.page.is_hidden("#app")


def test_labels_are_text_and_never_markup(browser: Any, address: str, app: Path, photo: bytes) -> None:
    document = json.loads((app / "model.json").read_text())
    document["signature"]["labels"] = [f"{label} {at}" for at in range(3) for label in HOSTILE][:10]
    document["title"] = "<img src=x onerror=alert(3)>"
    with open_tab(browser) as tab:
        tab.page.route("**/model.json", lambda route: route.fulfill(json=document))
        upload(tab.open(address), photo)
        shown = tab.page.locator("#bars .name").all_text_contents()
        assert sorted(shown) == sorted(document["signature"]["labels"])
        assert tab.page.text_content("#label") == shown[0]
        assert (tab.page.title(), tab.page.text_content("#title")) == (document["title"], document["title"])
        assert tab.page.locator("#bars img, #bars script, #label > *, #title > *").count() == 0
        assert (tab.dialogs, tab.errors) == ([], [])


@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_an_upload_is_turned_if_the_signature_says_so(
    browser: Any, address: str, app: Path, shared_bundle: Bundle, pixels: NDArray[np.uint8], exif: str
) -> None:
    document = json.loads((app / "model.json").read_text())
    document["signature"]["preprocess"]["exif"] = exif
    photograph = encode(Image.fromarray(pixels[1, ..., 0]), exif=exif_of(6))
    with open_tab(browser) as tab, onward.load(shared_bundle.path, exif=exif) as classifier:
        tab.page.route("**/model.json", lambda route: route.fulfill(json=document))
        upload(tab.open(address), photograph)
        expected = classifier(photograph)
        assert tab.text("#label") == expected.labels[0]
        for label, probability in zip(shared_bundle.signature.labels, expected.probabilities[0], strict=True):
            assert shown_percentages(tab)[label] == pytest.approx(100 * probability, abs=SHOWN_ATOL)
        turned = tab.page.evaluate("getComputedStyle(document.querySelector('#shown')).imageOrientation")
        assert turned == {"ignore": "none", "apply": "from-image"}[exif]
