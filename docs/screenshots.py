"""Pictures of a report for the documents: `python docs/screenshots.py RUN`, RUN being the folder of a real run.

The ones in this folder are of: medrobust evaluate --attacks fgsm,pgd,smia --limit 12 --eps 2/255,8/255 --out RUN
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def main(run: Path) -> None:
    """Write `report.png`, the first screen, and `report_images.png`, the images of the first part."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1000}, color_scheme="light")
        page.goto((run / "report.html").absolute().as_uri())
        page.screenshot(path=HERE / "report.png")
        page.locator(".to-worst").first.click()
        page.evaluate("document.activeElement.blur()")
        page.locator(".viewer").first.screenshot(path=HERE / "report_images.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
