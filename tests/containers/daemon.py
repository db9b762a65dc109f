"""A Docker daemon on loopback, as far as `rdm container` asks one: it remembers what it was asked, and runs nothing."""

import io
import json
import struct
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LOG_CONFIG = {"HostConfig": {"LogConfig": {"Type": "json-file"}}}


class Daemon:
    """What it has (`images`: tag -> labels) and is, how containers in it end, and what it was asked."""

    def __init__(self):
        self.images, self.status, self.build_error = {}, 0, None
        self.security = ["name=seccomp,profile=builtin"]
        self.out, self.err = b"out\n", b"err\n"
        self.build, self.created, self.removed, self.signals = None, None, 0, []
        self.started, self.ended = threading.Event(), threading.Event()
        self.ended.set()  # a test clears it where a container ends by a signal alone

    def answer(self, method, path, query, body):
        """Answer one request: a status, and JSON, bytes or chunks. None where the output of a container follows."""
        if path == "/version":
            return 200, {"ApiVersion": "1.45"}
        path = path.partition("/v1.45")[2]
        if path == "/info":
            return 200, {"SecurityOptions": self.security}
        if path == "/images/json":
            tag = json.loads(query["filters"])["reference"][0]
            return 200, [{"Id": tag}] if tag in self.images else []
        if path.startswith("/images/"):
            tag = path.removeprefix("/images/").removesuffix("/json")
            known = tag in self.images
            return (
                (200, {"Id": tag, "Config": {"Labels": self.images[tag]}})
                if known
                else (404, {"message": "No such image"})
            )
        if path == "/build":
            with tarfile.open(fileobj=io.BytesIO(body)) as archive:
                files = {name: archive.extractfile(name).read() for name in archive.getnames()}
            self.build = {**query, "buildargs": json.loads(query["buildargs"]), "files": files}
            last = {"error": self.build_error} if self.build_error else {"stream": "Successfully built\n"}
            return 200, [json.dumps(step).encode() for step in ({"stream": "Step 1\n"}, last)]
        if path == "/containers/create":
            self.created = json.loads(body)
            return 201, {"Id": "c0"}
        return self._of_a_container(method, path, query)

    def _of_a_container(self, method, path, query):
        if path == "/containers/c0/start":
            self.started.set()
            return 204, b""
        if path == "/containers/c0/kill":
            self.signals.append(int(query["signal"]))
            self.ended.set()
            return 204, b""
        if path == "/containers/c0/wait":
            return 200, {"StatusCode": self.status}
        if path == "/containers/c0/json":
            return 200, {"Id": "c0", "Config": {"Tty": False}, **LOG_CONFIG}
        if path == "/containers/c0" and method == "DELETE":
            self.removed += 1
            return 204, b""
        assert path in ("/containers/c0/attach", "/containers/c0/logs"), path
        return None

    def frames(self, query):
        """The output of a container that was asked for, as it travels: each part with its stream and length."""
        self.started.wait()
        for number, stream, text in ((1, "stdout", self.out), (2, "stderr", self.err)):
            if query[stream] != "0":
                yield struct.pack(">BxxxL", number, len(text)) + text
        self.ended.wait()


@contextmanager
def serve(daemon):
    """The address of this daemon, while it answers."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            path = unquote(urlsplit(self.path).path)
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            answer = daemon.answer(self.command, path, query, self._body())
            self.send_response(answer[0] if answer else 200)
            if answer and path.endswith("/build"):
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for chunk in [*answer[1], b""]:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            elif answer:
                content = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            else:
                self.end_headers()
                for frame in daemon.frames(query):
                    self.wfile.write(frame)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def _body(self):
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            return b"".join(parts)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"tcp://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
