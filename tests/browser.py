"""Pages in a headless browser, for the tests of what people see."""

import shutil

import pytest

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    """Chromium; no longer than a module, since as long as it runs, nothing else can use asyncio in this thread."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="pages are opened by playwright, of the extra `test`"
    )
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        pytest.skip("no Chromium here; on Debian and Ubuntu: apt-get install chromium")
    with playwright.sync_playwright() as driver, driver.chromium.launch(executable_path=found) as chromium:
        yield chromium


@pytest.fixture
def faults():
    """What went wrong in the pages of a test, which fails if anything is left in here; take out what was meant to."""
    found = []
    yield found
    assert not found


@pytest.fixture
def open_page(browser, faults):
    """Opens an address, as `browser.new_page` is told to. Notes among the faults what goes wrong in the page, and
    whatever it asks of others than the server, or the folder, that it came from."""
    pages = []

    def opened(address, **screen):
        home = (
            address[: address.rindex("/") + 1]
            if address.startswith("file:")
            else "/".join([*address.split("/")[:3], ""])
        )
        page = browser.new_page(**screen)
        pages.append(page)
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if is_abroad(request.url, home) else None)
        page.goto(address)
        return page

    yield opened
    for page in pages:
        page.close()


def is_abroad(address, home):
    """Does a request leave the page's home? What a page makes by itself does not."""
    return not address.startswith((home, "data:", "blob:"))
