import pytest
from browsing import NEEDS_CHROMIUM, chromium, opened
from synthetic_run import detection_run

from medrobust.report import write_report

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


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
    with opened(browser, address, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        shots = "[...document.querySelectorAll('.case .shot')]"
        assert page.evaluate(f"{shots}.every(i => i.alt && i.complete && i.naturalWidth > 0)")


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
