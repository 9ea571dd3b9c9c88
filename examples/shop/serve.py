"""Serves the example shop page on http://127.0.0.1:8080; the API must list that origin in `serve.cors_origins`.

txrec serve configs/demo.toml 'serve.cors_origins=["http://127.0.0.1:8080"]'
python examples/shop/serve.py
"""

import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(__file__).parent
TRACKER = FOLDER.parents[1] / "clients" / "web" / "tracker.js"


class Handler(SimpleHTTPRequestHandler):
    """Files of this folder, and the tracker."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}  # noqa: RUF012

    def translate_path(self, path: str) -> str:
        """File of a URL path."""
        if path.partition("?")[0] == "/tracker.js":
            return str(TRACKER)
        return super().translate_path(path)

    def log_message(self, *_: object) -> None:
        """Writes no line per request."""


def server(port: int = 8080) -> ThreadingHTTPServer:
    """A server of the page on loopback."""
    return ThreadingHTTPServer(("127.0.0.1", port), lambda *args: Handler(*args, directory=str(FOLDER)))


if __name__ == "__main__":
    sys.stdout.write("http://127.0.0.1:8080\n")
    server().serve_forever()
