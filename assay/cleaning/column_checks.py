"""Checks of the values of each column, by dataframely, and what happens to values that are missing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import dataframely as dy
import polars as pl
from pydantic import Field

from assay.core.params import Params, Pattern
from assay.core.removed_rows import Filtered, is_missing, none_removed, removed_rows

POSITION = "row position"
"""Ties what dataframely reports to the rows; the white space keeps the name apart from those of the data."""


class CheckParams(Params):
    """What the values of one text column must be; null where a check is off. A missing value passes."""

    allowed: Annotated[list[str], Field(min_length=1)] | None
    pattern: Pattern | None
    max_characters: Annotated[int, Field(ge=1)] | None


@dataclass(frozen=True)
class Batch:
    """What has become of a batch of rows: `records` go on; `changed` and `removed` are `REMOVED_SCHEMA`."""

    records: pl.DataFrame
    changed: pl.DataFrame
    removed: pl.DataFrame


def record_schema(checks: Mapping[str, CheckParams]) -> type[dy.Schema]:
    """The dataframely schema of the checked columns, by name."""
    columns: dict[str, Any] = {POSITION: dy.UInt32(nullable=False)}
    for name, check in checks.items():
        columns[name] = dy.String(nullable=True, check=_rules(check))
    return type("Record", (dy.Schema,), columns)


def check_records(records: pl.DataFrame, schema: type[dy.Schema]) -> Filtered:
    """Remove every row with a value that fails a check; the rule is `<column>_<check>`, the first that failed."""
    numbered = records.with_row_index(POSITION)
    failure = schema.filter(numbered.select(schema.column_names()), cast=False).failure
    if not len(failure):
        return Filtered(records, none_removed())
    details = failure.details()
    failed = []
    for verdict in failure.counts():
        column, _, check = verdict.rpartition("|")
        rule = pl.lit(f"{column}_{check.removeprefix('check__')}")
        failed.append(details.filter(pl.col(verdict) == "invalid").select(POSITION, rule=rule, before=column))
    first = pl.concat(failed).unique(POSITION, keep="first", maintain_order=True).sort(POSITION)
    failing = numbered.select(POSITION, "id").join(first, on=POSITION, maintain_order="left")
    return Filtered(
        numbered.join(first, on=POSITION, how="anti", maintain_order="left").drop(POSITION),
        removed_rows(failing, pl.col("rule"), before="before"),
    )


def fill_missing(records: pl.DataFrame, values: Mapping[str, str], removals: Mapping[str, str]) -> Batch:
    """Fill missing values in, under the rule `impute_<column>`, or remove their rows.

    `values` is by column what a missing value becomes, `removals` the rule under which a row without one is removed.
    """
    changed, removed = [none_removed()], [none_removed()]
    for column, rule in removals.items():
        removed.append(removed_rows(records.filter(is_missing(column)), rule))
        records = records.filter(~is_missing(column))
    for column, value in values.items():
        imputed = removed_rows(records.filter(is_missing(column)), f"impute_{column}", before=column)
        changed.append(imputed.with_columns(after=pl.lit(value)))
        filled = pl.when(is_missing(column)).then(pl.lit(value)).otherwise(column)
        records = records.with_columns(filled.alias(column))
    return Batch(records, pl.concat(changed), pl.concat(removed))


def _rules(check: CheckParams) -> dict[str, Callable[[pl.Expr], pl.Expr]]:
    """The checks that are on, by name. Not dataframely's `max_length`, which counts bytes."""
    rules: dict[str, Callable[[pl.Expr], pl.Expr]] = {
        "allowed": lambda value: value.is_in(check.allowed or []),
        "max_characters": lambda value: value.str.len_chars() <= (check.max_characters or 0),
        "pattern": lambda value: value.str.contains(check.pattern or ""),
    }
    return {name: rules[name] for name in rules if name in check.model_dump(exclude_none=True)}
