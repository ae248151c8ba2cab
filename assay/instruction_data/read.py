"""One source of chats: its file read, its records checked, and where each comes from."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from assay.core.removed_rows import counts_by_rule, removed_rows
from assay.instruction_data.formats import FIXES, read_chats
from assay.instruction_data.params import InstructDataParams, Source
from assay.language_models.chat_template import ANSWERING
from assay.sources.provenance import check_ids, content_ids, origins, unreadable_rows
from assay.sources.table_files import Table, check_limit, check_readable, fix_of, read_table


@dataclass(frozen=True)
class Read:
    """One source: how many records its file has, those that can be used, and those that cannot (`REMOVED_SCHEMA`).

    `records` has `id`, `source`, `category`, `messages`, `without_loss`, `context`, `unanswerable`, `origin` and
    provenance. `seen` is for the metrics: chats, turns, and the columns and keys of messages that nothing uses.
    """

    rows_in: int
    records: pl.DataFrame
    removed: pl.DataFrame
    seen: dict[str, Any]


def read_source(source: Source, position: int, params: InstructDataParams) -> Read:
    """Read one source; `position` is its place in the params.

    An `InputError` as of `read_table`, `check_readable`, `column` and `check_ids`; or if more records than
    `max_reject_fraction` cannot be read or used: it names the first, what is there, and the fix.
    """
    path = Path(params.path) / source.file
    key = f"instruct_data.sources.{position}"
    nested = source.layout.kind == "squad" and source.format == "json"
    table = read_squad_release(path) if nested else source.read(path)
    if table.cells.is_empty():
        check_readable(table, path, params.max_reject_fraction, "instruct_data")
    rows_in = table.cells.height + table.unreadable.height
    unanswerable = params.context.unanswerable if params.context else None
    refusal = unanswerable.refusal if unanswerable else None
    chats = read_chats(table, source.layout, source.system_message, path, f"{key}.layout", refusal)
    rejects = pl.concat([table.unreadable, chats.rejected]).sort("line", maintain_order=True)
    if rejects.height:
        rule = rejects["rule"][0]
        advice = f"records cannot be used {counts_by_rule(rejects)}: {FIXES.get(rule) or fix_of(table, rule)}"
        places = rejects.with_columns(pl.format("{}:{}", pl.lit(str(path)), "line").alias("line"))
        check_limit(places, rows_in, params.max_reject_fraction, advice, "instruct_data")
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
        pl.col("category").fill_null(source.name),
        "messages",
        "without_loss",
        "context",
        "unanswerable",
        origins(source.file, records["line"]),
        passages=pl.lit(source.passages),
        **source.as_columns(),
    )
    check_ids(records, path, f"{key}.layout")
    unused = chats.rejected.with_columns(id=origins(source.file, chats.rejected["line"]))
    removed = pl.concat([unreadable_rows(table, source.file), removed_rows(unused, pl.col("rule"), "before")])
    roles = chats.records["messages"].explode(empty_as_null=False).struct.field("role")
    seen = {
        "chats": records.height,
        "turns": int((roles == ANSWERING).sum()),
        "answers_without_loss": int(records["without_loss"].list.len().sum()),
        "unused_columns": chats.unused_columns,
        "unused_message_keys": chats.unused_keys,
    }
    return Read(rows_in, records, removed, seen)


def read_squad_release(path: Path) -> Table:
    """The questions of SQuAD's release, `{"data": [{"paragraphs": [{"context", "qas": [{"question", "answers"}]}]}]}`.

    A line is the number of a question. What has another form is read as it is. An `InputError` as of `read_table`.
    """
    try:
        value = json.loads(path.read_text("utf-8-sig"))
        rows = value["data"] if isinstance(value, dict) else value
        if any("paragraphs" in article for article in rows):
            parts = [(article, part, qa) for article in rows for part in article["paragraphs"] for qa in part["qas"]]
            rows = [{k: v for one in of for k, v in one.items() if k not in ("paragraphs", "qas")} for of in parts]
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return read_table(path, "json", header=True)
    with TemporaryDirectory() as folder:
        lines = Path(folder) / path.name
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_table(lines, "jsonl", header=True)
