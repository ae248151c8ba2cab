"""Checks of the values of each column, and what happens to values that are missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import polars as pl
from pydantic import Field

from assay.core.params import Params, Pattern
from assay.core.removed_rows import Filtered, is_missing, none_removed, removed_rows


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


def check_records(records: pl.DataFrame, checks: Mapping[str, CheckParams]) -> Filtered:
    """Remove every row with a value that fails a check; the rule is `<column>_<check>`, the first that failed."""
    failed = [
        pl.when(~passes).then(pl.struct(rule=pl.lit(f"{column}_{name}"), before=pl.col(column).cast(pl.String)))
        for column, check in checks.items()
        for name, passes in _rules(pl.col(column), check).items()
    ]
    if not failed:
        return Filtered(records, none_removed())
    first = records.select(first=pl.coalesce(failed))["first"]
    failing = pl.DataFrame({"id": records["id"], "first": first}).filter(first.is_not_null()).unnest("first")
    return Filtered(records.filter(first.is_null()), removed_rows(failing, pl.col("rule"), before="before"))


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


def _rules(value: pl.Expr, check: CheckParams) -> dict[str, pl.Expr]:
    """The checks that are on, by name: whether a value passes, null for one that is missing."""
    rules = {}
    if check.allowed is not None:
        rules["allowed"] = value.is_in(check.allowed)
    if check.max_characters is not None:
        rules["max_characters"] = value.str.len_chars() <= check.max_characters
    if check.pattern is not None:
        rules["pattern"] = value.str.contains(check.pattern)
    return rules
