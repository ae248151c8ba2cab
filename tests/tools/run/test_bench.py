"""Benchmarks of two commits side by side, in a small repository of its own."""

import re
from pathlib import Path

import pytest

from assay.core.outputs import write_text
from tests.own_process import commit_all, git, run_python
from tools.run.bench import lend, render_table


def commit_benchmarks(repository: Path, file: str, *names: str) -> None:
    tests = (f"def test_{name}(benchmark):\n    benchmark.pedantic(sorted, args=([2, 1],))" for name in names)
    write_text(repository / "tests/benchmarks" / file, "\n".join(tests))
    commit_all(repository)


@pytest.mark.slow
def test_benchmarks_that_are_new_gone_or_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest-benchmark would take the processes of the benchmarks for workers of this run, and measure nothing.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    commit_benchmarks(tmp_path, "test_old.py", "kept", "gone")
    (tmp_path / "tests/benchmarks/test_old.py").unlink()
    commit_benchmarks(tmp_path, "test_moved.py", "kept", "new")
    done = run_python("-m", "tools.run.bench", "HEAD~1", "-k", "kept or gone or new")
    rows = [line.split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [(row[0], row[3] if row[0] != "| `test_kept`" else "ratio") for row in rows] == [
        ("| `test_gone`", "gone |"),
        ("| `test_kept`", "ratio"),
        ("| `test_new`", "new |"),
    ]
    assert git("worktree", "list", cwd=tmp_path).count("\n") == 1


def test_a_commit_that_is_not_there(tmp_path: Path) -> None:
    commit_benchmarks(tmp_path, "test_old.py", "kept")
    done = run_python("-m", "tools.run.bench", "no-such", status=1)
    assert "'no-such' is no revision of this repository" in done.stderr


def test_table_of_ratios() -> None:
    lines = render_table({"a": 2.0, "b": 0.0}, {"a": 1.0, "b": 0.01}, "abc").splitlines()
    assert lines[2:] == ["| `a` | 2 | 1 | 0.50 |", "| `b` | 0 | 0.01 | – |"]
    assert re.match(r"\| benchmark .* base abc ", lines[0])


def test_data_that_git_does_not_hold_is_lent(tmp_path: Path) -> None:
    for path in ("here/data/raw", "here/data/tracked", "base/data/tracked", "here/models/base"):
        (tmp_path / path).mkdir(parents=True)
    lend(tmp_path / "here", tmp_path / "base")
    assert (tmp_path / "base/data/raw").resolve() == tmp_path / "here/data/raw"
    assert (tmp_path / "base/models/base").is_symlink()
    assert not (tmp_path / "base/data/tracked").is_symlink()
