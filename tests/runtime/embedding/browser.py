"""A headless Chromium and a served app, for the tests of the page.

Tests wait for elements, never for functions: Playwright evaluates those by `eval`, which the page's policy forbids.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

#: Of whatever the page is to do; nothing is measured by it.
TIMEOUT_MS = 120_000


@dataclass
class Tab:
    """A page of the app, and what it did unasked."""

    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))

    def open(self, address: str) -> Tab:
        self.page.goto(address)
        self.page.wait_for_selector("#app", state="visible")
        return self

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))


def lack(reason: str) -> NoReturn:
    """Skip; under CI, where it must be there, fail."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def find_chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    lack("there is no Chromium: apt-get install chromium")


@contextmanager
def open_browser() -> Iterator[Any]:
    """Chromium as the machine has it: Playwright downloads none."""
    path = find_chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lack("there is no Playwright: uv sync --group dev")
    # containers have neither a sandbox for root nor a camera
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    once = "--js-flags=--no-wasm-tier-up"  # each tab would compile the runtime twice, to infer faster the second time
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", once, *camera])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_tab(browser: Any, *, script: str | None = None, **options: Any) -> Iterator[Tab]:
    """A tab without cookies, caches or service workers of others.

    Args:
        script: Runs before the page's own.
        options: Playwright's, of a context.
    """
    context = browser.new_context(**({"service_workers": "block"} | options))
    context.set_default_timeout(TIMEOUT_MS)
    if script:
        context.add_init_script(script)
    try:
        tab = Tab(context.new_page())
        tab.listen()
        yield tab
    finally:
        context.close()


@contextmanager
def served(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that prints its address first; the process and the address."""
    process = subprocess.Popen(
        [sys.executable, "-u", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield process, re.findall(r"http://[^\s()]+", line)[0]
    finally:
        process.terminate()
        process.communicate()


def serve(app: Path) -> list[str]:
    """The app's own server."""
    return [str(app / "serve.py"), "--port", "0"]


CACHING = """
import http.server, sys
from functools import partial

class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def end_headers(self):
        if sys.argv[2]:
            self.send_header("Cache-Control", sys.argv[2])
        super().end_headers()

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=sys.argv[1]))
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
"""


def serve_cached(app: Path, cache_control: str) -> list[str]:
    """A static host that lets browsers keep files: by this header, or if it is empty by their age alone."""
    return ["-c", CACHING, str(app), cache_control]


def serve_plainly(app: Path) -> list[str]:
    """A static host that knows nothing of isolation."""
    return ["-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(app)]
