"""Lines that stand in so many texts of one source that they are its form and not its content: footers, disclaimers.

A line counts once a text. Shares are of all texts of the source; but a text of one line has no boilerplate: where it
repeats as a whole, it is a duplicate.
"""

from collections.abc import Callable, Iterable, Sequence

import polars as pl

from stages.lib.gate import where

BOILERPLATE_SCHEMA = pl.Schema({"source": pl.String, "line": pl.String, "documents": pl.UInt32, "share": pl.Float64})


def frequent_lines(
    batches: Callable[[], Iterable[pl.DataFrame]], *, max_document_share: float, min_documents: int
) -> pl.DataFrame:
    """Lines, without white space at their ends, of more than a share of the texts of one source.

    Exact, and in memory that does not grow with the rows: a line with a share above `max_document_share` of all texts
    has one above it in at least one batch. So the first pass collects the lines of which this is true, and the second
    counts these alone.

    Args:
        batches: gives a new iterator over the rows, `source` and `text`, at each call.
        max_document_share: a line of more texts than this share of its source's is boilerplate.
        min_documents: and of at least so many.

    Returns:
        `BOILERPLATE_SCHEMA`, the most frequent line of each source first.
    """
    candidates = pl.DataFrame(schema=["source", "line"]).cast(pl.String)
    texts = pl.DataFrame(schema={"source": pl.String, "texts": pl.UInt32})
    for batch in batches():
        rows = batch.group_by("source").agg(texts=pl.len())
        frequent = (
            _line_counts(batch)
            .join(rows, on="source")
            .filter(pl.col("documents") > max_document_share * pl.col("texts"))
        )
        candidates = pl.concat([candidates, frequent.select("source", "line")]).unique()
        texts = pl.concat([texts, rows]).group_by("source").agg(pl.col("texts").sum())
    counts = pl.DataFrame(schema={"source": pl.String, "line": pl.String, "documents": pl.UInt32})
    for batch in batches() if candidates.height else ():
        some = _line_counts(batch).join(candidates, on=["source", "line"], how="semi")
        counts = pl.concat([counts, some]).group_by("source", "line").agg(pl.col("documents").sum())
    return (
        counts.join(texts, on="source")
        .with_columns(share=pl.col("documents") / pl.col("texts"))
        .filter(pl.col("share") > max_document_share, pl.col("documents") >= min_documents)
        .select(BOILERPLATE_SCHEMA.names())
        .cast(BOILERPLATE_SCHEMA)
        .sort("source", "documents", "line", descending=[False, True, False])
    )


def remove_boilerplate(text: pl.Expr, *, lines: Sequence[str]) -> pl.Expr:
    """Take out the lines of texts of several lines that are, without white space at their ends, among `lines`."""
    if not lines:
        return text
    known = pl.Series(lines, dtype=pl.String)
    return where(
        text,
        lambda text: text.str.contains("\n", literal=True) & text.str.contains_any(known.implode()),
        lambda text: (
            text.str.split("\n")
            .list.eval(pl.element().filter(~pl.element().str.strip_chars().is_in(known.implode())))
            .list.join("\n")
        ),
    )


def _line_counts(batch: pl.DataFrame) -> pl.DataFrame:
    """`source`, `line` and the number of texts that have the line, of texts of several lines."""
    return (
        batch.lazy()
        .filter(pl.col("text").str.contains("\n", literal=True))
        .with_row_index("row")
        .select("row", "source", line=pl.col("text").str.split("\n"))
        .explode("line")
        .with_columns(pl.col("line").str.strip_chars())
        .filter(pl.col("line") != "")
        .unique()
        .group_by("source", "line")
        .agg(documents=pl.len())
        .collect()
    )
