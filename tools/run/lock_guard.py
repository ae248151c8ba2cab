"""Keep `dvc.lock` whole: part of `make repro`; `make doctor` asks it too, so it needs the standard library alone.

DVC rewrites `dvc.lock` in place, keeping the order of entries and adding new ones at the end: a process killed while it
writes leaves the beginning of the file. After each stage a good copy is kept (before the first one, git's version at
HEAD serves), and `dvc.lock` counts as *cut* where

- its last entry is not whole: no line end, a path without its hash and size, or the beginning of the copy's entry;
- or entries of stages of `dvc.yaml` are missing, and those that are there are the first ones of the copy, in its order.

Nothing else is undone: a text that git knows (commit, stage, stash) is a choice, and entries that differ are newer. A
mistake costs no more than a run, since DVC compares each entry with the files.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

LOCK = Path("dvc.lock")
GOOD_COPY = Path(".dvc/tmp/repro/dvc.lock")
EMPTY = "schema: '2.0'\nstages: {}\n"
_OTHER_LINE = re.compile(r"^(?!schema:|stages:)\S.*\n", flags=re.MULTILINE)
"""Conflict markers, `datasets`: left to their author and to DVC."""
_LAST_LINES = re.compile(r"\n +size: \d+\n( +nfiles: \d+\n)?( +isexec: true\n)?\Z")


def split_entries(text: str) -> dict[str, str]:
    """Stage → its lines, in the order of the file. Nothing is parsed: the text may end anywhere."""
    blocks = re.split(r"^(?=  \S)", text, flags=re.MULTILINE)[1:]
    return {block.split("\n")[0].strip().rstrip(":").strip("'\""): block for block in blocks}


def join_entries(entries: dict[str, str]) -> str:
    """The text of a lock with these entries."""
    return "schema: '2.0'\nstages:\n" + "".join(entries.values()) if entries else EMPTY


def is_whole(block: str, reference: str) -> bool:
    """Whether an entry ends where it should; `reference` is the copy's, empty if it has none."""
    last = block.rpartition("- path:")[2]
    end = _LAST_LINES.search(last)
    if not block.endswith("\n") or "\n    cmd:" not in block or (reference.startswith(block) and reference != block):
        return False
    if "    outs:\n" not in block:
        return "    outs:\n" not in reference
    return end is not None and (end[1] is not None or ".dir\n" not in last)


def read_text(path: Path) -> str:
    """The text of a file, empty if there is none; bytes of a character that was cut are kept."""
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""


def run_git(*arguments: str) -> str:
    """What a git command prints, empty where it fails."""
    done = subprocess.run(("git", *arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return "" if done.returncode else done.stdout.decode("utf-8", "surrogateescape")


def inspect_lock() -> tuple[list[str], str]:
    """Stages whose entries `dvc.lock` has lost by a cut, and its text with copies of them."""
    text, good = read_text(LOCK), read_text(GOOD_COPY)
    if (text and text == good) or text == EMPTY or not LOCK.is_file() or _OTHER_LINE.search(text):
        return [], text
    found = split_entries(text)
    known = run_git("hash-object", "--", str(LOCK)).strip() if text.endswith("\n") and found else ""
    if known and run_git("cat-file", "-t", known):
        return [], text
    kept = split_entries(good or run_git("show", f"HEAD:./{LOCK}"))
    torn = [name for name in list(found)[-1:] if not is_whole(found[name], kept.get(name, ""))]
    whole = {name: found[name] for name in found if name not in torn}
    stages = re.findall(r"^ +([^\s:#]+):", read_text(Path("dvc.yaml")), flags=re.MULTILINE)
    rest = list(kept)[len(whole) :] if list(whole) == list(kept)[: len(whole)] else []
    cut = torn + [name for name in rest if name not in torn and (name.split("@")[0] in stages or not found)]
    return cut, join_entries({**kept, **whole}) if cut else text


def replace_text(path: Path, text: str) -> None:
    """Write a file in one step, if it has another text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if read_text(path) != text:
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8", errors="surrogateescape")
        partial.replace(path)


def guard_lock(order: list[str]) -> None:
    """Restore, and say, what a cut has taken from `dvc.lock`, put its entries in `order`, and keep a good copy.

    Without that, entries would stand in the order in which stages ended, which depends on the number of jobs. To be
    called while the repository's lock is held, so that no DVC process writes.
    """
    cut, text = inspect_lock()
    entries = split_entries(text)
    if not LOCK.is_file():  # deleted, for all to run again: neither the copy nor the commit is to bring it back
        replace_text(GOOD_COPY, EMPTY)
    elif entries and not _OTHER_LINE.search(text):
        place = {name: index for index, name in enumerate(order)}
        text = join_entries(dict(sorted(entries.items(), key=lambda entry: place.get(entry[0], len(place)))))
        replace_text(LOCK, text)
        replace_text(GOOD_COPY, text)
        for end, there in (("restored from a copy", True), ("in no copy, so runs again", False)):
            if names := [name for name in cut if (name in entries) is there]:
                print(f"dvc.lock was cut short; {end}: {', '.join(names)}", flush=True)
    elif text != EMPTY and not _OTHER_LINE.search(text):
        LOCK.unlink()
        print("dvc.lock was cut to nothing, and there is no copy: stages run, or come from DVC's cache", flush=True)
