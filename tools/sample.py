"""Renew docs/sample/, what people see before they run anything: `make sample BASE=main`.

The report as one file, the comment of a pull request (this working tree beside BASE), and a picture each of the report
and of the review page, taken by a headless browser.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from assay.core.errors import InputError, run_stage

SAMPLE = Path("docs/sample")
REPORT = Path("report/index.html")
COMMENT = Path("report/pull_request.md")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
REVIEWER = "A. Reviewer"
WAIT_MS = 5000
"""Time that a page has to fetch and draw its rows."""


def find_browser() -> str:
    """The browser of this machine. Raises `InputError`: there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise InputError(f"no browser on PATH (looked for {', '.join(BROWSERS)}); install one for the pictures")
    return found


def take_picture(browser: str, address: str, file: Path, height: int) -> None:
    """Save the top of a page as PNG, 1,200 pixels wide and `height` high. Raises `InputError`: there is no picture."""
    file.unlink(missing_ok=True)  # an older one would hide that
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--virtual-time-budget={WAIT_MS}"]
    command = [browser, *options, f"--window-size=1200,{height}", f"--screenshot={file.absolute()}", address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not file.is_file():
        raise InputError(f"{file}: the browser made no picture of {address}: {done.stderr.strip()[-300:]}")


def main() -> None:
    """Renew the sample."""
    parser = argparse.ArgumentParser(prog="make sample", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", help="what the pull request of the sample is compared with: a branch, tag or commit")
    arguments, browser = parser.parse_args(), find_browser()
    if not REPORT.is_file():
        raise InputError(f"{REPORT}: no such file; run `make repro` first")
    SAMPLE.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "tools.changes.pull_request", arguments.base], check=True)
    # Without the mode of an output of DVC, which is read-only.
    shutil.copyfile(COMMENT, SAMPLE / "pull_request.md")
    shutil.copyfile(REPORT, SAMPLE / "report.html")
    take_picture(browser, REPORT.absolute().as_uri(), SAMPLE / "report.png", 1500)
    page = [sys.executable, "-m", "tools.review.queue_page", "--port", "0", "--reviewer", REVIEWER]
    with subprocess.Popen(page, stdout=subprocess.PIPE, text=True) as server:
        try:
            said = "".join(server.stdout.readline() for _ in range(2)) if server.stdout else ""
            address = next((word for word in said.split() if word.startswith("http://")), None)
            if address is None:
                raise InputError("the review page did not start, for the reason above")
            take_picture(browser, address, SAMPLE / "review.png", 900)
        finally:
            server.terminate()
    for file in sorted(SAMPLE.iterdir()):
        print(f"{file}: {file.stat().st_size / 1024:,.0f} KiB")


if __name__ == "__main__":
    run_stage(main)
