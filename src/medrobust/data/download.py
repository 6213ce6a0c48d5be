"""Data sets from the network, only when asked: resumable, verified, and never half there."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medrobust._version import __version__
from medrobust.data.images import printable
from medrobust.errors import InputError, MissingExtraError, unknown

MEDMNIST_SIZES = (28, 64, 128, 224)
TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20
_LENGTHS = {"sha256": 64, "md5": 32}

Progress = Callable[[int, int | None], None]  # bytes there, bytes in all if known


@dataclass(frozen=True)
class Source:
    """A file to download.

    Attributes:
        url: http or https.
        digest: what its bytes must come to, in hex.
        algorithm: of the digest. MD5 guards against accidents of the transfer only.
        name: of the file.
    """

    url: str
    digest: str
    algorithm: Literal["sha256", "md5"] = "sha256"
    name: str = ""

    def __post_init__(self) -> None:
        """Check the parts."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{self.url!r}: only http:// and https:// addresses are downloaded; give one")
        if not re.fullmatch(rf"[0-9a-fA-F]{{{_LENGTHS[self.algorithm]}}}", self.digest):
            raise InputError(f"{self.algorithm} must be {_LENGTHS[self.algorithm]} hex digits, got {self.digest!r}")
        name = self.name or urllib.parse.unquote(Path(parts.path).name)
        if not name or name in (".", "..") or re.search(r"[/\\\0]", name):
            raise InputError(f"{self.url!r}: has no file name at its end; give the address of a file")
        object.__setattr__(self, "digest", self.digest.lower())
        object.__setattr__(self, "name", name)


def medmnist_source(name: str, size: int = 28) -> Source:
    """Where a MedMNIST set lies, by the catalogue of the `medmnist` package, which knows its MD5.

    Raises:
        MissingExtraError: the package is not installed.
        InputError: there is no such set, or not of that size.
    """
    try:
        from medmnist import INFO
    except ImportError as error:
        raise MissingExtraError("medmnist", "medmnist") from error
    catalogue: dict[str, Any] = INFO
    if name not in catalogue:
        raise unknown("data set", name, catalogue)
    suffix = "" if size == MEDMNIST_SIZES[0] else f"_{size}"
    entry = catalogue[name]
    if f"url{suffix}" not in entry:
        sizes = [each for each in MEDMNIST_SIZES if each == MEDMNIST_SIZES[0] or f"url_{each}" in entry]
        raise InputError(f"{name} has no size {size}; choose one of: {', '.join(map(str, sizes))}")
    return Source(entry[f"url{suffix}"], entry[f"MD5{suffix}"], "md5", f"{name}{suffix}.npz")


def download(source: Source, folder: Path, on_progress: Progress = lambda *_: None) -> Path:
    """Download a file into a folder, going on where an earlier attempt was cut off.

    The bytes go to `<name>.part`, with what the server calls this version of the file (its ETag or date) in
    `<name>.part.json`; they get their name when their digest is right. A file that is there already, and right, is
    left as it is.

    Returns:
        The file's path.

    Raises:
        InputError: the server or the network fails (what came is kept for the next attempt), the digest is wrong (what
            came is removed), or another file of that name is there.
    """
    target, part = folder / source.name, folder / f"{source.name}.part"
    try:
        if target.exists():
            _check_existing(target, source)
            return target
        folder.mkdir(parents=True, exist_ok=True)
        if not part.exists() or _digest(part, source.algorithm) != source.digest:
            _fetch(source.url, part, on_progress)
        found = _digest(part, source.algorithm)
        if found != source.digest:
            _forget(part)
            raise InputError(
                f"{source.url}: the {source.algorithm.upper()} of what came is {found}, not {source.digest}; it was "
                "removed: check the address and the digest, and try again"
            )
        _name(part, target)
        _forget(part)
    except FileExistsError:
        raise InputError(f"{printable(target)}: is there by now; move one of the two away") from None
    except OSError as error:
        raise InputError(f"{printable(error.filename or target)}: cannot be written ({error.strerror})") from error
    return target


def _fetch(url: str, part: Path, on_progress: Progress) -> None:
    """Bring the file of the address to `part`, whole."""
    there = part.stat().st_size if part.exists() else 0
    version = _version_of(part, url) if there else None
    headers = {"User-Agent": f"medrobust/{__version__}", "Accept-Encoding": "identity"}
    if version:
        headers |= {"Range": f"bytes={there}-", "If-Range": version}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - Source lets http and https through alone
    try:
        with _opener().open(request, timeout=TIMEOUT) as response:
            begin = there if version and response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
            if begin and not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
                raise InputError(f"{url}: the server sent another part of the file than asked for; try again later")
            length = response.headers.get("Content-Length")
            total = begin + int(length) if length and length.isdecimal() else None
            _note_version(part, url, response.headers)
            done = _write(response, part, begin, total, on_progress)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and version:
            _forget(part)  # it is whole already, or of another version
            return _fetch(url, part, on_progress)
        raise InputError(f"{url}: the server says {error.code} {error.reason}; check the address") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{url}: cannot be reached ({reason}); what came is kept, try again") from None
    if total is not None and done < total:
        raise InputError(f"{url}: was cut off after {done} of {total} bytes; what came is kept, try again to go on")
    return None


def _write(response: Any, part: Path, begin: int, total: int | None, on_progress: Progress) -> int:
    """Append what comes to the first `begin` bytes of `part`; how many there are then."""
    done = begin
    with part.open("r+b" if begin else "wb") as stream:
        stream.seek(begin)
        stream.truncate()
        on_progress(done, total)
        while chunk := response.read(_CHUNK):
            stream.write(chunk)
            done += len(chunk)
            on_progress(done, total)
    return done


def _opener() -> urllib.request.OpenerDirector:
    """Urllib's own without FTP and files, to which a redirection could lead."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _name(part: Path, target: Path) -> None:
    """Give a whole file its name; `FileExistsError` where a file has come meanwhile, which a rename would replace."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if target.exists():
            raise FileExistsError from None
        part.rename(target)


def _note_version(part: Path, url: str, headers: Any) -> None:
    """Keep what the server calls this version of the file: a strong ETag, or its date (RFC 9110, section 13.1.5)."""
    etag = headers.get("ETag")
    version = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    place = _version_file(part)
    if headers.get("Accept-Ranges") == "none" or not version:
        place.unlink(missing_ok=True)
    else:
        place.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")


def _version_of(part: Path, url: str) -> str | None:
    try:
        noted = json.loads(_version_file(part).read_text(encoding="utf-8"))
        version = noted["version"] if noted["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) and version.isprintable() else None


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _check_existing(target: Path, source: Source) -> None:
    if not target.is_file() or _digest(target, source.algorithm) != source.digest:
        raise InputError(
            f"{printable(target)}: another file of that name is there, and it is not {source.url}; move it away, or "
            "give another --out"
        )


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
