"""A run in the browser: its report, or how far it is, served to this machine alone.

Nothing but a few named files of one folder can be read, and nothing can be written.
"""

from __future__ import annotations

import time
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from medrobust.errors import InputError
from medrobust.evaluation.stability_files import STABILITY_PAGE
from medrobust.evaluation.storage import RUN_JSON
from medrobust.evaluation.underway import progress_path, read_progress
from medrobust.report import FORMATS
from medrobust.report.progress_page import progress_page
from medrobust.report.stability import FOLDER

HOST = "127.0.0.1"
_PLACES = (*(one.place for one in FORMATS.values()), f"{FOLDER}/{STABILITY_PAGE}")
_TYPES = {
    "html": "text/html; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "tex": "text/plain; charset=utf-8",
    "md": "text/plain; charset=utf-8",
}
_HEADERS = {
    "Cache-Control": "no-store",
    # the report has a policy of its own besides, and both hold
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; connect-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def run_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server for one run, listening on 127.0.0.1 alone; port 0 is any free one.

    Raises:
        InputError: there is no run, finished or under way, or the port is taken.
    """
    if not (folder / RUN_JSON).is_file() and not progress_path(folder).is_file():
        raise InputError(f"{folder} is no run: it has no {RUN_JSON}, and none is under way that will be saved there")
    if (folder / RUN_JSON).is_file() and not (folder / FORMATS["html"].place).is_file():
        raise InputError(f"{folder} has no {FORMATS['html'].place}; make it with: medrobust report {folder}")
    try:
        return _Server((HOST, port), partial(_Handler, folder))
    except (OSError, OverflowError) as error:
        raise InputError(f"port {port} cannot be used: {error}; give another --port") from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server: ThreadingHTTPServer
    server_version, sys_version = "medrobust", ""
    timeout = 10  # seconds that a request may take to arrive

    def __init__(self, folder: Path, *args: object) -> None:
        self._folder = folder
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Requests are not told."""

    def _answer(self, *, body: bool) -> None:
        _, port = self.server.socket.getsockname()
        if self.headers.get_all("Host") not in ([f"{HOST}:{port}"], [f"localhost:{port}"]):
            self.send_error(HTTPStatus.FORBIDDEN, "this server answers to its own name alone")
            return
        content, kind = self._content()
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", _TYPES[kind])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _content(self) -> tuple[bytes | None, str]:
        """What is asked for, and its kind; paths are compared with known ones, never joined."""
        path = urlsplit(self.path).path
        if path == "/":
            report = self._file(FORMATS["html"].place)
            return (progress_page(read_progress(self._folder), time.time()) if report is None else report), "html"
        place = next((place for place in _PLACES if path == f"/{place}"), None)
        if place is None:
            return None, "html"
        return self._file(place), place.rpartition(".")[2]

    def _file(self, place: str) -> bytes | None:
        path = self._folder / place
        try:
            return path.read_bytes() if path.resolve() == self._folder.resolve() / place else None
        except OSError:
            return None
