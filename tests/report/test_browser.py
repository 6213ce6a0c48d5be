import shutil

import pytest
from synthetic_run import detection_run

from medrobust.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="module", params=["classes and maps", "boxes"])
def address(request, run, tmp_path_factory) -> str:
    if request.param == "boxes":
        run = detection_run()
    path = tmp_path_factory.mktemp("browser") / "report.html"
    write_report(run.records, run.info, run.gallery, path)
    return path.as_uri()


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_quiet_and_fits(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(
        "[...document.querySelectorAll('.case .shot')].every(i => i.alt && i.complete && i.naturalWidth > 0)"
    )
    page.close()


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_text_and_figures_follow_the_colour_scheme(browser, address, scheme, dark):
    page = browser.new_page(color_scheme=scheme)
    page.goto(address)
    colours = page.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor,
                  getComputedStyle(document.querySelector('.curve svg text')).fill]"""
    )
    paper, ink = (sum(map(float, colour.strip("rgba()").split(",")[:3])) / 3 for colour in colours)
    assert (paper < 60 and ink > 200) if dark else (paper > 200 and ink < 60)
    page.close()


def test_wide_tables_scroll_by_keyboard(browser, address):
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.goto(address)
    region = page.locator(".scroll").nth(1)
    region.focus()
    page.keyboard.press("ArrowRight")
    # asked from here: what waits inside the page needs eval, which the page's own policy forbids
    for _ in range(100):
        if scrolled := region.evaluate("element => element.scrollLeft"):
            break
        page.wait_for_timeout(50)
    assert scrolled > 0
    page.close()
