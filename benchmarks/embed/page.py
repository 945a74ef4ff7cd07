"""Page: the web app in headless Chromium, from a server on this machine."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.embed.figures import NUM_COLD, Figures, size_bytes
from onward.cli.console import remark
from onward.embedding.browser_runtime import WASM_FILES

__all__ = ["measure_page", "served"]

HERE = Path(__file__).parent
ROOM_FOR_MEASURING_MS = 120_000


def measure_page(site: Path, model_bytes: int) -> list[Figures]:
    """First answer from an empty cache, then latency and throughput in the page; nothing where there is no Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        remark("Chromium is not here: the page is left out")
        return []
    from playwright.sync_api import sync_playwright

    shutil.copy(HERE / "turns.mjs", site)
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        cold = statistics.median(_first_answer_s(browser, address, site) for _ in range(NUM_COLD))
        # Playwright evaluates by eval, which the page forbids
        page = browser.new_context(bypass_csp=True).new_page()
        page.set_default_timeout(ROOM_FOR_MEASURING_MS)
        page.goto(address)
        page.wait_for_selector("#app:not([hidden])")
        found = page.evaluate((HERE / "page.js").read_text())
        browser.close()
    runtime_bytes = sum((site / "onnxruntime" / name).stat().st_size for name in WASM_FILES)
    remark(f"the page ran on {found['backend']}; with WebGPU's files {size_bytes(site / 'onnxruntime') / 1e6:.1f} MB")
    over_bare = {int(size): ratio for size, ratio in found["over_bare"].items()}
    figures = (found["latency_ms"], found["images_per_s"], over_bare, found["noise_ratio"])
    return [Figures("--target web", model_bytes, runtime_bytes, cold, *figures)]


def _first_answer_s(browser: Any, address: str, site: Path) -> float:
    """From the address to the label of a picture, in a browser that has seen nothing of it before."""
    context = browser.new_context()
    page = context.new_page()
    start = time.perf_counter()
    page.goto(address)
    page.wait_for_selector("#app:not([hidden])")
    page.set_input_files("#file", site / "golden" / "card.png")
    page.wait_for_selector("#bars li")
    taken = time.perf_counter() - start
    context.close()
    return taken


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of an app, served as its README says."""
    with subprocess.Popen(
        [sys.executable, str(site / "serve.py"), "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        found = re.search(r"http\S+", server.stdout.readline())
        assert found is not None
        try:
            yield found[0]
        finally:
            server.terminate()
