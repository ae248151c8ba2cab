"""The cleaning rules of section `clean` on chats: every message and every context is a text of its own."""

from dataclasses import dataclass

import polars as pl

from assay.cleaning.rule_chain import Settled, apply_rules
from assay.cleaning.rules import CleanParams, chosen_rules
from assay.core.removed_rows import REMOVED_SCHEMA, removed_rows
from assay.text.language import is_foreign

CHANGED_SCHEMA = pl.Schema([*REMOVED_SCHEMA.items(), ("field", pl.String)])
"""`field` is what changed: `messages[1].content` or `context[0]`, counted from 0."""


@dataclass(frozen=True)
class CleanedChats:
    """Chats after the rules; `changed` is `CHANGED_SCHEMA`, `removed` `REMOVED_SCHEMA`."""

    records: pl.DataFrame
    changed: pl.DataFrame
    removed: pl.DataFrame


def clean_chats(records: pl.DataFrame, params: CleanParams) -> CleanedChats:
    """Chats (`id`, `source`, `messages`, `context`) whose texts have been through the rules of section `clean`.

    A rule that is for other sources alone does nothing here.
    """
    cells = text_cells(records)
    settled = apply_clean_rules(cells.select(pl.col("cell").alias("id"), "source", "text"), params)
    length = pl.col("text").str.len_chars()
    breaks = {
        "unsettled": pl.int_range(pl.len(), dtype=pl.UInt32).is_in(settled.unsettled.implode()),
        "empty_text": length == 0,
        "min_characters": length < params.min_characters,
        "max_characters": length > params.max_characters,
    }
    rule = pl.coalesce(pl.when(broken).then(pl.lit(name)) for name, broken in breaks.items())
    after = cells.with_columns(text=settled.texts).with_columns(rule=rule)
    if params.languages is not None:
        # A chat is in a language, not each of its messages: some are too short to tell.
        whole = after.group_by("id", maintain_order=True).agg(pl.col("text").str.join("\n"))
        foreign = whole.filter(is_foreign(whole["text"], **params.languages.model_dump()))
        is_in_foreign = pl.col("id").is_in(foreign["id"].implode())
        after = after.with_columns(pl.coalesce("rule", pl.when(is_in_foreign).then(pl.lit("language"))))
    bad = after.filter(pl.col("rule").is_not_null()).unique("id", keep="first", maintain_order=True)
    by_row = after.group_by("id", maintain_order=True).agg(
        pl.struct("role", content="text").filter(pl.col("role").is_not_null()).alias("messages"),
        pl.col("text").filter(pl.col("role").is_null()).alias("context"),
    )
    changed = settled.changed.rename({"id": "cell"}).join(
        cells.select("cell", "id", "field"), on="cell", how="left", maintain_order="left"
    )
    return CleanedChats(
        records.drop("messages", "context")
        .join(by_row, on="id", how="left", maintain_order="left")
        .join(bad, on="id", how="anti", maintain_order="left"),
        changed.select(CHANGED_SCHEMA.names()),
        removed_rows(bad, pl.col("rule")),
    )


def text_cells(records: pl.DataFrame) -> pl.DataFrame:
    """Every message and context of the records as a row: `cell` (a number, as text), `id`, `source`, `field`, `role`
    (null for a context) and `text`, those of a record together and in their order."""
    rows = records.with_row_index("row")

    def cells_of(column: str, field: str, role: pl.Expr, text: pl.Expr) -> pl.DataFrame:
        length = pl.col(column).list.len()
        cells = rows.filter(length > 0).with_columns(place=pl.int_ranges(0, length)).explode(column, "place")
        return cells.select("row", "id", "source", field=pl.format(field, "place"), role=role, text=text)

    message = pl.col("messages").struct.field
    messages = cells_of("messages", "messages[{}].content", message("role"), message("content"))
    contexts = cells_of("context", "context[{}]", pl.lit(None, pl.String), pl.col("context"))
    # Stable, so that the contexts of a record follow its messages.
    cells = pl.concat([messages, contexts]).sort("row", maintain_order=True)
    return cells.with_row_index("cell").select(pl.col("cell").cast(pl.String), "id", "source", "field", "role", "text")


def apply_clean_rules(cells: pl.DataFrame, params: CleanParams) -> Settled:
    """The texts of cells after the rules of section `clean`."""
    # The stage `clean` checks that the sources of its rules exist; here they may be those of the other track.
    named = [source for where in params.rules.values() if not isinstance(where, bool) for source in where]
    rules = chosen_rules(params, sorted({*cells["source"].unique(), *named}))
    return apply_rules(cells, rules)
