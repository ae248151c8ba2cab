from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.review_browser import browser as system_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with system_browser() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        context.set_default_timeout(30_000)
        yield context.new_page()
