"""Take the pictures of a report that the documents show, from a real run, in a headless Chromium.

python docs/screenshots.py              of a run like that of `make demo` on half of its images, made now
python docs/screenshots.py --run RUN    of a run that is there already

Writes docs/report.png (the first screen) and docs/pictures/*.png. Needs Chromium (Debian: apt install chromium).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).parent
WIDTH = 1150
# what is shown: from a heading of the first part to the next heading of its level, at most so many pixels high
PICTURES = {"curves": ("curves", 700), "table": ("results", 900), "images": ("images", 1000)}
FIRST_SCREEN = "curves", "report.png", 1300


def main() -> None:
    """Open the report and write every picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of a run; one is made when left out")
    given = parser.parse_args().run
    with tempfile.TemporaryDirectory() as folder:
        run = given or small_run(Path(folder) / "run")
        with opened(run / "report.html") as page:
            (DOCS / "pictures").mkdir(exist_ok=True)
            heading, name, height = FIRST_SCREEN
            picture(page, None, heading, DOCS / name, height=height)
            for name, (heading, height) in PICTURES.items():
                picture(page, heading, None, DOCS / "pictures" / f"{name}.png", height=height)


def small_run(folder: Path) -> Path:
    """Both embedded models attacked, on 18 images each."""
    options = ["--limit", "18", "--eps", "2/255,4/255,8/255", "--out", str(folder)]
    subprocess.run([sys.executable, "-m", "medrobust", "evaluate", *options], check=True)  # noqa: S603
    return folder


@contextmanager
def opened(report: Path) -> Iterator[Page]:
    """The report in a browser, in light colours."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        sys.exit("no Chromium on this machine (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = running.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        yield page
        running.close()


def picture(page: Page, first: str | None, last: str | None, path: Path, *, height: int) -> None:
    """A clip of the report's first part.

    Args:
        page: the report.
        first: the heading that it begins with; the part's own when None.
        last: the heading whose section it ends with; the same as `first` when None.
        path: the file.
        height: in pixels, at most.
    """
    part = page.locator("section.part").first
    headings = part.locator("h2, h3")
    titles = [title.strip() for title in headings.all_inner_texts()]
    begin = titles.index(found(first, titles)) if first else 0
    end = titles.index(found(last, titles)) if last else begin
    frame = part.bounding_box()
    top = headings.nth(begin).bounding_box()
    after = headings.nth(end + 1).bounding_box() if end + 1 < len(titles) else None
    assert frame is not None
    assert top is not None
    bottom = after["y"] if after else frame["y"] + frame["height"]
    clip = {"x": 0.0, "y": top["y"] - 24, "width": float(WIDTH), "height": min(bottom - top["y"], height)}
    page.screenshot(path=path, clip=clip, full_page=True)  # type: ignore[arg-type]


def found(wanted: str, titles: list[str]) -> str:
    """The title with the wanted word."""
    for title in titles:
        if wanted in title.lower():
            return title
    sys.exit(f"the report has no section {wanted!r}: it has {', '.join(titles)}")


if __name__ == "__main__":
    main()
