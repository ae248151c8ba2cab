"""Run the costly part of a cleaning rule on the rows that it can change, and on no others.

A cheap test (a literal, a small character class) tells most rows apart at 20 to 150 ns a row, where replacing costs 200
to 1,000. So a rule made with `where` costs little on a million rows of which few have what it looks for.
"""

from collections.abc import Callable

import polars as pl

Rule = Callable[[pl.Expr], pl.Expr]
"""From a text column to a text column; a null stays null."""


def where(text: pl.Expr, condition: Rule, change: Rule) -> pl.Expr:
    """`change` applied to the rows on which `condition` holds; every other row stays as it is, byte for byte.

    Args:
        condition: from the column to a boolean one; null counts as false.
        change: from a text column of those rows alone to one of the same length.
    """

    def gated(texts: pl.Series) -> pl.Series:
        rows = _evaluated(texts, condition).fill_null(False).arg_true()
        if not len(rows):
            return texts
        return texts.clone().scatter(rows, _evaluated(texts.gather(rows), change))

    return text.map_batches(gated, return_dtype=pl.String, is_elementwise=True)


def each(function: Callable[[str], str]) -> Rule:
    """A Python function of one text as a change for `where`; it is called once a row, so gate it well."""

    def mapped(texts: pl.Series) -> pl.Series:
        return pl.Series(texts.name, [text if text is None else function(text) for text in texts], dtype=pl.String)

    return lambda text: text.map_batches(mapped, return_dtype=pl.String, is_elementwise=True)


def _evaluated(texts: pl.Series, expression: Rule) -> pl.Series:
    return texts.rename("text").to_frame().select(expression(pl.col("text"))).to_series()
