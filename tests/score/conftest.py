"""A server that tests of downloads share."""

import functools
import http.server
import threading
from types import SimpleNamespace

import pytest


@pytest.fixture
def serve(tmp_path):
    """A web server on the loopback device; `folder` is what it serves, below `url`."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(folder=folder, url=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
