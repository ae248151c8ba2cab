"""Ratings of texts: from a list or a table of them to one row a rating, and from ratings to labels."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from pydantic import Field

from assay.core.errors import InputError
from assay.core.params import Params
from assay.core.removed_rows import REMOVED_SCHEMA, Filtered, is_missing, remove_by_rule
from assay.sources.annotation_tools import NESTED, parse_list, single_labels
from assay.sources.provenance import ColumnName, origins, unreadable_rows
from assay.sources.table_files import Reading, as_text, check_limit, check_readable, column

RATINGS_SCHEMA = pl.Schema({"id": pl.String, "annotator": pl.String, "rating": pl.Float64, "label": pl.String})
ROWS_SCHEMA = pl.Schema(dict.fromkeys(("id", "annotator", "value", "origin"), pl.String))
"""Of ratings as they stand in a file."""
SHOWN = pl.concat_str("annotator", "value", separator=" ", ignore_nulls=True)
"""Of a rating that is removed."""
Repeated = Literal["error", "first", "last"]


class RatingColumns(Params):
    """Columns of a file with one rating a row."""

    id: ColumnName
    annotator: ColumnName
    rating: ColumnName


class RatingListColumns(Params):
    """Columns of a file with a JSON list of ratings a row."""

    id: ColumnName
    ratings: ColumnName


class RaterColumns(Params):
    """Columns of a file with a column for each rater, whose name is the rater's."""

    id: ColumnName
    raters: Annotated[list[ColumnName], Field(min_length=1)]


class Ratings(Reading):
    """Where the ratings of a source are.

    Attributes:
        file: may be the file of the texts; where each of its lines is one rating, a text stands there once for each.
        not_rated: what a cell holds where a rater gave no rating; an empty one is none anyway.
        repeated: of the ratings that one rater gave one row: stop, or keep the first or the last in the file.
        exclude_slots: raters, or positions in the lists (`01`, `02`, …), whose ratings are left out.
    """

    file: Annotated[str, Field(min_length=1)]
    columns: RatingListColumns | RatingColumns | RaterColumns
    not_rated: list[str]
    repeated: Repeated
    exclude_slots: list[str]


class RatingBin(Params):
    """From ratings `at_least` ≤ r ≤ `at_most` (null: no bound) to a label."""

    label: Annotated[str, Field(min_length=1)]
    at_least: float | None
    at_most: float | None


def explode_rating_lists(ids: pl.Series, lists: pl.Series, origin: pl.Series) -> Filtered:
    """From a list a row to one row a rating: `id`, `annotator` (position from `01`), `value` as text, `origin`."""
    rows: list[tuple[str, str, str | None, str]] = []
    bad: list[tuple[str, str, str | None, None]] = []
    for row_id, text, place in zip(ids, lists, origin, strict=True):
        values = parse_list(text or "")
        if values is None or any(isinstance(value, NESTED) for value in values):
            bad.append((place, "ratings_not_a_list" if (text or "").strip() else "not_rated", text, None))
            continue
        rows += ((row_id, f"{position:02d}", as_text(value), place) for position, value in enumerate(values, start=1))
    return Filtered(pl.DataFrame(rows, ROWS_SCHEMA, orient="row"), pl.DataFrame(bad, REMOVED_SCHEMA, orient="row"))


def bin_ratings(rating: pl.Expr, bins: Sequence[RatingBin]) -> pl.Expr:
    """Label of the first bin that a rating fits, null where it fits none."""
    bounds = [(pl.lit(one.at_least).fill_null(-math.inf), pl.lit(one.at_most).fill_null(math.inf)) for one in bins]
    fits = [rating.is_between(*bound) for bound in bounds]
    return pl.coalesce(pl.when(fit).then(pl.lit(one.label)) for fit, one in zip(fits, bins, strict=True))


def label_ratings(
    rows: pl.DataFrame, repeated: Repeated, bins: Sequence[RatingBin] | None, max_reject_fraction: float, key: str
) -> Filtered:
    """Give each rating, as `read_ratings` has them, its number and its label; without bins, it is itself the label.

    Removes those without id or rater, those that are no numbers though there are bins, and repeated ones.

    Raises `InputError`: one rater rated a row twice and `repeated` is `error`, or too many cannot be used.
    """
    pair = pl.struct("id", "annotator")
    no_pair = {"no_id": is_missing("id"), "no_annotator": is_missing("annotator")}
    twice = rows.filter(pair.is_duplicated(), ~pl.any_horizontal(no_pair.values()))
    twice = twice.sort("id", "annotator", maintain_order=True)
    if repeated == "error" and twice.height:
        shown = " and ".join(f"{value!r} ({place})" for value, place in twice.select("value", "origin").head(2).rows())
        raise InputError(
            f"{twice['annotator'][0]!r} rated {twice['id'][0]!r} more than once: {shown}; {twice.height} ratings are "
            f"such: leave one line of each rater and row, or set `{key}.repeated` to `last` or `first`"
        )
    number = pl.col("value").str.strip_chars().cast(pl.Float64, strict=False)
    number = pl.when(number.is_finite()).then(number)
    rules = no_pair | {
        "rated_twice": ~(pair.is_last_distinct() if repeated == "last" else pair.is_first_distinct()),
        "rating_not_a_number": number.is_null() & (bins is not None),
    }
    label = pl.col("value") if bins is None else bin_ratings(number, bins)
    labelled = remove_by_rule(
        rows.with_columns(rating=number, label=label),
        pl.coalesce(pl.when(applies).then(pl.lit(rule)) for rule, applies in rules.items()),
        SHOWN,
    )
    advice = (
        f"ratings cannot be used: correct `{key}.columns`, add what means that there is none to `{key}.not_rated`, "
        "write decimals with a point, correct `ingest.rating_bins` (null where a rating is itself a label)"
    )
    check_limit(labelled.removed.filter(pl.col("rule") != "rated_twice"), rows.height, max_reject_fraction, advice)
    return labelled


def fill_labels(
    records: pl.DataFrame,
    ratings: pl.DataFrame,
    bins: Sequence[RatingBin] | None,
    draws: pl.Series,
    has_labels: bool,
    has_references: bool,
) -> pl.DataFrame:
    """Fill `label` and `reference_label` from the ratings where the data has none; draws from [0, 1) choose the rater.

    Without bins the reference is the label that most give; a tie goes to the one that is more frequent in all ratings.
    Where the given label is the bin of one rater's number, that number goes with it, as `given_rating`.
    """
    given = ratings.filter(pl.col("label").is_not_null()).sort("id", "annotator", maintain_order=True)
    labels = given.group_by("id", maintain_order=True).agg(given_labels="label", given_ratings="rating")
    if bins is not None:
        rated = ratings.filter(pl.col("rating").is_not_null())
        means = rated.group_by("id", maintain_order=True).agg(pl.col("rating").mean())
        references = means.select("id", reference=bin_ratings(pl.col("rating"), bins))
    else:
        votes = given.with_columns(frequency=pl.len().over("label")).group_by("id", "label", "frequency").len()
        references = (
            votes.sort("id", "len", "frequency", "label", descending=[False, True, True, False])
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


def read_ratings(ratings: Ratings, folder: Path, max_reject_fraction: float, key: str) -> Filtered:
    """The ratings file of a source: `id`, `annotator`, `value` and `origin` of each rating, as they stand there.

    Raises `InputError`: as in `read_table`, `check_readable`, `column`, `single_labels` and `check_limit`; no such slot
    to leave out.
    """
    path, columns = folder / ratings.file, ratings.columns
    table = ratings.read(path)
    check_readable(table, path, max_reject_fraction)
    ids = column(table, columns.id, path, f"{key}.columns.id").alias("id")
    places, removed = origins(ratings.file, table.lines), [unreadable_rows(table, ratings.file)]
    if isinstance(columns, RatingListColumns):
        lists = column(table, columns.ratings, path, f"{key}.columns.ratings")
        exploded = explode_rating_lists(ids, lists, places)
        advice = f"rows are no JSON list: correct `{key}.columns.ratings`"
        no_list = exploded.removed.filter(rule="ratings_not_a_list")
        check_limit(no_list, len(ids), max_reject_fraction, advice)
        rows, removed = exploded.kept, [*removed, exploded.removed]
    elif isinstance(columns, RaterColumns):
        parts = [(name, column(table, name, path, f"{key}.columns.raters").alias("value")) for name in columns.raters]
        rows = pl.concat(
            pl.DataFrame([ids, values, places]).with_columns(annotator=pl.lit(str(name))) for name, values in parts
        ).select(ROWS_SCHEMA.names())
    else:
        annotators = column(table, columns.annotator, path, f"{key}.columns.annotator").alias("annotator")
        values = column(table, columns.rating, path, f"{key}.columns.rating").alias("value")
        rows = pl.DataFrame([ids, annotators, values, places])
    rows = rows.with_columns(single_labels(rows["value"], rows["origin"]))
    slots = rows["annotator"].drop_nulls().unique().sort().to_list()
    if unknown := sorted(set(ratings.exclude_slots) - set(slots)):
        raise InputError(f"{path}: no rater or slot {unknown[0]!r}; there are {slots}: correct `{key}.exclude_slots`")
    not_rated = is_missing("value") | pl.col("value").str.strip_chars().is_in(ratings.not_rated)
    excluded = pl.when(pl.col("annotator").is_in(ratings.exclude_slots)).then(pl.lit("excluded_slot"))
    used = remove_by_rule(rows, pl.when(not_rated).then(pl.lit("not_rated")).otherwise(excluded), SHOWN)
    return Filtered(used.kept, pl.concat([*removed, used.removed]))


def match_rows(rows: pl.DataFrame, records: pl.DataFrame, max_reject_fraction: float, key: str) -> Filtered:
    """The ratings of the `records`, in their order; those of no record are removed (`rated_no_row`).

    Raises `InputError`: too many are of none; names the first ids that are on one side alone.
    """
    order = records.select("id", row=pl.int_range(pl.len()))
    joined = rows.join(order, on="id", how="left", maintain_order="left")
    matched = remove_by_rule(joined, pl.when(pl.col("row").is_null()).then(pl.lit("rated_no_row")), SHOWN)
    strangers, unrated = (
        one.join(other, on="id", how="anti", maintain_order="left")["id"].unique(maintain_order=True).head(3).to_list()
        for one, other in ((rows, records), (records, rows))
    )
    advice = (
        f"ratings are of ids that no text has, such as {strangers}; texts without a rating are such as {unrated}: "
        f"correct `{key}.columns.id`"
    )
    check_limit(matched.removed, rows.height, max_reject_fraction, advice)
    return Filtered(matched.kept.sort("row", "annotator", maintain_order=True).drop("row"), matched.removed)
