"""Files of other people: where their rows come from, on what terms, and what each row is called."""

from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field, field_validator

from assay.core.errors import InputError
from assay.core.params import Address, Params
from assay.core.removed_rows import removed_rows
from assay.sources.table_files import Table

ColumnName = Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1)]
"""Name of a column, or its number from 1 where the file has no header."""


class Provenance(Params):
    """Where the rows of a source come from, on what terms and since when."""

    name: Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")]
    url: Address
    licence: Annotated[str, Field(min_length=1)] | None
    retrieved: str | None
    authenticity: Literal["real", "generated"]

    @field_validator("retrieved", mode="before")
    @classmethod
    def _is_a_date(cls, value: Any) -> Any:
        if isinstance(value, date):
            raise ValueError("put the date in quotes, since DVC refuses params that are dates")
        if isinstance(value, str):
            try:
                date.fromisoformat(value)
            except ValueError:
                raise ValueError("must be a date such as '2026-11-22', or null") from None
        return value

    def as_columns(self) -> dict[str, pl.Expr]:
        """The columns by which each row of the source says where it comes from."""
        terms = {"licence": self.licence, "retrieved": self.retrieved, "authenticity": self.authenticity}
        values = {"source": self.name, "source_url": self.url} | terms
        return {name: pl.lit(value, pl.String) for name, value in values.items()}


def content_ids(texts: pl.Series, responses: pl.Series) -> pl.Series:
    """16 hexadecimal digits of the BLAKE2b of each row's text and response; `-2`, `-3`, … for its exact repeats."""
    digests = [
        blake2b(f"{text}\x1f{response or ''}".encode(), digest_size=8).hexdigest()
        for text, response in zip(texts, responses, strict=True)
    ]
    return (
        pl.DataFrame({"digest": pl.Series(digests, dtype=pl.String)})
        .with_columns(repeat=pl.int_range(1, pl.len() + 1).over("digest"))
        .select(id=pl.when(pl.col("repeat") == 1).then("digest").otherwise(pl.format("{}-{}", "digest", "repeat")))
        .to_series()
    )


def origins(file: str, lines: pl.Series) -> pl.Series:
    """`file:line` of each record."""
    return pl.select(pl.format("{}:{}", pl.lit(file), lines).alias("origin")).to_series()


def unreadable_rows(table: Table, file: str) -> pl.DataFrame:
    """Records of a table that could not be read, as removed rows; their id is where they are."""
    rows = table.unreadable.with_columns(id=origins(file, table.unreadable["line"]))
    return removed_rows(rows, pl.col("rule"), before="before")


def check_ids(records: pl.DataFrame, path: Path, key: str) -> None:
    """Stop where two records have one id. Raises `InputError`: names the first, where it is and what differs."""
    repeated = records.filter(pl.col("id").is_duplicated())
    if repeated.height:
        same = repeated.filter(id=repeated["id"][0])
        differ = [name for name in same.columns if name != "origin" and same[name].n_unique() > 1]
        is_chat = "messages" in records.columns
        of_ids = f"{key}.id" if is_chat else f"{key}.columns.id"
        fix = f"make them unique, or set `{of_ids}` to null, and ids are made from the content"
        if not is_chat and "text" not in differ:
            fix = (
                f"if a line is one rater's judgement, name this file, rater and rating in `{key}.ratings`, and what a "
                "rater gives not in `columns` and `carry`: every vote counts then; else delete the repeated lines"
            )
        raise InputError(
            f"{path}: {repeated['id'].n_unique()} ids occur more than once, the first {same['id'][0]!r} at "
            f"{same['origin'].to_list()[:3]}, with other values in {differ or 'no column'}; {fix}"
        )
