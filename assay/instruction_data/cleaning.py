"""The cleaning rules of section `clean` on chats: every message and every context is a text of its own."""

from dataclasses import dataclass

import polars as pl

from assay.cleaning.boilerplate import frequent_lines
from assay.cleaning.rule_chain import Settled, apply_rules
from assay.cleaning.rules import BOILERPLATE, CleanParams, chosen_rules, with_boilerplate
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
    """Chats whose messages and contexts have been through the rules of section `clean`, each by itself.

    Args:
        records: `id`, `source`, `messages`, `context`.
        params: section `clean`; a rule that is for other sources alone does nothing here.
    """
    cells = text_cells(records)
    settled = apply_clean_rules(cells.select(pl.col("cell").alias("id"), "source", "text"), params)
    is_unsettled = pl.Series(range(cells.height), dtype=pl.UInt32).is_in(settled.unsettled.implode())
    length = pl.col("text").str.len_chars()
    after = cells.with_columns(text=settled.texts).with_columns(
        rule=pl.when(is_unsettled)
        .then(pl.lit("unsettled"))
        .when(length == 0)
        .then(pl.lit("empty_text"))
        .when(length < params.min_characters)
        .then(pl.lit("min_characters"))
        .when(length > params.max_characters)
        .then(pl.lit("max_characters"))
    )
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
    messages = (
        records.select("id", "source", "messages", place=pl.int_ranges(0, pl.col("messages").list.len()), kind=0)
        .explode("messages", "place")
        .select(
            *("id", "source", "place", "kind"),
            pl.format("messages[{}].content", "place").alias("field"),
            pl.col("messages").struct.field("role"),
            pl.col("messages").struct.field("content").alias("text"),
        )
    )
    contexts = (
        records.filter(pl.col("context").list.len() > 0)
        .select("id", "source", "context", place=pl.int_ranges(0, pl.col("context").list.len()), kind=1)
        .explode("context", "place")
        .select(
            *("id", "source", "place", "kind"),
            pl.format("context[{}]", "place").alias("field"),
            pl.lit(None, pl.String).alias("role"),
            pl.col("context").alias("text"),
        )
    )
    order = records.select("id").with_row_index("row")
    cells = pl.concat([messages, contexts]).join(order, on="id", how="left").sort("row", "kind", "place")
    return cells.with_row_index("cell").select(pl.col("cell").cast(pl.String), "id", "source", "field", "role", "text")


def apply_clean_rules(cells: pl.DataFrame, params: CleanParams) -> Settled:
    """The texts of cells after the rules of section `clean`."""
    # The stage `clean` checks that the sources of its rules exist; here they may be those of the other track.
    named = [source for where in params.rules.values() if not isinstance(where, bool) for source in where]
    rules = chosen_rules(params, sorted({*cells["source"].unique(), *named}))
    names = [rule.name for rule in rules]
    if BOILERPLATE not in names:
        return apply_rules(cells, rules)
    # As there: a line is only seen once markup is gone, so the rules before run first.
    at = names.index(BOILERPLATE)
    first = apply_rules(cells, rules[:at])
    after = cells.with_columns(text=first.texts)
    scope = rules[at].sources
    in_scope = after if scope is None else after.filter(pl.col("source").is_in(sorted(scope)))
    lines = frequent_lines(lambda: [in_scope.select("source", "text")], **params.boilerplate.model_dump())
    second = apply_rules(after, with_boilerplate(rules, lines), at)
    unsettled = pl.concat([first.unsettled, second.unsettled]).unique().sort()
    return Settled(second.texts, pl.concat([first.changed, second.changed]), unsettled)
