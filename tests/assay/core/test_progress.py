import pytest

from assay.core import progress as module


@pytest.mark.parametrize("total", [3, None])
def test_without_a_terminal_there_are_lines_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], total: int | None
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    assert list(module.progress([1, 2, 3], "embed", total, unit="batch")) == [1, 2, 3]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith(f"embed: 2/{total or '?'} batch")
    assert ("left" in lines[-1]) == (total is not None)


def test_quick_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(module.progress("abc", "embed", total=3, unit="batch")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
