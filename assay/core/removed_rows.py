"""Rows that a rule removes: one form for all stages, so that `removed.parquet` reads the same everywhere."""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

REMOVED_SCHEMA = pl.Schema({"id": pl.String, "rule": pl.String, "before": pl.String, "after": pl.String})
"""Schema of `removed.parquet` and `changed.parquet`; `after` is null where the row is gone."""
REMOVED_WITH_KEPT_SCHEMA = pl.Schema([*REMOVED_SCHEMA.items(), ("kept_id", pl.String)])
"""The same of duplicates: `kept_id` is the row that stands for the removed one."""


VISIBLE = r"[^\s\p{Default_Ignorable_Code_Point}\p{Cf}\p{Cc}]"


@dataclass(frozen=True)
class Filtered:
    """Rows that a stage keeps, and those that it removes (`REMOVED_SCHEMA`)."""

    kept: pl.DataFrame
    removed: pl.DataFrame


def is_missing(column: str) -> pl.Expr:
    """Whether a value is null, or nothing but white space and characters that cannot be seen."""
    return pl.col(column).is_null() | ~pl.col(column).str.contains(VISIBLE)


def removed_rows(rows: pl.DataFrame, rule: str | pl.Expr, before: str | pl.Expr = "text") -> pl.DataFrame:
    """`rows` in the form of `removed.parquet`, under the name of a rule, or under one that an expression gives."""
    return rows.select(
        pl.col("id").cast(pl.String),
        (pl.lit(rule) if isinstance(rule, str) else rule).cast(pl.String).alias("rule"),
        (pl.col(before) if isinstance(before, str) else before).cast(pl.String).alias("before"),
        pl.lit(None, pl.String).alias("after"),
    )


def remove_by_rule(rows: pl.DataFrame, rule: pl.Expr, before: str | pl.Expr = "text") -> Filtered:
    """Rows for which `rule` is null, and the others under its names; the `id` of those is their `origin`."""
    marked = rows.with_columns(rule=rule)
    bad = marked.filter(pl.col("rule").is_not_null()).with_columns(id="origin")
    return Filtered(marked.filter(pl.col("rule").is_null()).drop("rule"), removed_rows(bad, pl.col("rule"), before))


def none_removed() -> pl.DataFrame:
    """No rows, in the form of `removed.parquet`."""
    return pl.DataFrame(schema=REMOVED_SCHEMA)


def remove(records: pl.DataFrame, rows: pl.DataFrame, rule: str, before: str | pl.Expr = "text") -> Filtered:
    """`records` without `rows` (matched by `id`), in their order, and the rows removed under the name of the rule."""
    kept = records.join(rows.select("id"), on="id", how="anti", maintain_order="left")
    return Filtered(kept, removed_rows(rows, rule, before))


def counts_by_rule(removed: pl.DataFrame | Iterable[pl.DataFrame]) -> dict[str, int]:
    """Rows removed by each rule, as `removed` in metrics: the rules in alphabetical order."""
    table = removed if isinstance(removed, pl.DataFrame) else pl.concat(removed)
    return dict(table.group_by("rule").len().sort("rule").iter_rows())
