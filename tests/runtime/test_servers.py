"""A server with worker processes: the model answers in each of them, and they end when they are told to."""

from __future__ import annotations

import importlib.util
import io
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onward.bundle import Bundle
from onward.classifier import load

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="gunicorn is not installed here")

PAGE = Path(__file__).parents[2] / "docs" / "servers.md"


def example(language: str) -> str:
    """The first block of the page in that language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["", "preload"])
def test_gunicorn_answers_and_ends(shared_bundle: Bundle, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "server.py").write_text(example("python").replace("threads=1", "threads=2"))
    images = [png(image) for image in np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "server:app", "--bind", f"127.0.0.1:{port}", "--workers", "2"]
    command += ["--graceful-timeout", "20", "--env", f"BUNDLE={shared_bundle.path}", *options]
    server = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        answers = [_ask(f"http://127.0.0.1:{port}", image, server) for image in images]
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=60)
    finally:
        server.kill()
    assert answers == list(load(shared_bundle.path)(images).labels)
    assert server.returncode == 0
    assert time.monotonic() - began < 15, log  # the workers ended; after 20 s gunicorn would kill them
    assert "SIGKILL" not in log


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _ask(address: str, data: bytes, server: subprocess.Popen[str]) -> str:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, data, timeout=30) as response:
                return str(response.read().decode())
        except OSError:  # it has not started yet
            assert server.poll() is None
            time.sleep(0.1)
    raise AssertionError("the server does not answer")
