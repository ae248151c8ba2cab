"""Checks of the values of each column, by dataframely, and what happens to values that are missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import dataframely as dy
import polars as pl
from pydantic import Field

from assay.core.params import Params, Pattern
from assay.core.removed_rows import Filtered, is_missing, none_removed, removed_rows

POSITION = "row position"
"""Ties what dataframely reports to the rows; the white space keeps the name apart from those of the data."""
CHECK_NAMES = {"regex": "pattern", "max_length": "max_characters", "check__allowed": "allowed"}
"""From dataframely's names of the checks to ours."""


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
        allowed = None if check.allowed is None else {"allowed": _one_of(check.allowed)}
        columns[name] = dy.String(nullable=True, regex=check.pattern, max_length=check.max_characters, check=allowed)
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
        rule = pl.lit(f"{column}_{CHECK_NAMES[check]}")
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


def _one_of(allowed: Sequence[str]) -> Callable[[pl.Expr], pl.Expr]:
    # A function of its own: a lambda in a loop would see the last column's values.
    return lambda value: value.is_in(list(allowed))
