"""One source of chats: its file read, its records checked, and where each comes from."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from assay.core.errors import InputError
from assay.core.removed_rows import removed_rows
from assay.instruction_data.formats import FIXES, read_chats
from assay.instruction_data.params import InstructDataParams, Source
from assay.sources.provenance import check_ids, content_ids, origins, unreadable_rows
from assay.sources.table_files import fix_of

SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Read:
    """One source: how many records its file has, those that can be used, and those that cannot (`REMOVED_SCHEMA`).

    `records` has `id`, `source`, `category`, `messages`, `context`, `origin` and provenance.
    """

    rows_in: int
    records: pl.DataFrame
    removed: pl.DataFrame


def read_source(source: Source, position: int, params: InstructDataParams) -> Read:
    """Read one source; `position` is its place in the params.

    An `InputError` as of `read_table`, `column` and `check_ids`; if there is no row; or if more records than
    `max_reject_fraction` cannot be read or used: it names the first, what is there, and the fix.
    """
    path = Path(params.path) / source.file
    key = f"instruct_data.sources.{position}"
    table = source.read(path)
    rows_in = table.cells.height + table.unreadable.height
    if not rows_in:
        raise InputError(f"{path}: has no row; is it the right file, and is its `header` set rightly?")
    chats = read_chats(table, source.layout, source.system_message, path, f"{key}.layout")
    rejects = pl.concat([table.unreadable, chats.rejected]).sort("line", maintain_order=True)
    if rejects.height > params.max_reject_fraction * rows_in:
        line, rule, before = rejects.row(0)
        raise InputError(
            f"{path}:{line}: {rule}: {before[:SHOWN_CHARACTERS]!r}; {rejects.height} of {rows_in} records cannot be "
            f"used, more than `instruct_data.max_reject_fraction` = {params.max_reject_fraction}: "
            f"{FIXES.get(rule) or fix_of(table, rule)}; or raise that number"
        )
    records = chats.records
    if source.layout.id is None:
        role, content = (pl.element().struct.field(name) for name in ("role", "content"))
        contents = pl.col("messages").list.eval(pl.format("{}\x1f{}", role, content)).list
        turns = records.select(
            prompt=contents.head(pl.col("messages").list.len() - 1).list.join("\x1e"), answer=contents.last()
        )
        records = records.with_columns(id=content_ids(turns["prompt"], turns["answer"]))
    records = records.select(
        pl.format("{}:{}", pl.lit(source.name), "id").alias("id"),
        pl.lit(source.name).alias("source"),
        pl.col("category").fill_null(source.name),
        "messages",
        "context",
        origins(source.file, records["line"]),
        source_url=pl.lit(source.url),
        licence=pl.lit(source.licence, pl.String),
        retrieved=pl.lit(source.retrieved, pl.String),
        authenticity=pl.lit(source.authenticity),
        passages=pl.lit(source.passages),
    )
    check_ids(records, path, f"{key}.layout")
    unused = chats.rejected.with_columns(id=origins(source.file, chats.rejected["line"]))
    removed = pl.concat([unreadable_rows(table, source.file), removed_rows(unused, pl.col("rule"), "before")])
    return Read(rows_in, records, removed)
