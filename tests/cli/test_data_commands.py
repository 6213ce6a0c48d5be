"""`medrobust data` by the entry point: what a user types, what they see, exit codes."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPResponse
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from medrobust.data import FORMATS

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in ("cat [1]", "dog"):
        for number in range(3):
            path = tmp_path / "images" / label / f"p{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (4, 6), dtype=np.uint8)).save(path)
    return tmp_path / "images"


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this machine with one file, set.npz."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "set.npz").write_bytes(b"content")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    SimpleHTTPRequestHandler.log_message = lambda *_: None  # type: ignore[method-assign]
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_format_is_listed(medrobust: Command) -> None:
    code, out, _ = medrobust("formats")
    assert code == 0
    for name in ("coco", "voc", "yolo", "ead", "kvasir_seg", "covid_ct", "manifest", *FORMATS):
        assert name in out


def test_check_tells_what_is_there(medrobust: Command, images: Path) -> None:
    code, out, err = medrobust("data", "check", images)
    assert code == 0
    for fact in ("image_folder", "classification, 2 classes", "6 read, 0 unreadable", "6 × 4", "8 bits", "cat [1]"):
        assert fact in out
    assert "note: The source names no splits" in err


def test_check_lists_every_unreadable_file(medrobust: Command, images: Path) -> None:
    for path in (images / "dog" / "p1.png", images / "dog" / "p2.png"):
        path.write_bytes(b"no image")
    code, out, err = medrobust("data", "check", images)
    assert code == 1
    assert "4 read, 2 unreadable" in out
    lines = [line for line in err.splitlines() if line.startswith("unreadable: ")]
    assert len(lines) == 2
    assert "p1.png" in lines[0]
    assert "p2.png" in lines[1]


def test_check_warns_of_leaks(medrobust: Command, images: Path) -> None:
    code, out, err = medrobust("data", "check", images, "--patient-pattern", r"(p\d)")
    assert code == 0
    assert "3 patients" in out
    for split in ("train", "test"):
        shutil.copytree(images, images.parent / "set" / split)
    code, out, err = medrobust("data", "check", images.parent / "set", "--patient-pattern", r"(p\d)")
    assert code == 0
    assert "patients in several splits: 3; images there more than once: 6" in out
    assert "warning: 3 patients in several splits; --show-patients names them" in err
    assert "p0" not in "".join(line for line in err.splitlines() if "same image" not in line)
    assert "warning: the same image several times: test: test/dog/p2.png, train: train/dog/p2.png" in err
    _, _, err = medrobust("data", "check", images.parent / "set", "--patient-pattern", r"(p\d)", "--show-patients")
    assert "warning: patient 'p0' is in several splits: test, train" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "nothing: there is no such file or folder; check the path"),
        ((".",), "no known data format"),
        (("images", "--limit", "0"), "limit must be a whole number, 1 or more"),
        (("images", "--split", "val"), "these data have no splits, so no 'val'"),
        (("images", "--format", "x"), "unknown data format 'x'"),
        (("images", "--task", "guessing"), "unknown task 'guessing'"),
    ],
)
def test_check_of_what_is_no_data_set(
    medrobust: Command, tmp_path: Path, images: Path, arguments: tuple[str, ...], message: str
) -> None:
    if arguments == (".",):
        (tmp_path / "images").rename(tmp_path / ".images")
    code, out, err = medrobust("data", "check", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_get(medrobust: Command, tmp_path: Path, address: str) -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    code, out, err = medrobust("data", "get", f"{address}/set.npz", "--sha256", digest, "--out", "sets")
    assert (code, out) == (0, "")
    assert f"sets/set.npz: SHA256 {digest} is right" in err
    assert (tmp_path / "sets" / "set.npz").read_bytes() == b"content"
    for path, message in ((f"{address}/set.npz", "another file of that name"), (f"{address}/no.npz", "says 404")):
        code, _, err = medrobust("data", "get", path, "--sha256", "0" * 64, "--out", "sets")
        assert code == 2
        assert message in err
        assert len(err.splitlines()) == 1


def test_get_stopped_by_the_user(
    medrobust: Command, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> bytes:
        raise KeyboardInterrupt

    get = ("data", "get", f"{address}/set.npz", "--sha256", hashlib.sha256(b"content").hexdigest())
    with monkeypatch.context() as stopped:
        stopped.setattr(HTTPResponse, "read", stop)
        code, _, err = medrobust(*get)
    assert code == 130
    assert "stopped; what came is kept, the same command goes on" in err
    assert not (tmp_path / "set.npz").exists()
    assert medrobust(*get)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("http://127.0.0.1:1/x.npz",), "give --sha256 with a URL"),
        (("file:///etc/passwd", "--sha256", "0" * 64), "only http:// and https://"),
        (("retinamist",), "did you mean 'retinamnist'"),
        (("retinamnist", "--size", "32"), "retinamnist has no size 32; choose one of: 28, 64, 128, 224"),
        (("retinamnist", "--sha256", "0" * 64), "--sha256 is for a URL"),
    ],
)
def test_get_what_cannot_be_got(medrobust: Command, arguments: tuple[str, ...], message: str) -> None:
    pytest.importorskip("medmnist")
    code, out, err = medrobust("data", "get", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_check_takes_any_option_of_the_data(medrobust: Command, images: Path) -> None:
    assert medrobust("data", "check", str(images), "--set", "classes=[one, two, three]")[0] in (0, 2)
    code, _, err = medrobust("data", "check", str(images), "--set", "clases=3")
    assert (code, "unknown option of data 'clases': did you mean 'classes'?" in err) == (2, True)
    code, _, err = medrobust("data", "check", str(images), "--set", "classes")
    assert (code, "--set 'classes': write <field>=<value>" in err) == (2, True)
