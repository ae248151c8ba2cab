import pytest

from assay.core import progress as module


def test_without_a_terminal_there_are_lines_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    assert list(module.progress([1, 2, 3], "embed", total=3, unit="batch")) == [1, 2, 3]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith("embed: 2/3 batch")


def test_quick_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(module.progress("abc", "embed", total=3, unit="batch")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
