"""Downloads against a server on loopback: gone on with, verified, and nothing half-done under a file's name."""

import fcntl
import hashlib
import re
import shutil
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from rdm import downloads
from rdm.errors import RdmError
from rdm.models import registry
from tests.test_cli import fails, rdm

CONTENT = bytes(range(256)) * 9000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves `content`; `asked` holds what came in, `limit` how many bytes go out before the line breaks."""

    asked: ClassVar[list] = []
    limit = None
    resumes = True
    tells_length = True
    content = CONTENT

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        if self.path != "/file":
            self.send_error(404)
            return
        first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.resumes else 0
        if first >= len(self.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if self.tells_length:
            self.send_header("Content-Length", str(len(self.content) - first))
        self.end_headers()
        self.wfile.write(self.content[first : first + self.limit if self.limit else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """The address, and what the server does."""
    handler = type("Own", (Handler,), {"asked": []})
    serving = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}/file", handler
    serving.shutdown()
    serving.server_close()


def test_a_file_is_fetched_once(server, tmp_path):
    url, handler = server
    target = tmp_path / "weights" / "file.pt"
    target.parent.mkdir()
    assert downloads.fetch(url, target, DIGEST) == DIGEST
    assert target.read_bytes() == CONTENT
    assert downloads.fetch(url, target, DIGEST) == DIGEST
    assert handler.asked == [None]
    assert {path.name for path in target.parent.iterdir()} == {"file.pt", "file.pt.sha256"}


@pytest.mark.parametrize("resumes", [True, False])
def test_half_a_download_is_gone_on_with(server, tmp_path, resumes):
    """Or begun anew, where the server cannot go on."""
    url, handler = server
    handler.limit, handler.resumes = 1_000_000, resumes
    with pytest.raises(RdmError, match="stopped .*the same command goes on from there"):
        downloads.fetch(url, tmp_path / "file.pt", DIGEST)
    assert not (tmp_path / "file.pt").exists()
    assert 0 < (tmp_path / "file.pt.part").stat().st_size <= 1_000_000
    have, handler.limit = (tmp_path / "file.pt.part").stat().st_size, None
    downloads.fetch(url, tmp_path / "file.pt", DIGEST)
    assert (tmp_path / "file.pt").read_bytes() == CONTENT
    assert handler.asked == [None, f"bytes={have}-"]
    assert not (tmp_path / "file.pt.part").exists()


@pytest.mark.parametrize("have", [0, 1000])
def test_a_server_that_does_not_say_how_much_comes(server, tmp_path, have):
    url, handler = server
    handler.tells_length = False
    (tmp_path / "file.pt.part").write_bytes(CONTENT[:have])
    assert downloads.fetch(url, tmp_path / "file.pt", None) == DIGEST


def test_an_empty_record_is_none(server, tmp_path):
    """As a full disk once left it."""
    url, _ = server
    (tmp_path / "file.pt.sha256").touch()
    assert downloads.fetch(url, tmp_path / "file.pt", None) == DIGEST
    assert (tmp_path / "file.pt.sha256").read_text() == f"{DIGEST}  file.pt\n"


def test_a_part_that_is_whole_is_taken(server, tmp_path):
    url, _ = server
    (tmp_path / "file.pt.part").write_bytes(CONTENT)
    assert downloads.fetch(url, tmp_path / "file.pt", DIGEST) == DIGEST


def test_a_part_that_is_longer_than_the_file_is_not_taken_for_it(server, tmp_path):
    """As two downloads at a time once made one; then it begins anew."""
    url, _ = server
    (tmp_path / "file.pt.part").write_bytes(CONTENT + b"more")
    with pytest.raises(RdmError, match=rf"held {len(CONTENT) + 4} bytes of a file of {len(CONTENT)}, and was removed"):
        downloads.fetch(url, tmp_path / "file.pt", None)
    assert not list(tmp_path.iterdir())
    assert downloads.fetch(url, tmp_path / "file.pt", None) == DIGEST


def test_of_two_downloads_of_a_file_one_is_refused(server, tmp_path):
    url, handler = server
    with (tmp_path / "file.pt.part").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RdmError, match=r"Another process is downloading .*file.pt.part; wait for it"):
            downloads.fetch(url, tmp_path / "file.pt", DIGEST)
    assert handler.asked == []
    assert downloads.fetch(url, tmp_path / "file.pt", DIGEST) == DIGEST


def test_another_digest_is_refused(server, tmp_path):
    url, _ = server
    target = tmp_path / "file.pt"
    with pytest.raises(RdmError, match=f"file.pt has sha256 {DIGEST}, not 00"):
        downloads.fetch(url, target, "00" * 32)
    assert not list(tmp_path.iterdir())
    downloads.fetch(url, target, None)  # none was published: that of the first download holds
    target.write_bytes(b"changed")
    with pytest.raises(RdmError, match=f"not {DIGEST}: it was changed or damaged"):
        downloads.fetch(url, target, None)


def test_what_is_not_there_and_what_has_no_room(server, tmp_path, monkeypatch):
    url, _ = server
    with pytest.raises(RdmError, match="404"):
        downloads.fetch(url.replace("file", "nothing"), tmp_path / "file.pt", None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("", (), {"free": 10**6})())
    with pytest.raises(RdmError, match="file.pt needs 0.0 GB more, and its disk has 0.0 GB; make room"):
        downloads.fetch(url, tmp_path / "file.pt", None)
    assert not (tmp_path / "file.pt").exists()


def test_the_verb(server, tmp_path, monkeypatch):
    url, _ = server
    monkeypatch.chdir(tmp_path)
    listed = rdm("models", "fetch", params=None).output
    assert all(name in listed for name in registry.WEIGHTS)
    assert "CC-BY-NC-4.0" in listed
    fails(
        rdm("models", "fetch", "dit", params=None), 2, "There are no published weights 'dit'; choose one of: adm-256, "
    )
    own = registry.Weights("dit.pt", url, len(CONTENT), "none", "a test", DIGEST)
    monkeypatch.setitem(registry.WEIGHTS, "dit-xl-2-256", own)
    fetched = rdm("models", "fetch", "dit-xl-2-256", "--folder", "here", params=None)
    assert fetched.stdout == "here/dit.pt\n"
    assert fetched.stderr == "a test; 0.0 GB. Licence: none.\n"
    assert (tmp_path / "here" / "dit.pt").read_bytes() == CONTENT


def test_a_member_of_a_zip_file(server, tmp_path, monkeypatch):
    url, handler = server
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        archive.writestr("models/model.ckpt", b"weights")
        archive.writestr("models/config.yaml", b"text")
    handler.content = (tmp_path / "made.zip").read_bytes()
    own = registry.Weights("ldm.ckpt", url, 1, "none", "a test", member="model.ckpt")
    monkeypatch.setitem(registry.WEIGHTS, "ldm8", own)
    file = registry.fetch_weights("ldm8", tmp_path / "here")
    assert file.read_bytes() == b"weights"
    assert not (tmp_path / "here" / "ldm.zip").exists()
    file.unlink()
    for content in (b"no zip", (tmp_path / "made.zip").read_bytes().replace(b"model.ckpt", b"modelxckpt")):
        handler.content = content
        (tmp_path / "here" / "ldm.zip.sha256").unlink(missing_ok=True)
        (tmp_path / "here" / "ldm.zip").unlink(missing_ok=True)
        with pytest.raises(RdmError, match="ldm.zip holds no model.ckpt"):
            registry.fetch_weights("ldm8", tmp_path / "here")
        assert not file.exists()


@pytest.mark.parametrize("weights", registry.WEIGHTS.values(), ids=registry.WEIGHTS)
def test_what_is_listed_is_whole(weights):
    assert weights.sha256 is None or re.fullmatch("[0-9a-f]{64}", weights.sha256)
    assert weights.url.startswith("https://")
    assert weights.licence
