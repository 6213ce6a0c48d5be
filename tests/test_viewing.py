"""The server of `medrobust view`, asked nicely and not."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import contextmanager

import pytest

from medrobust.errors import InputError
from medrobust.evaluation.underway import progress_file
from medrobust.viewing import run_server


@contextmanager
def serving(folder):
    with run_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "run"
    made.mkdir()
    (made / "run.json").write_text('{"secret": 1}')
    (made / "report.html").write_text("<p>the report")
    (made / "records.parquet").write_text("secret")
    (made / "summary.csv").write_text("part,value")
    (tmp_path / "outside.html").write_text("secret")
    return made


def ask(port: int, path: str, *, method: str = "GET", **headers: str):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, dict(answer.getheaders())


def test_it_shows_the_report_and_what_is_beside_it(folder):
    with serving(folder) as port:
        for path, body, kind in (
            ("/", "<p>the report", "text/html; charset=utf-8"),
            ("/report.html", "<p>the report", "text/html; charset=utf-8"),
            ("/?x=1", "<p>the report", "text/html; charset=utf-8"),
            ("/summary.csv", "part,value", "text/csv; charset=utf-8"),
        ):
            status, said, headers = ask(port, path)
            assert (status, said, headers["Content-Type"]) == (200, body, kind)
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "DENY"
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert "Access-Control-Allow-Origin" not in headers
        status, said, headers = ask(port, "/", method="HEAD")
        assert (status, said, headers["Content-Length"]) == (200, "", "13")


@pytest.mark.parametrize(
    "path",
    [
        "/run.json",
        "/records.parquet",
        "/gallery.safetensors",
        "/../outside.html",
        "/%2e%2e/outside.html",
        "/..%2foutside.html",
        "//etc/passwd",
        "/./report.html",
        "/report.html/",
        "/report.html%00",
        "/REPORT.HTML",
        "/markdown/",
        "/markdown/../run.json",
        "/report.json",
        "http://127.0.0.1/run.json",
        "/" + "a" * 5000,
        "/\\..\\outside.html",
        "*",
    ],
)
def test_nothing_else_is_to_be_had(folder, path):
    with serving(folder) as port:
        status, body, headers = ask(port, path)
        assert status == (403 if path.startswith("http") else 404)
        assert "secret" not in body
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_nothing_can_be_written(folder, method):
    before = sorted(path.name for path in folder.iterdir())
    with serving(folder) as port:
        status, _, _ = ask(port, "/report.html", method=method)
        assert status == 501
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "evil.example:{port}", "127.0.0.1:{port}.evil.example", ""]
)
def test_another_host_is_refused(folder, host):
    with serving(folder) as port:
        status, body, _ = ask(port, "/", Host=host.format(port=port))
        assert status == 403
        assert "the report" not in body
        assert ask(port, "/", Host=f"localhost:{port}")[0] == 200


def test_two_hosts_or_none_are_refused(folder):
    with serving(folder) as port:
        for head in (f"Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n", ""):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(f"GET / HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
                assert connection.makefile("rb").readline().split()[1] == b"403"


def test_what_is_no_http_is_no_harm(folder):
    with serving(folder) as port:
        for sent in (b"\x16\x03\x01\x02\x00", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000 + b"\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                assert b"the report" not in connection.makefile("rb").read()
        assert ask(port, "/")[0] == 200


def test_a_link_is_not_followed(folder, tmp_path):
    (folder / "summary.csv").unlink()
    (folder / "summary.csv").symlink_to(tmp_path / "outside.html")
    with serving(folder) as port:
        assert ask(port, "/summary.csv")[0] == 404


def test_a_link_on_the_way_is_not_followed(folder, tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "report.md").write_text("secret")
    (folder / "markdown").symlink_to(outside)
    with serving(folder) as port:
        assert ask(port, "/markdown/report.md")[0] == 404


def test_the_stability_analysis_beside_the_run_is_served(folder):
    (folder / "stability").mkdir()
    (folder / "stability" / "stability.html").write_text("<p>steady</p>")
    with serving(folder) as port:
        status, body = ask(port, "/stability/stability.html")[:2]
        assert (status, body) == (200, "<p>steady</p>")
        assert ask(port, "/stability/stability.json")[0] == 404


def test_this_machine_alone_can_connect(folder):
    with run_server(folder, 0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_it_shows_how_far_a_run_is_and_then_the_report(tmp_path):
    folder = tmp_path / "run"
    with progress_file(folder) as listen:
        listen("attacking <b>brains</b>", 25, 100)
        with serving(folder) as port:
            status, body, _ = ask(port, "/")
            assert status == 200
            assert 'max="100" value="25"' in body
            assert "attacking &lt;b&gt;brains&lt;/b&gt;" in body
            assert 'http-equiv="refresh"' in body
            assert ask(port, "/report.html")[0] == 404
            folder.mkdir()
            (folder / "report.html").write_text("<p>the report")
            assert ask(port, "/")[1] == "<p>the report"


def test_a_run_that_ended_early_is_said_to_have(tmp_path):
    with progress_file(tmp_path / "run") as listen:
        listen("attacking", 25, 100)
        server = run_server(tmp_path / "run", 0)
    with server:
        threading.Thread(target=server.handle_request).start()
        assert "No run is under way" in ask(server.server_address[1], "/")[1]


def test_what_cannot_be_shown_is_told(folder, tmp_path):
    with pytest.raises(InputError, match="nothing is no run"):
        run_server(tmp_path / "nothing", 0)
    with run_server(folder, 0) as server, pytest.raises(InputError, match="give another --port"):
        run_server(folder, server.server_address[1])
    with pytest.raises(InputError, match="give another --port"):
        run_server(folder, 70_000)
    (folder / "report.html").unlink()
    with pytest.raises(InputError, match="medrobust report"):
        run_server(folder, 0)
