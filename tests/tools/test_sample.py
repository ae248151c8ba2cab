"""What `make sample` says where it cannot take its pictures."""

from pathlib import Path

import pytest

from assay.core.errors import InputError
from tools.sample import find_browser, take_picture


def test_a_browser_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"no browser on PATH \(looked for chromium, .*\); install one"):
        find_browser()


def test_an_older_picture_does_not_stand_for_one_that_failed(tmp_path: Path) -> None:
    file = tmp_path / "report.png"
    file.write_bytes(b"of the last time")
    with pytest.raises(InputError, match=r"report\.png: the browser made no picture of file:///report"):
        take_picture("false", "file:///report", file, 900)
