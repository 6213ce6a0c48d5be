"""Downloads from a server of our own on this machine."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medrobust.data.download import Source, download, medmnist_source
from medrobust.errors import InputError, MissingExtraError

CONTENT = bytes(range(256)) * 12_000  # 3 MB: more than one piece
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT, as its attributes say.

    Attributes:
        ranges: does it serve parts?
        cut: bytes after which it hangs up, once.
        etag: what it calls the file's version.
        sized: does it tell the length?
        asked: the Range header of each request.
    """

    ranges, cut, etag, sized, content = True, 0, '"v1"', True, CONTENT
    asked: list[str | None]

    def url(self, path: str = "/set.npz") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        if self.path == "/gone.npz":
            self.send_error(404)
            return
        if self.path == "/ftp.npz":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/set.npz")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        begin = 0
        if self.server.ranges and "Range" in self.headers and self.headers.get("If-Range") == self.server.etag:
            begin = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if begin >= len(self.server.content):
                self.send_error(416)
                return
        body = self.server.content[begin:]
        self.send_response(206 if begin else 200)
        if self.server.ranges:
            self.send_header("ETag", self.server.etag)
        if begin:
            total = len(self.server.content)
            self.send_header("Content-Range", f"bytes {begin}-{total - 1}/{total}")
        if self.server.sized:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        cut, self.server.cut = self.server.cut, 0
        self.wfile.write(body[: cut or None])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole(server: Server, tmp_path: Path) -> None:
    heard: list[tuple[int, int | None]] = []
    path = download(Source(server.url(), SHA256.upper()), tmp_path / "new" / "folder", lambda *at: heard.append(at))
    assert path == tmp_path / "new" / "folder" / "set.npz"
    assert path.read_bytes() == CONTENT
    assert files(path.parent) == ["set.npz"]
    assert heard[0] == (0, len(CONTENT))
    assert heard[-1] == (len(CONTENT), len(CONTENT))


def test_it_goes_on_where_it_was_cut_off(server: Server, tmp_path: Path) -> None:
    server.cut = 2_000_000
    with pytest.raises(InputError, match="was cut off after 2000000 of 3072000 bytes; what came is kept, try again"):
        download(Source(server.url(), SHA256), tmp_path)
    assert (tmp_path / "set.npz.part").stat().st_size == 2_000_000
    heard: list[tuple[int, int | None]] = []
    assert download(Source(server.url(), SHA256), tmp_path, lambda *at: heard.append(at)).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=2000000-"]
    assert heard[0] == (2_000_000, len(CONTENT))
    assert files(tmp_path) == ["set.npz"]


def test_it_starts_anew_when_the_file_has_changed(server: Server, tmp_path: Path) -> None:
    server.cut, server.content = 1_000_000, bytes(3_000_000)
    with pytest.raises(InputError, match="was cut off"):
        download(Source(server.url(), SHA256), tmp_path)
    server.content, server.etag = CONTENT, '"v2"'
    assert download(Source(server.url(), SHA256), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-"]


@pytest.mark.parametrize("sized", [True, False])
def test_a_server_that_serves_no_parts(server: Server, tmp_path: Path, sized: bool) -> None:
    server.ranges, server.cut = False, 1_000_000
    with pytest.raises(InputError, match="was cut off"):
        download(Source(server.url(), SHA256), tmp_path)
    server.sized = sized
    assert download(Source(server.url(), SHA256), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, None]


def test_cut_off_where_the_length_is_not_told(server: Server, tmp_path: Path) -> None:
    """Nobody can tell that from a whole file but its digest."""
    server.sized, server.cut = False, 1_000_000
    with pytest.raises(InputError, match="the SHA256 of what came is"):
        download(Source(server.url(), SHA256), tmp_path)
    assert files(tmp_path) == []


def test_whole_but_never_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.npz.part").write_bytes(CONTENT)
    assert download(Source(server.url(), SHA256), tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_more_than_there_is(server: Server, tmp_path: Path) -> None:
    """A part that is as long as the file but not right is thrown away."""
    server.cut = 1_000_000
    with pytest.raises(InputError, match="was cut off"):
        download(Source(server.url(), SHA256), tmp_path)
    (tmp_path / "set.npz.part").write_bytes(bytes(len(CONTENT)))
    assert download(Source(server.url(), SHA256), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={len(CONTENT)}-", None]


def test_a_wrong_digest_keeps_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=rf"the SHA256 of what came is {SHA256}, not {'0' * 64}; it was removed"
    ) as caught:
        download(Source(server.url(), "0" * 64), tmp_path)
    assert files(tmp_path) == []
    assert "\n" not in str(caught.value)


def test_a_file_that_is_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(CONTENT)
    assert download(Source(server.url(), SHA256), tmp_path) == tmp_path / "set.npz"
    (tmp_path / "set.npz").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"set.npz: another file of that name is there"):
        download(Source(server.url(), SHA256), tmp_path)
    assert (tmp_path / "set.npz").read_bytes() == b"mine"
    assert server.asked == []


def test_a_file_that_came_meanwhile(server: Server, tmp_path: Path) -> None:
    def meanwhile(*_: object) -> None:
        (tmp_path / "set.npz").write_bytes(b"mine")

    with pytest.raises(InputError, match=r"set.npz: is there by now"):
        download(Source(server.url(), SHA256), tmp_path, meanwhile)
    assert (tmp_path / "set.npz").read_bytes() == b"mine"


def test_what_servers_refuse(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the server says 404 Not Found; check the address"):
        download(Source(server.url("/gone.npz"), SHA256), tmp_path)
    with pytest.raises(InputError, match="ftp"):
        download(Source(server.url("/ftp.npz"), SHA256), tmp_path)
    url = server.url()
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"cannot be reached \(.*\); what came is kept, try again"):
        download(Source(url, SHA256), tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "digest", "message"),
    [
        ("ftp://x/a.npz", SHA256, "only http:// and https:// addresses are downloaded"),
        ("file:///etc/passwd", SHA256, "only http:// and https:// addresses are downloaded"),
        ("http://x/", SHA256, "has no file name at its end"),
        ("http://x/%2e%2e", SHA256, "has no file name at its end"),
        ("http://x/..%2fa", SHA256, "has no file name at its end"),
        ("http://x/a.npz", "12", "sha256 must be 64 hex digits, got '12'"),
    ],
)
def test_what_is_not_downloaded(url: str, digest: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Source(url, digest)


def test_the_catalogue_of_medmnist() -> None:
    pytest.importorskip("medmnist")
    source = medmnist_source("retinamnist")
    assert (source.name, source.algorithm) == ("retinamnist.npz", "md5")
    assert source.digest == "bd4c0672f1bba3e3a89f0e4e876791e4"
    assert source.url.startswith("https://zenodo.org/")
    assert medmnist_source("organmnist3d", 64).name == "organmnist3d_64.npz"
    with pytest.raises(InputError, match="organmnist3d has no size 224; choose one of: 28, 64"):
        medmnist_source("organmnist3d", 224)
    with pytest.raises(InputError, match="unknown data set 'retinamist': did you mean 'retinamnist'"):
        medmnist_source("retinamist")


def test_without_the_package_of_medmnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'medrobust\[medmnist\]'"):
        medmnist_source("retinamnist")


def test_the_shared_file_is_what_the_catalogue_says(shared_data: Path, tmp_path: Path) -> None:
    """The digest of the official file, from the package, on the official file."""
    pytest.importorskip("medmnist")
    (tmp_path / "retinamnist.npz").write_bytes((shared_data / "retinamnist.npz").read_bytes())
    assert download(medmnist_source("retinamnist"), tmp_path) == tmp_path / "retinamnist.npz"
