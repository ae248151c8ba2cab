"""A `dvc.lock` that was cut is restored or what it lost is named; one that somebody changed stays as it is."""

from pathlib import Path

import pytest

from tests.own_process import commit_all, git
from tools.run import lock_guard
from tools.run.lock_guard import GOOD_COPY, LOCK, guard_lock, inspect_lock

ENTRY = Path(__file__).with_name("lock_entry.txt").read_text(encoding="utf-8")
ENTRIES = {name: ENTRY.format(name=name) for name in ("a", "c@x", "b", "d")}
WHOLE = lock_guard.join_entries(ENTRIES)


@pytest.fixture(autouse=True)
def project() -> None:
    """A repository without a commit, with a copy of its lock."""
    git("init", "-q")
    Path("dvc.yaml").write_text("stages:\n" + "".join(f"  {name}:\n    cmd: echo\n" for name in "acbd"))
    LOCK.write_text(WHOLE)
    guard_lock(list(ENTRIES))


def test_every_cut_is_restored(capsys: pytest.CaptureFixture[str]) -> None:
    for end in range(0, len(WHOLE), 11):
        LOCK.write_text(WHOLE[:end])
        cut = inspect_lock()[0]
        assert list(ENTRIES)[-len(cut) :] == cut
        guard_lock(list(ENTRIES))
        assert capsys.readouterr().out == f"dvc.lock was cut short; restored from a copy: {', '.join(cut)}\n"
        assert LOCK.read_text() == WHOLE


def test_an_entry_written_anew_before_the_cut_is_kept() -> None:
    newer = WHOLE.replace("echo b", "echo new")
    LOCK.write_text(newer[:-30])
    guard_lock(list(ENTRIES))
    assert LOCK.read_text() == GOOD_COPY.read_text() == newer


def test_entries_come_into_the_order_of_the_pipeline() -> None:
    guard_lock(["b", "a", "c@x"])
    assert LOCK.read_text() == lock_guard.join_entries({name: ENTRIES[name] for name in ("b", "a", "c@x", "d")})


def test_without_a_copy_the_commit_serves_or_the_loss_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    GOOD_COPY.unlink()
    LOCK.write_text("sche")
    guard_lock([])
    assert "dvc.lock was cut to nothing, and there is no copy" in capsys.readouterr().out
    assert not LOCK.exists()
    GOOD_COPY.unlink(missing_ok=True)
    LOCK.write_text(WHOLE[:-30])
    guard_lock([])
    assert capsys.readouterr().out == "dvc.lock was cut short; in no copy, so runs again: d\n"
    LOCK.write_text(WHOLE)
    commit_all()
    for text in ("", WHOLE[:-30]):
        GOOD_COPY.unlink()
        LOCK.write_text(text)
        guard_lock([])
        assert "restored from a copy: " + ("d" if text else "a, c@x, b, d") in capsys.readouterr().out
        assert LOCK.read_text() == WHOLE


def stays(text: str) -> bool:
    LOCK.write_text(text)
    unharmed = inspect_lock() == ([], text)
    guard_lock([])
    return unharmed and LOCK.read_text() == text


def test_a_lock_that_somebody_changed_stays() -> None:
    # An older commit with fewer entries, checked out.
    shorter = lock_guard.join_entries({name: ENTRIES[name] for name in ("a", "c@x")})
    LOCK.write_text(shorter)
    git("add", "-A")
    assert stays(WHOLE)
    assert stays(shorter)
    # `dvc commit` or `dvc repro`: other hashes, a stage more.
    assert stays(WHOLE.replace("md5: 2", "md5: 3") + ENTRIES["a"].replace("  a:", "  new:"))
    # A stage was taken out of dvc.yaml; a merge is under way; all stages are off.
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text().replace("  d:\n", "  other:\n"))
    assert stays(lock_guard.join_entries({name: ENTRIES[name] for name in ("a", "c@x", "b")}))
    assert stays(f"{shorter}<<<<<<< HEAD\n{ENTRIES['d']}=======\n>>>>>>> other\n")
    assert stays(lock_guard.EMPTY)
    LOCK.unlink()
    guard_lock([])
    assert not LOCK.exists()
