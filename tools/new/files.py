"""The data of a fork as tables that `ingest` reads: fetched, told apart, converted where no reader has their form."""

import gzip
import json
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import openpyxl
import polars as pl

from assay.core.errors import InputError
from assay.sources.downloads import HUB_SOURCE, download_snapshot, is_local, read_address
from assay.sources.package_index import save
from assay.sources.table_files import GZIP_MARK, Reading, Table
from tools.new.columns import WORDS, is_known_name, part_of

FORMATS = {"tab": "tsv", "ndjson": "jsonl"} | {
    name: name for name in ("csv", "tsv", "jsonl", "json", "parquet", "xlsx")
}
NAMED = ("json", "jsonl", "parquet")
"""Formats whose columns have names anyway."""
UNSET = dict.fromkeys(("separator", "quote", "encoding", "sheet"))
SHOWN = 8


@dataclass(frozen=True)
class File:
    """A table: its path below the folder of the data, how it is read, the split that its name says, what it holds."""

    file: str
    reading: dict[str, Any]
    part: str | None
    table: Table


@dataclass(frozen=True)
class Data:
    """The folder of the data, the tables in it, and the rule by which they were converted (None: they were not)."""

    folder: Path
    files: list[File]
    rule: str | None = None


def find_data(source: str, scratch: Path, given: dict[str, Any], timeout_seconds: int) -> Data:
    """The tables of a path, an address or a hub repository; what is fetched or converted is put into `scratch`.

    `given` are settings of `Reading` that hold whatever the files look like. Raises `InputError`: nothing is there, or
    no table.
    """
    path = Path(source) if is_local(source) else fetch(source, scratch, timeout_seconds)
    if path.is_file():
        return read_files([path], path.parent, scratch, given)
    if not path.is_dir():
        there = sorted(one.name for one in path.parent.iterdir())[:SHOWN] if path.parent.is_dir() else "nothing"
        raise InputError(f"{source}: no such file or folder; {path.parent} holds {there}: correct DATA")
    every = sorted(one for one in path.rglob("*") if one.is_file() and "/." not in one.as_posix())
    tables = {one: kind for one in every if (kind := format_of(one))}
    if tables:
        # Beside other tables, JSON describes them.
        return read_files([one for one in tables if tables[one] != "json"] or tables, path, scratch, given)
    if texts := [one for one in every if one.suffix in ("", ".txt") and one.parent != path]:
        return convert(read_text_folders(texts, path), scratch, path.name, "a row for each .txt, its folder the label")
    names = [one.name for one in every][:SHOWN]
    raise InputError(f"{source}: no table, and no .txt in folders named by labels; it holds {names}: correct DATA")


def format_of(path: Path) -> str | None:
    """The format that the ending of a file says."""
    return FORMATS.get(path.name.removesuffix(".gz").rpartition(".")[2])


def pin_hub(source: str) -> str:
    """A source as `fetch.assets` has it: a hub repository is one of data sets."""
    return re.sub("^hf:(?!datasets/)", "hf:datasets/", source)


def fetch(source: str, scratch: Path, timeout_seconds: int) -> Path:
    """The file of an address, or the folder of a hub repository at a commit, in `scratch`."""
    if not source.startswith("hf:"):
        file = scratch / (PurePosixPath(source.partition("?")[0]).name or "data")
        save(read_address(source, "new", timeout_seconds), file)
        return file
    if not HUB_SOURCE.fullmatch(pin_hub(source)):
        raise InputError(f"{source}: name the commit, hf:owner/name@ and its 40 hexadecimal digits")
    download_snapshot(pin_hub(source), scratch, timeout_seconds)
    return scratch


def require_table(path: Path) -> None:
    """Raise `InputError` where a file is empty, or what people take for a table."""
    with path.open("rb") as file:
        start = file.read(100).removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    if not start:
        raise InputError(f"{path}: is empty (0 bytes): export or fetch it again")
    inside = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    what = next(
        (what for mark, what in WORDS["no_tables"].items() if start.lstrip().lower().startswith(mark.lower())), None
    )
    if what and "[Content_Types].xml" not in inside:
        raise InputError(f"{path}: is {what}" + (f"; in it are {inside[:SHOWN]}" if inside else ""))


def read_files(paths: Iterable[Path], folder: Path, scratch: Path, given: dict[str, Any]) -> Data:
    """Files below a folder; a JSON object of splits is converted. Raises as `require_table` and `read_table` do."""
    files = []
    for path in paths:
        require_table(path)
        try:
            files += read_file(path, path.relative_to(folder).as_posix(), given)
        except InputError as error:
            if "holds no JSON list" not in str(error):
                raise
            content = path.read_bytes()
            value = json.loads(gzip.decompress(content) if content.startswith(GZIP_MARK) else content)
            if any("paragraphs" in one for one in value.get("data", []) if isinstance(one, dict)):
                from assay.instruction_data.read import read_squad_release

                reading = UNSET | {"format": "json", "header": True}
                return Data(folder, [File(path.name, reading, None, read_squad_release(path))])
            return convert(rows_of_splits(value, path), scratch, path.stem, "a row for each entry, its key the split")
    order = (*WORDS["splits"], None)
    return Data(folder, sorted(files, key=lambda one: order.index(one.part)))


def read_file(path: Path, file: str, given: dict[str, Any]) -> list[File]:
    """A file as it reads best; of a workbook the sheets that are splits, else the longest."""
    is_workbook = zipfile.is_zipfile(path)
    reading = UNSET | {"format": "xlsx" if is_workbook else format_of(path) or "csv", "header": True} | given
    titles, found = [reading["sheet"]], []
    if is_workbook and titles == [None]:
        rows = {sheet.title: sheet.max_row or 0 for sheet in openpyxl.load_workbook(path, read_only=True).worksheets}
        titles = list(rows) if all(map(part_of, rows)) else [max(rows, key=lambda title: rows[title])]
    for sheet in titles:
        used, table = read_with_corrections(path, reading | {"sheet": sheet})
        if used["format"] not in NAMED and "header" not in given and used["header"] and not has_header(table.cells):
            used["header"] = False
            table = Reading(**used).read(path)
        found.append(File(file, used, part_of(sheet or "") or part_of(file), table))
    return found


def read_with_corrections(path: Path, reading: dict[str, Any]) -> tuple[dict[str, Any], Table]:
    """The settings that the reader itself proposes, and the table that it reads by them."""
    while True:
        change: dict[str, Any] = {}
        try:
            table = Reading(**reading).read(path)
        except InputError as error:
            change = next((settings for said, settings in WORDS["corrections"].items() if said in str(error)), {})
            if not change.items() - reading.items():
                raise
        else:
            broken = (table.unreadable["rule"] == "not_utf8").sum()
            others = (table.cells[name].str.contains(r"[^\x00-\x7F]").any() for name in table.cells.columns)
            if broken and (10 * broken > table.cells.height or not any(others)):
                change = {"encoding": "cp1252"}
            elif reading["format"] == "jsonl" and not table.cells.height:
                change = {"format": "json"}
            elif table.separated_by and reading["separator"] is None:
                is_tab = table.separated_by == "\t"
                change = {"format": "tsv"} if is_tab else {"format": "csv", "separator": table.separated_by}
            if not change.items() - reading.items():
                return reading, table
        reading = reading | change


def has_header(cells: pl.DataFrame) -> bool:
    """Whether the names of columns name them: one is a known name, or none is a number, long, or a value, too."""
    values = [set(column) for column in cells]
    if any(is_known_name(name) and name not in of for name, of in zip(cells.columns, values, strict=True)):
        return True
    plain = (len(name.split()) < 5 and not re.fullmatch(r"[-+\d.,:/]+", name) for name in cells.columns)
    return all(plain) and not any(name in of for name, of in zip(cells.columns, values, strict=True))


def rows_of_splits(value: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """The rows of an object with a list of them for each split, their split in `given_split`.

    Lists are rows, too, and an object of columns is a list of rows. Raises `InputError`: it has no such list.
    """
    columns = {key: one for key, one in value.items() if isinstance(one, dict) and one}
    columns = {key: one for key, one in columns.items() if all(isinstance(cells, list) for cells in one.values())}
    of_columns = {
        key: [dict(zip(one, row, strict=True)) for row in zip(*one.values(), strict=False)]
        for key, one in columns.items()
    }
    parts = {key: rows for key, rows in (value | of_columns).items() if isinstance(rows, list) and rows}
    parts = {key: rows for key, rows in parts.items() if all(isinstance(row, list | dict) for row in rows)}
    if not parts:
        raise InputError(f"{path}: no key of {list(value)[:SHOWN]} holds a list of rows: write a list of objects")
    return [
        ({f"column_{n}": cell for n, cell in enumerate(row, start=1)} if isinstance(row, list) else row)
        | ({"given_split": key} if len(parts) > 1 else {})
        for key, rows in parts.items()
        for row in rows
    ]


def read_text_folders(texts: Iterable[Path], top: Path) -> list[dict[str, Any]]:
    """A row for each text file: its path as `id`, its folder as label, the top folder as split if it names one."""
    rows = []
    for path in texts:
        *above, label, _ = path.relative_to(top).parts
        try:
            text = path.read_text("utf-8-sig")
        except UnicodeDecodeError:
            text = path.read_text("cp1252", errors="replace")
        split = {"given_split": above[0]} if above and part_of(above[0]) else {}
        rows.append({"id": path.relative_to(top).as_posix(), "text": text, "label": label} | split)
    return rows


def convert(rows: Iterable[dict[str, Any]], scratch: Path, name: str, rule: str) -> Data:
    """Rows as one file of JSON lines, by a rule that is said."""
    path = scratch / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Data(scratch, read_file(path, path.name, {}), rule)
