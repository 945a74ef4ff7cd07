"""Gallery: the pictures of docs/embedding/, made anew from a bundle of Fashion-MNIST and one of the digits.

    python -m benchmarks.embed.gallery FASHION DIGITS

The pages are those that `onward embed --target web` writes; headless Chromium uploads, draws and verifies.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from PIL import Image

from benchmarks.embed.page import served
from onward.bundle import Bundle
from onward.cli.console import app, run
from onward.embedding import BrowserRuntime, EmbedOptions, embed
from onward.errors import UsageError

OUT = Path("docs/embedding")
DESKTOP, PHONE = (1180, 760), (390, 760)
#: A three, in shares of the canvas.
STROKE = (
    (0.33, 0.2),
    (0.52, 0.13),
    (0.66, 0.24),
    (0.6, 0.42),
    (0.45, 0.47),
    (0.64, 0.55),
    (0.68, 0.72),
    (0.53, 0.87),
    (0.32, 0.82),
)
COLOURS = 256


@dataclass(frozen=True)
class Shot:
    """One picture.

    Args:
        name: Of the file.
        scheme: `light` or `dark`.
        size: Of the window, in CSS pixels.
        acts: What is done before it is taken.
    """

    name: str
    scheme: Literal["light", "dark"]
    size: tuple[int, int]
    acts: tuple[Callable[[Any], None], ...]


def main(
    fashion: Annotated[Path, typer.Argument(metavar="FASHION", help="A bundle of Fashion-MNIST.")],
    digits: Annotated[Path, typer.Argument(metavar="DIGITS", help="A bundle of the digits.")],
    out: Annotated[Path, typer.Option(help="Where the pictures go.")] = OUT,
) -> None:
    """Take the pictures of docs/embedding/."""
    out.mkdir(parents=True, exist_ok=True)
    of_fashion = [
        Shot("fashion-verify", "light", DESKTOP, (try_example, verify)),
        Shot("fashion-dark", "dark", DESKTOP, (try_example,)),
        Shot("fashion-phone", "light", PHONE, (try_example,)),
    ]
    of_digits = [
        Shot("digits-light", "light", DESKTOP, (draw,)),
        Shot("digits-dark", "dark", DESKTOP, (draw, verify)),
        Shot("digits-phone", "dark", PHONE, (draw,)),
    ]
    take(Bundle.open(fashion), "Fashion", of_fashion, out)
    take(Bundle.open(digits), "Handwritten digits", of_digits, out)


def take(bundle: Bundle, title: str, shots: list[Shot], out: Path) -> None:
    """Write the page, serve it, and take its pictures."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        raise UsageError("Chromium is not installed.")
    with tempfile.TemporaryDirectory() as folder:
        options = EmbedOptions(title, browser_runtime=BrowserRuntime(download=True))
        site = embed(bundle, "web", Path(folder) / "site", options).path
        with served(site) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for shot in shots:
                page = browser.new_page(
                    viewport={"width": shot.size[0], "height": shot.size[1]}, color_scheme=shot.scheme
                )
                page.goto(address)
                page.wait_for_selector("#app", state="visible")
                for act in shot.acts:
                    act(page)
                path = out / f"{shot.name}.png"
                page.screenshot(path=path, full_page=True)
                page.close()
                _shrink(path)
            browser.close()


def try_example(page: Any) -> None:
    """Classify the first of the real golden samples."""
    page.click("#example")
    page.wait_for_selector("#label:not(.placeholder)")


def draw(page: Any) -> None:
    """Draw a digit by mouse."""
    page.check("[name=source][value=draw]", force=True)
    box = page.locator("#canvas").bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in STROKE]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=8)
    page.mouse.up()
    page.wait_for_selector("#label:not(.placeholder)")


def verify(page: Any) -> None:
    """Press the button, and wait for the verdict."""
    page.click("#verify")
    page.wait_for_selector("#verdict", state="visible")


def _shrink(path: Path) -> None:
    with Image.open(path) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    application = app(main.__doc__ or "")
    application.command()(main)
    run(application, "python -m benchmarks.embed.gallery")
