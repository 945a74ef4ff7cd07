"""A server with worker processes: the model answers in each of them, and they end when they are told to."""

from __future__ import annotations

import importlib.util
import io
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from onward.bundle import Bundle
from onward.classifier import load

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="gunicorn is not installed here")

#: docs/servers.md shows this file.
APP = """
import io
import os

import numpy as np
import onward

classifier = onward.load(os.environ["BUNDLE"], threads=2, spin=False)


def app(environ, start_response):
    pixels = np.load(io.BytesIO(environ["wsgi.input"].read()))
    labels = ",".join(classifier(pixels).labels)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {labels}".encode()]
"""


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["", "preload"])
def test_gunicorn_answers_and_ends(shared_bundle: Bundle, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "server.py").write_text(APP)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), np.uint8)
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "server:app", "--bind", f"127.0.0.1:{port}", "--workers", "2"]
    command += ["--graceful-timeout", "20", "--env", f"BUNDLE={shared_bundle.path}", *options]
    server = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        answers = [_ask(f"http://127.0.0.1:{port}", buffer.getvalue(), server) for _ in range(6)]
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=60)
    finally:
        server.kill()
    assert {labels for _, labels in answers} == {",".join(load(shared_bundle.path)(pixels).labels)}
    assert all(int(worker) != server.pid for worker, _ in answers)
    assert server.returncode == 0
    assert time.monotonic() - began < 15, log  # the workers ended; after 20 s gunicorn would kill them
    assert "SIGKILL" not in log


def _ask(address: str, data: bytes, server: subprocess.Popen[str]) -> tuple[str, str]:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, data, timeout=30) as response:
                worker, _, labels = response.read().decode().partition(" ")
                return worker, labels
        except OSError:  # it has not started yet
            assert server.poll() is None
            time.sleep(0.1)
    raise AssertionError("the server does not answer")
