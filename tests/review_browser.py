"""The review page in a real browser: what its test and that of the round trip share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")

expect.set_options(timeout=20_000)  # ms: a busy machine answers late


@contextmanager
def browser() -> Iterator[Browser]:
    """The browser of this machine, headless; skips the test where there is none."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser on PATH: none of {', '.join(BROWSERS)}")
    with sync_playwright() as driver, driver.chromium.launch(executable_path=path, headless=True) as opened:
        yield opened


def require_that_it_fits(opened: Browser, address: str, width: int) -> None:
    """On a screen of this width, a page is no wider."""
    with opened.new_context(viewport={"width": width, "height": 800}) as context:
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#card")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@contextmanager
def review_server(folder: Path, repository: Path, reviewer: str, *arguments: str) -> Iterator[str]:
    """`make review` in a folder, with more arguments; yields the address of its page."""
    command = [sys.executable, "-m", "tools.review.queue_page", "--port", "0", "--reviewer", reviewer, *arguments]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            said = [server.stdout.readline() for _ in range(2)]
            assert "http://127.0.0.1:" in said[1], said
            yield said[1].split()[1]
        finally:
            server.terminate()
