"""The page in a browser without a window: no errors, sorting, and no overflow.

It needs Chromium with its driver (Debian: chromium, chromium-driver) and the package selenium.
"""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.page.render import TITLES
from tests.scripts.page.conftest import Make
from tests.trainers.classifier.runs import Runs

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WIDTHS = (1280, 390)

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium with chromedriver: apt install chromium-driver"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Yield a browser that records what a page writes to the console."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def resize(browser: Any, width: int) -> None:
    """Set the width of the page; windows cannot be as narrow as a phone."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture(scope="module", params=[1, 2, 3])
def page(request: pytest.FixtureRequest, browser: Any, runs: Runs, report: Make) -> Any:
    """Return the browser with the report of so many runs."""
    methods = ["TextRefinerCoOp", "CoOp", "TextRefinerCoCoOp"][: request.param]
    made = report(*(runs.folder(method) for method in methods))
    browser.get_log("browser")
    browser.get(made.path.as_uri())
    return browser


def test_no_console_message(page: Any) -> None:
    assert page.get_log("browser") == []


def test_sections_are_visible(page: Any) -> None:
    for name in ("run", *TITLES):
        section = page.find_element("id", name)
        assert section.is_displayed()
        assert section.size["height"] > 50
    script = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    assert page.execute_script(script)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows(page: Any, width: int, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    resize(page, width)
    background = "return getComputedStyle(document.body).backgroundColor"
    expected = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
    assert page.execute_script(background) == expected[scheme]
    widths = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth, innerWidth]"
    content, visible, window = page.execute_script(widths)
    assert window == width
    assert content == visible  # the window without its scroll bar
    outside = page.execute_script(
        "const right = document.documentElement.clientWidth + 1;"
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll'))"
        ".filter(e => e.getBoundingClientRect().right > right).map(e => e.outerHTML)"
    )
    assert outside == []


def test_at_most_two_columns(page: Any) -> None:
    script = "return [...document.querySelectorAll('#accuracy .run')].map(e => e.offsetTop)"
    resize(page, 1280)
    wide = page.execute_script(script)
    resize(page, 390)
    narrow = page.execute_script(script)
    assert len(set(wide)) == -(-len(wide) // 2)
    assert len(set(narrow)) == len(narrow) == len(wide)


def test_sorting(page: Any) -> None:
    resize(page, 1280)
    table = page.find_element("css selector", "#accuracy table.sortable")
    script = (
        "return [...arguments[0].tBodies[0].rows]"
        ".map(r => [r.cells[0].textContent, +r.cells[1].dataset.value])"
    )
    before = page.execute_script(script, table)
    assert len(before) == 3
    headers = table.find_elements("css selector", "thead th")
    accuracy, name = headers[1], headers[0]

    def click(header: Any) -> tuple[str, list[Any]]:
        page.execute_script(
            "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", header
        )
        header.find_element("css selector", "button").click()
        return header.get_attribute("aria-sort"), page.execute_script(script, table)

    order, rows = click(accuracy)
    assert order == "ascending"
    assert [row[1] for row in rows] == sorted(row[1] for row in before)
    order, rows = click(accuracy)
    assert order == "descending"
    assert [row[1] for row in rows] == sorted((row[1] for row in before), reverse=True)
    order, rows = click(name)
    assert [row[0] for row in rows] == sorted(row[0] for row in before)
    assert accuracy.get_attribute("aria-sort") == "none"
    _, rows = click(name)
    assert [row[0] for row in rows] == sorted((row[0] for row in before), reverse=True)
