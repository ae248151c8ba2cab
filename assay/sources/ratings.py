"""Ratings of texts: from a list or a table of them to one row a rating, and from ratings to labels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import polars as pl
from pydantic import Field

from assay.core.errors import InputError
from assay.core.params import Params
from assay.core.removed_rows import REMOVED_SCHEMA, Filtered, is_missing, none_removed, removed_rows
from assay.sources.provenance import ColumnName, origins, unreadable_rows
from assay.sources.table_files import SHOWN_CHARACTERS, Reading, check_readable, column

RATINGS_SCHEMA = pl.Schema({"id": pl.String, "annotator": pl.String, "rating": pl.Float64, "label": pl.String})


class RatingColumns(Params):
    """Columns of a file with one rating a row."""

    id: ColumnName
    annotator: ColumnName
    rating: ColumnName


class RatingListColumns(Params):
    """Columns of a file with a JSON list of ratings a row."""

    id: ColumnName
    ratings: ColumnName


class Ratings(Reading):
    """Where the ratings of a source are."""

    file: Annotated[str, Field(min_length=1)]
    columns: RatingListColumns | RatingColumns


class RatingBin(Params):
    """From ratings `at_least` ≤ r ≤ `at_most` (null: no bound) to a label."""

    label: Annotated[str, Field(min_length=1)]
    at_least: float | None
    at_most: float | None


def explode_rating_lists(ids: pl.Series, lists: pl.Series, origin: pl.Series) -> Filtered:
    """From a JSON list a row to one row a rating: `id`, `annotator` (position from `01`), `value` as text, `origin`."""
    rows: list[tuple[str, str, str | None, str]] = []
    bad: list[tuple[str, str, str | None, None]] = []
    for row_id, text, place in zip(ids, lists, origin, strict=True):
        try:
            values = json.loads(text or "null")
        except (ValueError, RecursionError):
            # No JSON, a whole number of more digits than Python reads, or brackets thousands deep.
            values = None
        if not isinstance(values, list) or any(isinstance(value, list | dict) for value in values):
            bad.append((place, "ratings_not_a_list", text, None))
            continue
        for position, value in enumerate(values, start=1):
            shown = value if isinstance(value, str) or value is None else json.dumps(value)
            rows.append((row_id, f"{position:02d}", shown, place))
    schema = dict.fromkeys(("id", "annotator", "value", "origin"), pl.String)
    return Filtered(pl.DataFrame(rows, schema, orient="row"), pl.DataFrame(bad, REMOVED_SCHEMA, orient="row"))


def bin_ratings(rating: pl.Expr, bins: Sequence[RatingBin]) -> pl.Expr:
    """Label of the first bin that a rating fits, null where it fits none."""
    label = pl.lit(None, pl.String)
    for one in reversed(bins):
        fits = rating.is_not_null()
        if one.at_least is not None:
            fits &= rating >= one.at_least
        if one.at_most is not None:
            fits &= rating <= one.at_most
        label = pl.when(fits).then(pl.lit(one.label)).otherwise(label)
    return label


def label_ratings(rows: pl.DataFrame, bins: Sequence[RatingBin] | None) -> Filtered:
    """Give each rating its label; remove what is no number though there are bins, and second ratings.

    `rows` are as `explode_rating_lists` gives them; without bins a rating is itself the label.
    """
    stripped = pl.col("value").str.strip_chars()
    number = stripped.cast(pl.Float64, strict=False)
    number = pl.when(number.is_finite()).then(number)
    value = pl.when(stripped != "").then(stripped)
    rules = [
        pl.when(is_missing("id")).then(pl.lit("no_id")),
        pl.when(is_missing("annotator")).then(pl.lit("no_annotator")),
        pl.when(~pl.struct("id", "annotator").is_first_distinct()).then(pl.lit("rated_twice")),
    ]
    if bins is not None:
        rules.append(pl.when(value.is_not_null() & number.is_null()).then(pl.lit("rating_not_a_number")))
    marked = rows.with_columns(
        rating=number, label=value if bins is None else bin_ratings(number, bins), rule=pl.coalesce(rules)
    )
    bad = marked.filter(pl.col("rule").is_not_null()).with_columns(id="origin")
    shown = pl.concat_str("annotator", "value", separator=" ", ignore_nulls=True)
    return Filtered(
        marked.filter(pl.col("rule").is_null()).select(RATINGS_SCHEMA.names()),
        removed_rows(bad, pl.col("rule"), before=shown),
    )


def fill_labels(
    records: pl.DataFrame,
    ratings: pl.DataFrame,
    bins: Sequence[RatingBin] | None,
    draws: pl.Series,
    has_labels: bool,
    has_references: bool,
) -> pl.DataFrame:
    """Fill `label` and `reference_label` from the ratings where the data has none; draws from [0, 1) choose the rater.

    Where the given label is the bin of one rater's number, that number goes with it, as `given_rating`.
    """
    given = ratings.filter(pl.col("label").is_not_null()).sort("id", "annotator", maintain_order=True)
    labels = given.group_by("id", maintain_order=True).agg(given_labels="label", given_ratings="rating")
    if bins is not None:
        rated = ratings.filter(pl.col("rating").is_not_null())
        means = rated.group_by("id", maintain_order=True).agg(pl.col("rating").mean())
        references = means.select("id", reference=bin_ratings(pl.col("rating"), bins))
    else:
        references = (
            given.group_by("id", "label", maintain_order=True)
            .len()
            .sort("id", "len", "label", descending=[False, True, False])
            .group_by("id", maintain_order=True)
            .agg(reference=pl.col("label").first())
        )
    joined = (
        records.join(labels, on="id", how="left", maintain_order="left")
        .join(references, on="id", how="left", maintain_order="left")
        .with_columns(draw=draws)
    )
    drawn = (pl.col("draw") * pl.col("given_labels").list.len()).floor().cast(pl.Int64)
    rating = [] if bins is None or has_labels else ["given_rating"]
    return joined.with_columns(
        given_rating=pl.col("given_ratings").list.get(drawn),
        label=pl.col("label") if has_labels else pl.col("given_labels").list.get(drawn),
        reference_label=pl.col("reference_label") if has_references else pl.col("reference"),
    ).select(*records.columns, *rating)


def read_ratings(
    ratings: Ratings, folder: Path, max_reject_fraction: float, bins: Sequence[RatingBin] | None, key: str
) -> Filtered:
    """The ratings file of a source. Raises `InputError`: as in `read_table`, `check_readable` and `column`."""
    path = folder / ratings.file
    table = ratings.read(path)
    check_readable(table, path, max_reject_fraction)
    places = origins(ratings.file, table.lines)
    ids = column(table, ratings.columns.id, path, f"{key}.columns.id")
    if isinstance(ratings.columns, RatingListColumns):
        lists = column(table, ratings.columns.ratings, path, f"{key}.columns.ratings")
        rated = explode_rating_lists(ids, lists, places)
        if rated.removed.height > max_reject_fraction * len(ids):
            place, rule, before, _ = rated.removed.row(0)
            raise InputError(
                f"{folder / place}: {rule}: {str(before)[:SHOWN_CHARACTERS]!r}; {rated.removed.height} of {len(ids)} "
                f"rows are no JSON list, more than `ingest.max_reject_fraction`: correct `{key}.columns.ratings`"
            )
    else:
        annotators = column(table, ratings.columns.annotator, path, f"{key}.columns.annotator").alias("annotator")
        values = column(table, ratings.columns.rating, path, f"{key}.columns.rating").alias("value")
        rated = Filtered(pl.DataFrame([ids.alias("id"), annotators, values, places]), none_removed())
    labelled = label_ratings(rated.kept, bins)
    if labelled.removed.height > max_reject_fraction * max(rated.kept.height, 1):
        place, rule, before, _ = labelled.removed.row(0)
        raise InputError(
            f"{folder / place}: {rule}: {str(before)[:SHOWN_CHARACTERS]!r}; {labelled.removed.height} of "
            f"{rated.kept.height} ratings cannot be used, more than `ingest.max_reject_fraction`: correct "
            f"`{key}.columns`, or `ingest.rating_bins` (null where a rating is itself a label)"
        )
    removed = pl.concat([unreadable_rows(table, ratings.file), rated.removed, labelled.removed])
    return Filtered(labelled.kept, removed)
