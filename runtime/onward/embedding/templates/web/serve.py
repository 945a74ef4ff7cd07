"""Serve: a local web server for this folder, with the headers that WebAssembly threads need.

python3 serve.py
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
HEADERS = {
    # cross-origin isolation, without which browsers allow no threads
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # changed files are loaded at once
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}


class Handler(SimpleHTTPRequestHandler):
    """Serves files with the right types and headers."""

    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        # the operating system's table may have other types, with which browsers refuse modules
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
    }

    def handle(self) -> None:
        """Answer the requests of a connection; that the browser closes it is not an error."""
        with suppress(ConnectionError):
            super().handle()

    def end_headers(self) -> None:
        """Add our headers to every response."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Do nothing: only errors are logged."""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Serve this folder as a page.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free port (default: 8000)")
    options = parser.parse_args()
    try:
        server = ThreadingHTTPServer((options.host, options.port), partial(Handler, directory=str(FOLDER)))
    except (OSError, OverflowError) as error:
        reason = str(error).rstrip(".")
        print(f"cannot listen on {options.host}:{options.port}: {reason}. Try --port 0.", file=sys.stderr)
        return 1
    with server:
        print(f"http://{options.host}:{server.server_port}/  (Ctrl+C stops it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
