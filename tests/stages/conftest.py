from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test of a stage or a tool runs in a folder of its own: they read and write below the current one."""
    monkeypatch.chdir(tmp_path)
