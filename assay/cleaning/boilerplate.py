"""Lines that stand in so many texts of one source that they are its form and not its content: footers, disclaimers.

A line counts once a text, and without white space at its ends. Shares are of all texts of the source; but a text of one
line has no boilerplate: where it repeats as a whole, it is a duplicate.
"""

from collections.abc import Callable, Iterable, Sequence

import polars as pl

from assay.text.prefilter import where

BOILERPLATE_SCHEMA = pl.Schema({"source": pl.String, "line": pl.String, "documents": pl.UInt32, "share": pl.Float64})


def frequent_lines(
    batches: Callable[[], Iterable[pl.DataFrame]], *, max_document_share: float, min_documents: int
) -> pl.DataFrame:
    """Lines, without white space at their ends, of more than a share of the texts of one source.

    Exact, in two passes, and in memory that does not grow with the rows. The first finds the lines that may be so many:
    a line is forgotten as soon as it has no more than this share of the texts since it was first seen, and begins anew
    where it is seen again. A line that is forgotten at the end has no more than its share in any such stretch, so none
    in all; and one that is rare is forgotten within `1 / max_document_share` texts of its source. (Manku and Motwani
    2002, lossy counting, with batches for buckets.) The second counts what is left of them.

    `batches` gives a new iterator over the rows, `source` and `text`, at each call. The result is `BOILERPLATE_SCHEMA`,
    the most frequent line of each source first.
    """
    seen = pl.DataFrame(schema={"source": pl.String, "key": pl.UInt64, "documents": pl.UInt32, "since": pl.UInt32})
    texts = pl.DataFrame(schema={"source": pl.String, "texts": pl.UInt32})
    # A little less, so that rounding loses nothing: the share itself is held to at the end.
    share = max_document_share * (1 - 1e-9)
    for batch in batches():
        new = (
            _lines(batch)
            .unique(["row", "key"])
            .group_by("source", "key")
            .agg(documents=pl.len())
            .join(texts, on="source", how="left")
            .select("source", "key", "documents", since=pl.col("texts").fill_null(0))
        )
        more = batch.group_by("source").agg(texts=pl.len())
        texts = pl.concat([texts, more]).group_by("source").agg(pl.col("texts").sum())
        seen = (
            pl.concat([seen, new])
            .group_by("source", "key")
            .agg(pl.col("documents").sum(), pl.col("since").min())
            .join(texts, on="source")
            .filter(pl.col("documents") > share * (pl.col("texts") - pl.col("since")))
            .select(seen.columns)
        )
    counts = pl.DataFrame(schema={"source": pl.String, "line": pl.String, "documents": pl.UInt32})
    for batch in batches() if seen.height else ():
        some = _lines(batch).join(seen, on=["source", "key"], how="semi").unique(["row", "line"])
        some = some.group_by("source", "line").agg(documents=pl.len())
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

    def without(texts: pl.Series) -> pl.Series:
        # All lines of all texts at once: a membership test for each text would look at all of `known` each time.
        kept = (
            texts.to_frame("text")
            .with_row_index("row")
            .select("row", line=pl.col("text").str.split("\n"))
            .explode("line")
            .filter(~pl.col("line").str.strip_chars().is_in(known.implode()))
            .group_by("row")
            .agg(pl.col("line").str.join("\n"))
        )
        rows = pl.DataFrame({"row": range(len(texts))}, schema={"row": pl.UInt32})
        return rows.join(kept, on="row", how="left", maintain_order="left")["line"].fill_null("")

    return where(
        text,
        ("\n", lambda text: _has_several_lines(text) & text.str.contains_any(known.implode())),
        lambda text: text.map_batches(without, return_dtype=pl.String, is_elementwise=True),
    )


def _has_several_lines(text: pl.Expr) -> pl.Expr:
    """Whether more than one line has something on it; a line end at the end makes no second one."""
    return text.str.strip_chars().str.contains("\n", literal=True)


def _lines(batch: pl.DataFrame) -> pl.DataFrame:
    """`row`, `source`, `line` and its hash `key`, of every line with something on it, of texts of several lines."""
    return (
        batch.lazy()
        .filter(pl.col("text").str.contains("\n", literal=True))
        .filter(_has_several_lines(pl.col("text")))
        .with_row_index("row")
        .select("row", "source", line=pl.col("text").str.split("\n"))
        .explode("line")
        .with_columns(pl.col("line").str.strip_chars())
        .filter(pl.col("line") != "")
        .with_columns(key=pl.col("line").hash())
        .collect()
    )
