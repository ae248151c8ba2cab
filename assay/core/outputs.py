"""Writing outputs whole or not at all (to a temporary path beside the target, then renamed), and reading them."""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import polars as pl
import psutil

from assay.core.errors import SYSTEM_NUMBER, InputError
from assay.core.processes import hold, lock_of

ROW_GROUP_ROWS = 50_000
"""Rows that a reader of a part of the table has to decode at least."""


@contextmanager
def partial_path(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` where there is nothing, for this process alone; what is there afterwards is deleted.

    What processes that were killed have left of theirs is deleted first.
    """
    for left in target.parent.glob(f".{glob.escape(target.name)}.partial*"):
        if not _has_owner(left):
            _delete(left)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        yield partial
    finally:
        _delete(partial)


def _has_owner(partial: Path) -> bool:
    """Whether the process whose number ends the name is there, and is older than the path: numbers come again."""
    with suppress(psutil.NoSuchProcess, FileNotFoundError, ValueError):
        return bool(psutil.Process(int(partial.name.rpartition("-")[2])).create_time() <= partial.lstat().st_mtime)
    return False


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Delete a folder, if there is one, so that a process killed meanwhile leaves no half of it under its name."""
    with partial_path(path) as partial, suppress(FileNotFoundError):
        path.rename(partial)


@contextmanager
def output_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` when the block ends well, and is deleted when it does not.

    The one before stands aside, as `.<name>.old-<process>`, while the new one takes its place, and is deleted then. The
    next run clears up after a process that was killed, and brings back an old one whose place is empty.

    Raises `InputError`: another process writes it.
    """
    target = Path(path)
    with hold(lock_of(target), f"what writes {target}"), partial_path(target) as partial:
        _settle_old(target, partial)
        partial.mkdir(parents=True)
        try:
            yield partial
            if target.exists():
                target.rename(target.with_name(f".{target.name}.old-{os.getpid()}"))
            partial.rename(target)
        finally:
            _delete(partial)
            _settle_old(target, partial)


def _settle_old(target: Path, partial: Path) -> None:
    """Delete an output that stands aside, or bring it back if nothing has taken its place."""
    for old in target.parent.glob(f".{glob.escape(target.name)}.old-*"):
        if target.exists():
            # Renamed first: half deleted, it must not be taken for a whole one.
            old.rename(partial)
            _delete(partial)
        else:
            old.rename(target)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 `text` to `path` in one rename, making its folder where there is none."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with partial_path(target) as partial:
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)


def write_parquet(
    frame: pl.DataFrame | pl.LazyFrame, path: Path, compression: Literal["zstd", "lz4", "uncompressed"] = "zstd"
) -> None:
    """Write a table in its order; a lazy one streams, so it need not fit in memory.

    Raises `OSError`: the disk is full, or another error of the system. Polars hides its number in the text of an error
    that would else look like a defect of the program.
    """
    try:
        if isinstance(frame, pl.LazyFrame):
            frame.sink_parquet(path, compression=compression, row_group_size=ROW_GROUP_ROWS)
        else:
            frame.write_parquet(path, compression=compression, row_group_size=ROW_GROUP_ROWS)
    except pl.exceptions.ComputeError as error:
        if number := SYSTEM_NUMBER.search(str(error)):
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(path)) from None
        raise


def write_tables(folder: Path | str, tables: Mapping[str, pl.DataFrame]) -> None:
    """Write tables as `<name>.parquet` to a folder that has nothing else, as `output_folder` does."""
    with output_folder(folder) as out:
        for name, table in tables.items():
            write_parquet(table, out / f"{name}.parquet")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as JSON in one rename; keys keep their order, floats are rounded to 6 decimals."""
    rounded = json.loads(json.dumps(value, allow_nan=False), parse_float=lambda digits: round(float(digits), 6))
    write_text(path, json.dumps(rounded, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file. Raises `InputError`: it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON ({error}); run the stage that writes it again") from None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """SHA-256 over the names and the SHA-256 of all files below a folder, in hexadecimal digits."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    lines = [f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
