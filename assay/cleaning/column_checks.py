"""Checks of the values of each column, by dataframely, and what happens to values that are missing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dataframely as dy
import polars as pl

from assay.core.removed_rows import REMOVED_SCHEMA

POSITION = "row position"
"""Ties what dataframely reports to the rows; the white space keeps the name apart from those of the data."""

CHECK_NAMES = {"regex": "pattern", "max_length": "max_characters", "check__allowed": "allowed"}
"""From dataframely's names of the checks to ours."""


@dataclass(frozen=True)
class ColumnCheck:
    """What the values of one text column must be; None where a check is off. A missing value passes.

    Attributes:
        allowed: the values that there may be.
        pattern: a regular expression (Rust's, linear in the text) that every value must match somewhere.
        max_characters: length of the longest value.
    """

    allowed: tuple[str, ...] | None
    pattern: str | None
    max_characters: int | None


@dataclass(frozen=True)
class Checked:
    """Rows in order, and those that are not (`REMOVED_SCHEMA`; `before` is the value that failed)."""

    records: pl.DataFrame
    removed: pl.DataFrame


@dataclass(frozen=True)
class Filled:
    """Rows that have what they need, values filled in, and rows set aside (both `REMOVED_SCHEMA`)."""

    records: pl.DataFrame
    changed: pl.DataFrame
    removed: pl.DataFrame


def record_schema(checks: Mapping[str, ColumnCheck]) -> type[dy.Schema]:
    """The dataframely schema of the checked columns, by name."""
    columns: dict[str, Any] = {POSITION: dy.UInt32(nullable=False)}
    for name, check in checks.items():
        columns[name] = dy.String(
            nullable=True,
            regex=check.pattern,
            max_length=check.max_characters,
            check=None if check.allowed is None else {"allowed": _one_of(check.allowed)},
        )
    return type("Record", (dy.Schema,), columns)


def check_records(records: pl.DataFrame, schema: type[dy.Schema]) -> Checked:
    """Set aside every row with a value that fails a check; the rule is `<column>_<check>`, the first that failed.

    Args:
        records: `id` and the columns of the schema.
        schema: made by `record_schema`.
    """
    numbered = records.with_row_index(POSITION)
    failure = schema.filter(numbered.select(schema.column_names()), cast=False).failure
    if not len(failure):
        return Checked(records, pl.DataFrame(schema=REMOVED_SCHEMA))
    details = failure.details()
    failed = []
    for verdict in failure.counts():
        column, _, check = verdict.rpartition("|")
        rule = pl.lit(f"{column}_{CHECK_NAMES[check]}")
        failed.append(details.filter(pl.col(verdict) == "invalid").select(POSITION, rule=rule, before=column))
    first = pl.concat(failed).unique(POSITION, keep="first", maintain_order=True).sort(POSITION)
    removed = numbered.select(POSITION, "id").join(first, on=POSITION, maintain_order="left")
    return Checked(
        records=numbered.join(first, on=POSITION, how="anti", maintain_order="left").drop(POSITION),
        removed=removed.with_columns(after=pl.lit(None, pl.String)).select(REMOVED_SCHEMA.names()),
    )


def is_missing(column: str) -> pl.Expr:
    """Whether a value is null or nothing but white space."""
    return pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")


def fill_missing(records: pl.DataFrame, values: Mapping[str, str], removals: Mapping[str, str]) -> Filled:
    """Fill missing values in, under the rule `impute_<column>`, or set their rows aside.

    Args:
        records: `id`, `text` and every column that is named.
        values: by column, what a missing value becomes.
        removals: by column, the rule under which a row without a value is removed.
    """
    changed = [pl.DataFrame(schema=REMOVED_SCHEMA)]
    removed = [pl.DataFrame(schema=REMOVED_SCHEMA)]
    for column, rule in removals.items():
        removed.append(_lines(records.filter(is_missing(column)), rule, "text", None))
        records = records.filter(~is_missing(column))
    for column, value in values.items():
        changed.append(_lines(records.filter(is_missing(column)), f"impute_{column}", column, value))
        filled = pl.when(is_missing(column)).then(pl.lit(value)).otherwise(column)
        records = records.with_columns(filled.alias(column))
    return Filled(records, pl.concat(changed), pl.concat(removed))


def _lines(rows: pl.DataFrame, rule: str, column: str, after: str | None) -> pl.DataFrame:
    return rows.select("id", rule=pl.lit(rule), before=column, after=pl.lit(after, pl.String))


def _one_of(allowed: tuple[str, ...]) -> Callable[[pl.Expr], pl.Expr]:
    # A function of its own: a lambda in a loop would see the last column's values.
    return lambda value: value.is_in(allowed)
