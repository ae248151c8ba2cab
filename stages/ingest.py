"""Map the columns of raw files to the canonical table, and ratings to the long ratings table.

Reads the files named in `ingest.sources`, below `ingest.path`. Writes `data/ingested/`:

- `records.parquet`: `id`, `text`, `label`, `reference_label`, `response`, `source`, `origin` (`file:line`), then
  `source_url`, `licence`, `retrieved`, `source_sha256` and `authenticity` of its source, then the columns named in
  `carry`, all text; where the given label is from a rater's number, that number as `given_rating`;
- `ratings.parquet`: `id`, `annotator`, `rating`, `label`; empty where no source has ratings;
- `sources.parquet`: where each source comes from, its licence, the SHA-256 of its files, its rows in and out;
- `removed.parquet`, `removed_ratings.parquet`: what could not be read or used, and why.

**Ids** are `<source>:<id of the data>`. Where the data has none, they are made from the content: 16 hexadecimal digits
of its BLAKE2b, and `-2`, `-3`, … for exact repeats in file order, so that adding rows does not rename the old ones. An
id that occurs twice in one source is an error and not renamed: ratings are joined by it, and people look rows up by it.

**Ratings** come as one list a row, or one rating a row with the annotator's name. In a list the annotator is the
position: `01`, `02`, …. That is a slot, not a person, unless the file says that every list has the same people in the
same order; the default data's raters are anonymous, so agreement between two slots says nothing about two people.

**The given label** of a row with ratings and no label column is that of one rater, drawn by seed and id alone: a row
keeps it when others are added. How sure that rater was (+1 or +4) says how far to trust the label, so their number is
kept beside it. **The reference label** is the bin of the mean rating; where labels are not binned numbers, the label
that most raters gave, the alphabetically first of equally frequent ones.

**Provenance** goes with every row, since rows of several sources are soon in one table: under which licence a row came,
when, from which state of which file, and whether people wrote it or a program did.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
from pydantic import Field, field_validator, model_validator

from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json, write_parquet
from assay.core.params import Params, load_params
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.core.seeds import keyed_uniform
from assay.sources.provenance import ColumnName, Provenance, check_ids, content_ids, origins, unreadable_rows
from assay.sources.table_files import Table, TableFormat, column, read_table

PROVENANCE = ("source_url", "licence", "retrieved", "source_sha256", "authenticity")
RECORDS_SCHEMA = pl.Schema(
    dict.fromkeys(("id", "text", "label", "reference_label", "response", "source", "origin", *PROVENANCE), pl.String)
)
SOURCES_SCHEMA = pl.Schema(
    {
        "name": pl.String,
        "file": pl.String,
        "url": pl.String,
        "licence": pl.String,
        "retrieved": pl.String,
        "authenticity": pl.String,
        "sha256": pl.String,
        "ratings_file": pl.String,
        "ratings_sha256": pl.String,
        "rows_in": pl.Int64,
        "rows_out": pl.Int64,
    }
)
LATER_COLUMNS = (
    *("near_duplicate_group", "semantic_group", "consensus_label", "annotator_agreement", "ratings", "label_quality"),
    *("parent_id", "recipe", "seed", "split", "rule", "given_rating", "reviewed", "label_weight"),
)
"""Names that columns made by this stage and by later ones have."""
RATINGS_SCHEMA = pl.Schema({"id": pl.String, "annotator": pl.String, "rating": pl.Float64, "label": pl.String})
SHOWN_CHARACTERS = 80


class RatingColumns(Params):
    """Columns of a file with one rating a row."""

    id: ColumnName
    annotator: ColumnName
    rating: ColumnName


class RatingListColumns(Params):
    """Columns of a file with a JSON list of ratings a row."""

    id: ColumnName
    ratings: ColumnName


class Ratings(Params):
    """Where the ratings of a source are."""

    file: Annotated[str, Field(min_length=1)]
    format: TableFormat
    header: bool
    columns: RatingListColumns | RatingColumns


class Columns(Params):
    """Columns of a source; all but the text may be null."""

    id: ColumnName | None
    text: ColumnName
    label: ColumnName | None
    reference_label: ColumnName | None
    response: ColumnName | None


class Source(Provenance):
    """One file of texts, and its ratings where there are any."""

    file: Annotated[str, Field(min_length=1)]
    format: TableFormat
    header: bool
    columns: Columns
    carry: list[ColumnName]
    ratings: Ratings | None

    @field_validator("carry")
    @classmethod
    def _carried_under_free_names(cls, carry: list[ColumnName]) -> list[ColumnName]:
        taken = {*RECORDS_SCHEMA.names(), *LATER_COLUMNS}
        if used := [name for name in carry if str(name) in taken]:
            raise ValueError(f"{used[0]!r} is the name of a column of the pipeline; rename that of the file")
        if len({str(name) for name in carry}) < len(carry):
            raise ValueError("a column is named twice")
        return carry

    @model_validator(mode="after")
    def _ratings_have_an_id(self) -> "Source":
        if self.ratings and self.columns.id is None:
            raise ValueError("ratings are joined by id, so `columns.id` must name a column")
        return self


class RatingBin(Params):
    """From ratings `at_least` ≤ r ≤ `at_most` (null: no bound) to a label."""

    label: Annotated[str, Field(min_length=1)]
    at_least: float | None
    at_most: float | None


class IngestParams(Params):
    """Section `ingest`."""

    path: Annotated[str, Field(min_length=1)]
    max_reject_fraction: Annotated[float, Field(ge=0, le=1)]
    sources: Annotated[list[Source], Field(min_length=1)]
    rating_bins: Annotated[list[RatingBin], Field(min_length=1)] | None

    @model_validator(mode="after")
    def _names_differ(self) -> "IngestParams":
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"the sources are named {names}; each needs a name of its own")
        return self


@dataclass(frozen=True)
class Split:
    """Rows that are kept, and those that are not with their reasons (`REMOVED_SCHEMA`)."""

    kept: pl.DataFrame
    removed: pl.DataFrame


@dataclass(frozen=True)
class Ingested:
    """One source in the canonical form.

    Attributes:
        rows_in: records of its file, readable or not.
        sha256: of its file.
        ratings_sha256: of its ratings file, where it has one.
        records: `RECORDS_SCHEMA`, and the columns carried.
        ratings: `RATINGS_SCHEMA`, of the records kept.
        removed: records not kept.
        removed_ratings: ratings, or whole lines of the ratings file, that cannot be used.
        rated_without_text: ids in the ratings file that have no record.
        ragged_rows: records with another number of cells than most.
    """

    rows_in: int
    sha256: str
    ratings_sha256: str | None
    records: pl.DataFrame
    ratings: pl.DataFrame
    removed: pl.DataFrame
    removed_ratings: pl.DataFrame
    rated_without_text: int
    ragged_rows: int


def check_readable(table: Table, path: Path, max_reject_fraction: float) -> None:
    """Stop where a file has no record, or too many that cannot be read.

    Raises:
        InputError: names the file, the first bad line, what is there, and the fix.
    """
    rows = table.cells.height + table.unreadable.height
    if rows == 0:
        raise InputError(f"{path}: has no row; is it the right file, and is its `header` set rightly?")
    if table.unreadable.height > max_reject_fraction * rows:
        line, rule, before = table.unreadable.row(0)
        fix = "convert it to UTF-8, such as by `iconv -f LATIN1 -t UTF-8`" if rule == "not_utf8" else "mend the file"
        raise InputError(
            f"{path}:{line}: {rule}: {before[:SHOWN_CHARACTERS]!r}; {table.unreadable.height} of {rows} records cannot "
            f"be read, more than `ingest.max_reject_fraction` = {max_reject_fraction}: {fix}, or raise that number"
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(table: Table, source: Source, sha256: str, path: Path, key: str) -> pl.DataFrame:
    """The mapped columns of a table under their canonical names, its provenance, and the columns carried.

    `id` is null where the data has none. An empty label or response is none.

    Raises:
        InputError: a column that `key` names is not there.
    """
    mapped: list[pl.Series] = []
    for name, chosen in source.columns:
        if chosen is None:
            mapped.append(pl.Series(name, [None] * table.cells.height, dtype=pl.String))
        else:
            mapped.append(column(table, chosen, path, f"{key}.columns.{name}").alias(name))
    carried = [column(table, name, path, f"{key}.carry").alias(str(name)) for name in source.carry]
    nullable = ["label", "reference_label", "response"]
    return (
        pl.DataFrame(mapped)
        .with_columns(
            pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name).str.strip_chars()).alias(name)
            for name in nullable
        )
        .with_columns(
            source=pl.lit(source.name),
            origin=origins(source.file, table.lines),
            source_url=pl.lit(source.url),
            licence=pl.lit(source.licence, pl.String),
            retrieved=pl.lit(source.retrieved, pl.String),
            source_sha256=pl.lit(sha256),
            authenticity=pl.lit(source.authenticity),
        )
        .select(RECORDS_SCHEMA.names())
        .with_columns(carried)
    )


def is_blank(name: str) -> pl.Expr:
    """Whether a cell is null or nothing but white space."""
    return pl.col(name).is_null() | (pl.col(name).str.strip_chars() == "")


def without_blanks(records: pl.DataFrame, has_ids: bool) -> Split:
    """Set aside rows without a text, and without an id where the data has ids."""
    rules = [pl.when(is_blank("text")).then(pl.lit("empty_text"))]
    if has_ids:
        rules.append(pl.when(is_blank("id")).then(pl.lit("no_id")))
    marked = records.with_columns(rule=pl.coalesce(rules))
    return Split(
        kept=marked.filter(pl.col("rule").is_null()).drop("rule"),
        removed=marked.filter(pl.col("rule").is_not_null())
        .with_columns(id=pl.col("origin"), before=pl.col("text"), after=pl.lit(None, pl.String))
        .select(REMOVED_SCHEMA.names()),
    )


def rating_list_rows(ids: pl.Series, lists: pl.Series, origin: pl.Series) -> Split:
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
    return Split(pl.DataFrame(rows, schema, orient="row"), pl.DataFrame(bad, REMOVED_SCHEMA, orient="row"))


def binned(rating: pl.Expr, bins: Sequence[RatingBin]) -> pl.Expr:
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


def labelled_ratings(rows: pl.DataFrame, bins: Sequence[RatingBin] | None) -> Split:
    """Give each rating its label; set aside what is no number though there are bins, and second ratings.

    Args:
        rows: `id`, `annotator`, `value`, `origin`.
        bins: null where a rating is itself the label.
    """
    number = pl.col("value").str.strip_chars().cast(pl.Float64, strict=False)
    number = pl.when(number.is_finite()).then(number)
    value = pl.when(pl.col("value").str.strip_chars() != "").then(pl.col("value").str.strip_chars())
    rules = [
        pl.when(is_blank("id")).then(pl.lit("no_id")),
        pl.when(is_blank("annotator")).then(pl.lit("no_annotator")),
        pl.when(~pl.struct("id", "annotator").is_first_distinct()).then(pl.lit("rated_twice")),
    ]
    if bins is not None:
        rules.append(pl.when(value.is_not_null() & number.is_null()).then(pl.lit("rating_not_a_number")))
    marked = rows.with_columns(
        rating=number, label=value if bins is None else binned(number, bins), rule=pl.coalesce(rules)
    )
    return Split(
        kept=marked.filter(pl.col("rule").is_null()).select(RATINGS_SCHEMA.names()),
        removed=marked.filter(pl.col("rule").is_not_null())
        .with_columns(
            id=pl.col("origin"),
            before=pl.concat_str("annotator", "value", separator=" ", ignore_nulls=True),
            after=pl.lit(None, pl.String),
        )
        .select(REMOVED_SCHEMA.names()),
    )


def with_rated_labels(
    records: pl.DataFrame, ratings: pl.DataFrame, bins: Sequence[RatingBin] | None, seed: int, source: Source
) -> pl.DataFrame:
    """Fill `label` and `reference_label` from the ratings where no column is named for them.

    Where the given label is the bin of one rater's number, that number goes with it, as `given_rating`.

    Args:
        records: `RECORDS_SCHEMA` and columns carried, with final ids.
        ratings: `RATINGS_SCHEMA`, with the same ids.
        bins: as in `labelled_ratings`.
        seed: the project seed.
        source: which columns there are.
    """
    given = ratings.filter(pl.col("label").is_not_null()).sort("id", "annotator", maintain_order=True)
    labels = given.group_by("id", maintain_order=True).agg(
        pl.col("label").alias("given_labels"), pl.col("rating").alias("given_ratings")
    )
    if bins is not None:
        rated = ratings.filter(pl.col("rating").is_not_null())
        means = rated.group_by("id", maintain_order=True).agg(pl.col("rating").mean())
        references = means.select("id", reference=binned(pl.col("rating"), bins))
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
        .with_columns(draw=keyed_uniform(records["id"], seed, "ingest", "given_label"))
    )
    drawn = (pl.col("draw") * pl.col("given_labels").list.len()).floor().cast(pl.Int64)
    rating = [] if bins is None or source.columns.label is not None else ["given_rating"]
    return joined.with_columns(
        given_rating=pl.col("given_ratings").list.get(drawn),
        label=pl.col("label") if source.columns.label is not None else pl.col("given_labels").list.get(drawn),
        reference_label=pl.col("reference_label")
        if source.columns.reference_label is not None
        else pl.col("reference"),
    ).select(*records.columns, *rating)


def read_ratings(ratings: Ratings, folder: Path, params: IngestParams, key: str) -> Split:
    """The ratings file of a source, with the ids of the data.

    Raises:
        InputError: as in `read_table`, `check_readable` and `column`.
    """
    path = folder / ratings.file
    table = read_table(path, ratings.format, ratings.header)
    check_readable(table, path, params.max_reject_fraction)
    places = origins(ratings.file, table.lines)
    ids = column(table, ratings.columns.id, path, f"{key}.columns.id")
    if isinstance(ratings.columns, RatingListColumns):
        lists = column(table, ratings.columns.ratings, path, f"{key}.columns.ratings")
        split = rating_list_rows(ids, lists, places)
        if split.removed.height > params.max_reject_fraction * len(ids):
            place, rule, before, _ = split.removed.row(0)
            raise InputError(
                f"{folder / place}: {rule}: {str(before)[:SHOWN_CHARACTERS]!r}; {split.removed.height} of {len(ids)} "
                f"rows are no JSON list, more than `ingest.max_reject_fraction`: correct `{key}.columns.ratings`"
            )
    else:
        annotators = column(table, ratings.columns.annotator, path, f"{key}.columns.annotator").alias("annotator")
        values = column(table, ratings.columns.rating, path, f"{key}.columns.rating").alias("value")
        split = Split(pl.DataFrame([ids.alias("id"), annotators, values, places]), pl.DataFrame(schema=REMOVED_SCHEMA))
    labelled = labelled_ratings(split.kept, params.rating_bins)
    if labelled.removed.height > params.max_reject_fraction * max(split.kept.height, 1):
        place, rule, before, _ = labelled.removed.row(0)
        raise InputError(
            f"{folder / place}: {rule}: {str(before)[:SHOWN_CHARACTERS]!r}; {labelled.removed.height} of "
            f"{split.kept.height} ratings cannot be used, more than `ingest.max_reject_fraction`: correct "
            f"`{key}.columns`, or `ingest.rating_bins` (null where a rating is itself a label)"
        )
    removed = pl.concat([unreadable_rows(table, ratings.file), split.removed, labelled.removed])
    return Split(labelled.kept, removed)


def ingest_source(source: Source, position: int, params: IngestParams, seed: int) -> Ingested:
    """Read one source.

    Raises:
        InputError: as in `read_table`, `check_readable`, `column`, `check_ids` and `read_ratings`.
    """
    folder = Path(params.path)
    path = folder / source.file
    key = f"ingest.sources.{position}"
    table = read_table(path, source.format, source.header)
    check_readable(table, path, params.max_reject_fraction)
    sha256 = file_sha256(path)
    split = without_blanks(canonical(table, source, sha256, path, key), has_ids=source.columns.id is not None)
    records = split.kept
    if source.columns.id is None:
        records = records.with_columns(id=content_ids(records["text"], records["response"]))
    records = records.with_columns(id=pl.format("{}:{}", pl.lit(source.name), pl.col("id").str.strip_chars()))
    check_ids(records, path, key)

    ratings = pl.DataFrame(schema=RATINGS_SCHEMA)
    removed_ratings = pl.DataFrame(schema=REMOVED_SCHEMA)
    rated_without_text = 0
    if source.ratings:
        rated = read_ratings(source.ratings, folder, params, f"{key}.ratings")
        removed_ratings = rated.removed
        with_ids = rated.kept.with_columns(id=pl.format("{}:{}", pl.lit(source.name), pl.col("id").str.strip_chars()))
        rated_without_text = with_ids.join(records, on="id", how="anti")["id"].n_unique()
        order = records.select("id").with_row_index("row")
        ratings = (
            with_ids.join(order, on="id", how="inner")
            .sort("row", "annotator", maintain_order=True)
            .select(RATINGS_SCHEMA.names())
        )
        records = with_rated_labels(records, ratings, params.rating_bins, seed, source)
    return Ingested(
        rows_in=table.cells.height + table.unreadable.height,
        sha256=sha256,
        ratings_sha256=file_sha256(folder / source.ratings.file) if source.ratings else None,
        records=records,
        ratings=ratings,
        removed=pl.concat([unreadable_rows(table, source.file), split.removed]),
        removed_ratings=removed_ratings,
        rated_without_text=rated_without_text,
        ragged_rows=table.ragged_rows,
    )


def sources_table(sources: Sequence[Source], ingested: dict[str, Ingested]) -> pl.DataFrame:
    """The table of `sources.parquet`, a row for each source."""
    rows = [
        {
            "name": source.name,
            "file": source.file,
            "url": source.url,
            "licence": source.licence,
            "retrieved": source.retrieved,
            "authenticity": source.authenticity,
            "sha256": ingested[source.name].sha256,
            "ratings_file": source.ratings.file if source.ratings else None,
            "ratings_sha256": ingested[source.name].ratings_sha256,
            "rows_in": ingested[source.name].rows_in,
            "rows_out": ingested[source.name].records.height,
        }
        for source in sources
    ]
    return pl.DataFrame(rows, SOURCES_SCHEMA)


def counts(values: pl.Series) -> dict[str, int]:
    """How often each value occurs, in order of the values; nulls are not counted."""
    counted = values.drop_nulls().value_counts().sort(values.name)
    return dict(counted.rows())


def metrics(sources: dict[str, Ingested]) -> dict[str, object]:
    """Numbers of the whole stage."""
    records = pl.concat([one.records.select(RECORDS_SCHEMA.names()) for one in sources.values()])
    removed = pl.concat([one.removed for one in sources.values()])
    removed_ratings = pl.concat([one.removed_ratings for one in sources.values()])
    both = records.filter(pl.col("label").is_not_null() & pl.col("reference_label").is_not_null())
    result: dict[str, object] = {
        "rows_in": sum(one.rows_in for one in sources.values()),
        "rows_out": records.height,
        "removed": counts(removed["rule"]),
        "rows_without_label": records["label"].null_count(),
        "labels": counts(records["label"]),
        "reference_labels": counts(records["reference_label"]),
        "ratings": sum(one.ratings.height for one in sources.values()),
        "removed_ratings": counts(removed_ratings["rule"]),
        "sources": {
            name: {
                "rows_in": one.rows_in,
                "rows_out": one.records.height,
                "sha256": one.sha256,
                "ragged_rows": one.ragged_rows,
                "ratings": one.ratings.height,
                "rows_without_ratings": one.records.join(one.ratings, on="id", how="anti").height,
                "rated_without_text": one.rated_without_text,
            }
            for name, one in sources.items()
        },
    }
    if both.height:
        result["given_label_accuracy"] = (both["label"] == both["reference_label"]).sum() / both.height
    return result


def main() -> None:
    """Run the stage."""
    params = load_params("ingest", IngestParams)
    seed = load_params("seed", int)
    sources = {
        source.name: ingest_source(source, position, params, seed) for position, source in enumerate(params.sources)
    }
    if not any(one.records.height for one in sources.values()):
        raise InputError(f"{params.path}: no row with a text in {[source.file for source in params.sources]}")
    with output_folder("data/ingested") as folder:
        # A column that one source carries is null in the others.
        records = pl.concat([one.records for one in sources.values()], how="diagonal")
        write_parquet(records, folder / "records.parquet")
        write_parquet(sources_table(params.sources, sources), folder / "sources.parquet")
        write_parquet(pl.concat([one.ratings for one in sources.values()]), folder / "ratings.parquet")
        write_parquet(pl.concat([one.removed for one in sources.values()]), folder / "removed.parquet")
        write_parquet(pl.concat([one.removed_ratings for one in sources.values()]), folder / "removed_ratings.parquet")
    write_json("metrics/ingest.json", metrics(sources))


if __name__ == "__main__":
    run_stage(main)
