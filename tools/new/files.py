"""The data of a fork as tables that `ingest` reads: fetched, told apart, converted where no reader has their form."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import polars as pl

from assay.core.errors import InputError
from assay.sources.downloads import HUB_SOURCE, download_snapshot, is_local, read_address
from assay.sources.package_index import save
from assay.sources.table_files import Reading, Table, TableFormat
from tools.new.columns import WORDS, is_named, part_of

FORMATS = {"tab": "tsv", "ndjson": "jsonl"} | {name: name for name in get_args(TableFormat)}
NAMED = ("json", "jsonl", "parquet")
"""Formats whose columns have names anyway."""
UNSET = dict.fromkeys(("separator", "quote", "encoding", "sheet"))
SHOWN = 8


@dataclass(frozen=True)
class Data:
    """One table: the folder of the data, its path below that, how it is read, and what it holds.

    `rule`: how it was converted; None: it was not.
    """

    folder: Path
    file: str
    reading: dict[str, Any]
    table: Table
    rule: str | None = None


def find_data(source: str, name: str, scratch: Path, given: dict[str, Any], timeout_seconds: int) -> Data:
    """The table of a path, an address or a hub repository; what is fetched, or converted by `name`, goes to `scratch`.

    `given` are settings of `Reading` that hold whatever the files look like. Raises `InputError`: nothing is there, or
    no table.
    """
    path, names = Path(source) if is_local(source) else fetch(source, scratch, timeout_seconds), list[str]()
    if path.is_dir():
        names = sorted(one.relative_to(path).as_posix() for one in path.rglob("[!.]*") if one.is_file())
        names = [one for one in names if "/." not in one]
        # Beside other tables, JSON describes them.
        tables = [one for one in names if format_of(one) not in (None, "json")] or [n for n in names if format_of(n)]
        if len(tables) > 1:
            return join_files([read_file(path, one, given) for one in tables], scratch, name)
        texts = [one for one in names if "/" in one and PurePosixPath(one).suffix in ("", ".txt")]
        if texts and not tables:
            rows = [read_labelled_text(path, *one.split("/")) for one in texts]
            return convert(rows, scratch, name, "a row for each .txt, its folder the label")
        path = path / (tables[0] if tables else "no table, and no .txt in folders named by labels")
    if path.is_file():
        if rows := rows_of_splits(path):
            return convert(rows, scratch, name, "a row for each entry, its key the split")
        return read_file(path.parent, path.name, given)
    there = names or (sorted(one.name for one in path.parent.iterdir()) if path.parent.is_dir() else "nothing")
    raise InputError(f"{path}: no such file or folder; there is {there[:SHOWN]}: correct DATA")


def format_of(name: str) -> str | None:
    """The format that the ending of a file's name says."""
    return FORMATS.get(name.removesuffix(".gz").rpartition(".")[2].lower())


def fetch(source: str, scratch: Path, timeout_seconds: int) -> Path:
    """The file of an address, or the folder of a hub repository at a commit, in `scratch`."""
    if not source.startswith("hf:"):
        file = scratch / (PurePosixPath(source.partition("?")[0]).name or "data")
        save(read_address(source, "new", timeout_seconds), file)
        return file
    pinned = re.sub("^hf:(?!datasets/)", "hf:datasets/", source)
    if not HUB_SOURCE.fullmatch(pinned):
        raise InputError(f"{source}: name the commit, hf:owner/name@ and its 40 hexadecimal digits")
    download_snapshot(pinned, scratch, timeout_seconds)
    return scratch


def read_file(folder: Path, file: str, given: dict[str, Any]) -> Data:
    """A file by the settings that its reader proposes. Raises `InputError`: as `Reading.read`, or it is no table."""
    path = folder / file
    with path.open("rb") as content:
        start = content.read(100).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if what := next(
        (what for mark, what in WORDS["no_tables"].items() if start.startswith(mark.encode())),
        None if start else "empty",
    ):
        raise InputError(f"{path}: is {what}")
    reading: dict[str, Any] = UNSET | {"format": format_of(file) or "csv", "header": True} | given
    while True:
        change: dict[str, Any] = {}
        try:
            table = Reading(**reading).read(path)
        except InputError as error:
            change = next((settings for said, settings in WORDS["corrections"].items() if said in str(error)), {})
            if not change.items() - reading.items():
                raise
        else:
            has_names = reading["format"] in NAMED or not reading["header"] or "header" in given
            has_bad_bytes = (table.unreadable["rule"] == "not_utf8").any()
            if has_bad_bytes and not any(column.str.contains(r"[^\x00-\x7F]").any() for column in table.cells):
                change = {"encoding": "cp1252"}
            elif reading["format"] == "jsonl" and not table.cells.height:
                change = {"format": "json"}
            elif table.separated_by and reading["separator"] is None:
                change = {"separator": table.separated_by}
            elif not has_names and not has_header(table.cells):
                change = {"header": False}
            if not change.items() - reading.items():
                return Data(folder, file, reading, table)
        reading = reading | change


def has_header(cells: pl.DataFrame) -> bool:
    """Whether the names of columns name them: one is a known name, or none is a number, long, or a value, too."""
    is_value = {column.name: column.name in set(column) for column in cells}
    if any(is_named(name) and not of for name, of in is_value.items()):
        return True
    plain = (len(name.split()) < 5 and not re.fullmatch(r"[-+\d.,:/]+", name) for name in is_value)
    return all(plain) and not any(is_value.values())


def rows_of_splits(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON object with a list of them for each split, their split in `given_split`; none of others.

    Rows are objects or lists. Raises `InputError`: it is an object, and has no such list.
    """
    try:
        value = json.loads(path.read_bytes()) if format_of(path.name) == "json" else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return []
    parts = {key: of for key, of in value.items() if isinstance(of, list) and of and isinstance(of[0], list | dict)}
    rows = [(key, row) for key, of in parts.items() for row in of]
    if not rows:
        raise InputError(f"{path}: no key of {list(value)[:SHOWN]} holds a list of rows: write a list of objects")
    named = [
        (key, row if isinstance(row, dict) else {f"column_{n}": x for n, x in enumerate(row, 1)}) for key, row in rows
    ]
    return [row | ({"given_split": key} if len(parts) > 1 else {}) for key, row in named]


def read_labelled_text(top: Path, *parts: str) -> dict[str, Any]:
    """A row for a text file: its path as `id`, its folder as label, the top folder as split if it names one."""
    content = top.joinpath(*parts).read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    split = {"given_split": parts[0]} if len(parts) > 2 and part_of(parts[0]) else {}
    return {"id": "/".join(parts), "text": text.rstrip("\r\n"), "label": parts[-2]} | split


def join_files(files: list[Data], scratch: Path, name: str) -> Data:
    """The files that have the columns of the longest as one, their splits in `given_split`, if one of them is train."""
    columns = max((one.table.cells for one in files), key=lambda cells: cells.height).columns
    parts = {one.file: part_of(one.file) for one in files if set(one.table.cells.columns) == set(columns)}
    if len(set(parts.values())) == 1 or "train" not in parts.values():
        parts = dict.fromkeys(parts)
    kept = [one for one in files if one.file in parts and (parts[one.file] or not any(parts.values()))]
    split = {one.file: {"given_split": part} if (part := parts[one.file]) else {} for one in kept}
    rows = [row | split[one.file] for one in kept for row in one.table.cells.select(columns).to_dicts()]
    rule = f"the rows of {', '.join(split)}"
    if left := [one.file for one in files if one not in kept]:
        rule += f"; left out, of other columns or no split: {', '.join(left)}"
    if unreadable := sum(one.table.unreadable.height for one in kept):
        rule += f"; {unreadable} records that cannot be read are left out"
    return convert(rows, scratch, name, rule)


def convert(rows: Iterable[dict[str, Any]], scratch: Path, name: str, rule: str) -> Data:
    """Rows as one file of JSON lines, by a rule that is said."""
    path = scratch / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return replace(read_file(scratch, path.name, {}), rule=rule)
