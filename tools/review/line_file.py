"""A file of decisions in git, one a line and only ever added to, into which several processes may write."""

import fcntl
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assay.core.errors import InputError


class AlreadyDecidedError(InputError):
    """Somebody else decided the row meanwhile."""


@dataclass(frozen=True)
class Written:
    """A line that this session added: its row, its number in the file and its bytes."""

    id: str
    line: int
    content: bytes


@contextmanager
def locked(path: Path) -> Iterator[io.FileIO]:
    """The file of corrections, made where there is none, for this process alone; writes go to its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with io.FileIO(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def append(path: Path, header: str, row_id: str, line: str, refuse: Callable[[bytes], None]) -> Written:
    """Add one line at the end of the file, or nothing where that fails.

    Args:
        path: of the file.
        header: its first line, written where there is no file.
        row_id: what the line is about.
        line: with its line end.
        refuse: raises an `InputError` where what is in the file already is no ground to add to.
    """
    with locked(path) as file:
        before = file.readall()
        head = b"" if before.endswith(b"\n") else b"\n"
        if not before:
            head = f"{header}\n".encode()
        refuse(before or head)
        content = line.encode()
        try:
            rest = head + content
            while rest:
                rest = rest[file.write(rest) or 0 :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(len(before))
            raise
        return Written(row_id, (before + head).count(b"\n") + 1, content)


def take_back(path: Path, written: Written) -> None:
    """Take the line off the end of the file.

    Raises:
        InputError: it is no longer the last.
    """
    with locked(path) as file:
        content = file.readall()
        if not content.endswith(b"\n" + written.content):
            raise InputError(
                f"{path}: the line on {written.id} is no longer the last, so it stays; change it with an editor"
            )
        file.truncate(len(content) - len(written.content))
        os.fsync(file.fileno())
