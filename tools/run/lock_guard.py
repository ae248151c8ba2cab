"""Keep `dvc.lock` whole: part of `make repro`; `make doctor` asks it too, so it needs the standard library alone.

DVC rewrites `dvc.lock` in place, keeping the order of entries and adding new ones at the end: a process killed while it
writes leaves the beginning of the file. After each stage a good copy is kept (`GOOD_COPY`; before the first one git's
version at HEAD serves), and `dvc.lock` counts as *cut* where

- its last entry is not whole: no line end, a path without its hash and size, or the beginning of the copy's entry;
- or entries of stages of `dvc.yaml` are missing, and those that are there are the first ones of the copy, in its order.

An entry that was cut after some of its outputs may pass: DVC misses the others, and runs the stage or restores it. And
nothing else is undone. A text that git knows (commit, stage, stash) is a choice; entries that differ are newer;
stages that are not in `dvc.yaml` any more are not missed, and `make repro` brings the copy up to date when it takes out
the entries of stages that are switched off. An entry restored against somebody's will costs nothing: DVC compares each
one with the files, and runs the stage where they differ.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

LOCK = Path("dvc.lock")
GOOD_COPY = Path(".dvc/tmp/repro/dvc.lock")
HEAD_LINES = "schema: '2.0'\nstages:\n"
_OTHER_LINE = re.compile(r"^(?!schema:|stages:)\S.*\n", flags=re.MULTILINE)
_LAST_LINES = re.compile(r"\n +size: \d+\n( +nfiles: \d+\n)?( +isexec: true\n)?\Z")


def split_entries(text: str) -> dict[str, str]:
    """Stage → its lines, in the order of the file. Nothing is parsed: the text may end anywhere."""
    blocks = re.split(r"^(?=  \S)", text, flags=re.MULTILINE)[1:]
    return {block.split("\n")[0].strip().rstrip(":").strip("'\""): block for block in blocks}


def join_entries(entries: dict[str, str]) -> str:
    """The text of a lock with these entries."""
    return HEAD_LINES + "".join(entries.values())


def is_whole(block: str, reference: str) -> bool:
    """Whether an entry ends where it should; `reference` is the copy's, empty if it has none."""
    last = block.rpartition("- path:")[2]
    end = _LAST_LINES.search(last)
    if not block.endswith("\n") or "\n    cmd:" not in block or (reference.startswith(block) and reference != block):
        return False
    if "    outs:\n" not in block:
        return "    outs:\n" not in reference
    return end is not None and (end[1] is not None or ".dir\n" not in last)


def find_cut(text: str, copy: str, pipeline: str) -> list[str]:
    """Stages whose entries a cut has damaged or taken, none if `text` is whole. `pipeline` is `dvc.yaml`'s text."""
    found, kept = split_entries(text), split_entries(copy)
    last = list(found)[-1:]
    torn = [name for name in last if not is_whole(found[name], kept.get(name, ""))]
    if not found and kept and not text.endswith("stages: {}\n"):
        return list(kept)
    whole = [name for name in found if name not in torn]
    stages = set(re.findall(r"^ +([^\s:#]+):", pipeline, flags=re.MULTILINE))
    lost = list(kept)[len(whole) :] if whole == list(kept)[: len(whole)] else []
    return torn + [name for name in lost if name not in torn and name.split("@")[0] in stages]


def read_lock(path: Path) -> str:
    """The text of a lock, empty if there is none; bytes of a character that was cut are kept."""
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""


def run_git(*arguments: str) -> str:
    """What a git command prints, empty where it fails or there is no git."""
    try:
        done = subprocess.run(("git", *arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.decode("utf-8", "surrogateescape")


def inspect_lock() -> tuple[list[str], str]:
    """Stages whose entries `dvc.lock` has lost by a cut, and its text with copies of them."""
    text, good = read_lock(LOCK), read_lock(GOOD_COPY)
    # Other lines (conflict markers, `datasets`) are left to their author and to DVC.
    if (text and text == good) or not LOCK.is_file() or _OTHER_LINE.search(text):
        return [], text
    known = run_git("hash-object", "--", str(LOCK)).strip() if text.endswith("\n") and split_entries(text) else ""
    if known and run_git("cat-file", "-t", known):
        return [], text
    head = run_git("show", f"HEAD:./{LOCK}")
    pipeline = Path("dvc.yaml").read_text(encoding="utf-8") if Path("dvc.yaml").is_file() else ""
    cut = find_cut(text, good or head, pipeline)
    if not cut:
        return [], text
    whole = {name: block for name, block in split_entries(text).items() if name not in cut}
    return cut, join_entries({**split_entries(good or head), **whole})


def replace_text(path: Path, text: str) -> None:
    """Write a file in one step, if it has another text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if read_lock(path) != text:
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8", errors="surrogateescape")
        partial.replace(path)


def guard_lock(order: list[str]) -> list[str]:
    """Restore what a cut has taken from `dvc.lock`, put its entries in `order`, keep a good copy; returns what to say.

    Without that, entries would stand in the order in which stages ended, which depends on the number of jobs. To be
    called while the repository's lock is held, so that no DVC process writes.
    """
    cut, text = inspect_lock()
    entries = split_entries(text)
    if not LOCK.is_file():  # deleted, for all to run again: neither the copy nor the commit is to bring it back
        replace_text(GOOD_COPY, HEAD_LINES)
        return []
    if _OTHER_LINE.search(text) or text.endswith("stages: {}\n"):
        return []
    if not entries:
        LOCK.unlink()
        return ["dvc.lock was cut to nothing, and there is no copy: stages run again, or are restored from DVC's cache"]
    place = {name: index for index, name in enumerate(order)}
    text = join_entries(dict(sorted(entries.items(), key=lambda entry: place.get(entry[0], len(place)))))
    replace_text(LOCK, text)
    replace_text(GOOD_COPY, text)
    restored, lost = ([name for name in cut if (name in entries) is kept] for kept in (True, False))
    lines = [f"dvc.lock was cut short; restored from a copy: {', '.join(restored)}"] if restored else []
    return lines + ([f"dvc.lock was cut short; in no copy, so runs again: {', '.join(lost)}"] if lost else [])
