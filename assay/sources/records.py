"""One source in the canonical form: its columns under their canonical names, ids, and where each row comes from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field, ValidationInfo, field_validator, model_validator

from assay.core.errors import InputError
from assay.core.outputs import file_sha256
from assay.core.params import Params
from assay.core.removed_rows import Filtered, is_missing, none_removed, removed_rows
from assay.sources.annotation_tools import ANNOTATOR, SourceLayout, lay_out, single_labels
from assay.sources.provenance import ColumnName, Provenance, check_ids, content_ids, origins, unreadable_rows
from assay.sources.ratings import RATINGS_SCHEMA, RatingBin, Ratings, fill_labels, label_ratings, read_ratings
from assay.sources.table_files import Reading, Table, check_readable, column

PROVENANCE = ("source_url", "licence", "retrieved", "source_sha256", "authenticity")
RECORDS_SCHEMA = pl.Schema(
    dict.fromkeys(("id", "text", "label", "reference_label", "response", "source", "origin", *PROVENANCE), pl.String)
)
LATER_COLUMNS = (
    *("near_duplicate_group", "semantic_group", "consensus_label", "annotator_agreement", "ratings", "label_quality"),
    *("parent_id", "recipe", "seed", "split", "rule", "given_rating", "reviewed", "label_weight"),
)
"""Names that columns made by this stage and by later ones have."""
Draws = Callable[[pl.Series], pl.Series]


class Columns(Params):
    """Columns of a source; all but the text may be null. Several of a text are joined by line breaks."""

    id: ColumnName | None
    text: ColumnName | Annotated[list[ColumnName], Field(min_length=1)]
    label: ColumnName | None
    reference_label: ColumnName | None
    response: ColumnName | None


class Source(Provenance, Reading):
    """One file of texts, and its ratings where there are any; their file is read as this one but for what they give."""

    file: Annotated[str, Field(min_length=1)]
    layout: SourceLayout
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

    @field_validator("ratings", mode="before")
    @classmethod
    def _read_as_the_texts(cls, ratings: Any, info: ValidationInfo) -> Any:
        given = {key: info.data[key] for key in Reading.model_fields if key in info.data}
        return given | ratings if isinstance(ratings, dict) else ratings

    @model_validator(mode="after")
    def _ratings_have_an_id(self) -> "Source":
        if self.ratings and self.columns.id is None:
            raise ValueError("ratings are joined by id, so `columns.id` must name a column")
        if self.layout == "label_studio" and (self.ratings or self.columns.id is None or self.columns.label is None):
            raise ValueError(
                "in Label Studio's exports annotations are the ratings, so `ratings` must be null, `columns.id` id, "
                "and `columns.label` the name of the control"
            )
        return self


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
class Ingested:
    """One source in the canonical form.

    Attributes:
        rows_in: records of its file, readable or not.
        records: `RECORDS_SCHEMA`, and the columns carried.
        ratings: `RATINGS_SCHEMA`, of the records kept.
        removed_ratings: ratings, or whole lines of the ratings file, that cannot be used.
        rated_without_text: ids in the ratings file that have no record.
        ragged_rows, nested: as in `Table`.
        unused_columns: columns of the file that no param names.
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
    nested: dict[str, int]
    unused_columns: list[str]


def map_columns(table: Table, source: Source, sha256: str, path: Path, key: str) -> pl.DataFrame:
    """The columns of a table under their canonical names (null where there is none), and its provenance.

    An empty label or response is none. Raises `InputError`: a column that `key` names is not there, or as in
    `single_labels`.
    """
    mapped = []
    for name, chosen in source.columns:
        if chosen is None:
            mapped.append(pl.Series(name, [None] * table.cells.height, dtype=pl.String))
            continue
        named = chosen if isinstance(chosen, list) else [chosen]
        parts = [column(table, one, path, f"{key}.columns.{name}") for one in named]
        cells = parts[0] if len(parts) == 1 else _joined(parts)
        is_label = name in ("label", "reference_label")
        mapped.append((single_labels(cells, table.lines, path) if is_label else cells).alias(name))
    carried = [column(table, name, path, f"{key}.carry").alias(str(name)) for name in source.carry]
    stripped = pl.col("label", "reference_label", "response").str.strip_chars()
    return (
        pl.DataFrame(mapped)
        .with_columns(pl.when(stripped != "").then(stripped))
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


def _joined(parts: list[pl.Series]) -> pl.Series:
    """The cells of each row below each other, blank ones passed over."""
    filled = [pl.when(pl.col(str(at)).str.strip_chars() != "").then(str(at)) for at in range(len(parts))]
    frame = pl.DataFrame([cells.alias(str(at)) for at, cells in enumerate(parts)])
    return frame.select(pl.concat_str(filled, separator="\n", ignore_nulls=True).alias("text")).to_series()


def unused_columns(table: Table, source: Source) -> list[str]:
    """Columns of the file that neither the source names nor its ratings, where those are in the same file."""
    ratings = source.ratings.columns if source.ratings and source.ratings.file == source.file else ()
    named = [*source.carry, *([ANNOTATOR] if source.layout == "label_studio" else [])]
    for _, chosen in (*source.columns, *ratings):
        named += chosen if isinstance(chosen, list) else [] if chosen is None else [chosen]
    used = {column(table, name, Path(source.file), "").name for name in named}
    return [name for name in table.cells.columns if name not in used]


def remove_blanks(records: pl.DataFrame, has_ids: bool) -> Filtered:
    """Remove rows without a text, and without an id where the data has ids; their `id` is where they are."""
    rules = [pl.when(is_missing("text")).then(pl.lit("empty_text"))]
    if has_ids:
        rules.append(pl.when(is_missing("id")).then(pl.lit("no_id")))
    marked = records.with_columns(rule=pl.coalesce(rules))
    bad = marked.filter(pl.col("rule").is_not_null()).with_columns(id="origin")
    return Filtered(marked.filter(pl.col("rule").is_null()).drop("rule"), removed_rows(bad, pl.col("rule")))


def prefix_ids(rows: pl.DataFrame, source: str) -> pl.DataFrame:
    """The rows with ids that are the data's after the name of the source: `<source>:<id>`."""
    return rows.with_columns(id=pl.format("{}:{}", pl.lit(source), pl.col("id").str.strip_chars()))


def gather_annotations(records: pl.DataFrame, annotators: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A row a task of a row an annotation, and the annotations as ratings, as `label_ratings` takes them.

    Where no task has two annotators there are no ratings, and the one annotation is the label.
    """
    rows = records.with_columns(annotators.alias("annotator"))
    given = rows.filter(pl.col("label").is_not_null())
    rated = given.select("id", "annotator", "origin", value="label")
    labels = given.group_by("id", maintain_order=True).agg(pl.col("label").first())
    tasks = records.filter(pl.col("id").is_first_distinct() | pl.col("id").is_null())
    if not rated.select("id", "annotator").unique()["id"].is_duplicated().any():
        rated = rated.clear()
    return tasks.drop("label").join(labels, on="id", how="left").select(records.columns), rated


def check_annotations(rated: Filtered, annotations: int, folder: Path, max_reject_fraction: float) -> None:
    """Raise `InputError` where too many annotations cannot be used; names the first."""
    if rated.removed.height > max_reject_fraction * annotations:
        place, rule, before, _ = rated.removed.row(0)
        raise InputError(
            f"{folder / place}: {rule}: {before!r}; {rated.removed.height} of {annotations} annotations cannot be "
            "used, more than `ingest.max_reject_fraction`: leave one of each person and task, and set "
            "`ingest.rating_bins` to null where they are no numbers"
        )


def ingest_source(source: Source, position: int, params: IngestParams, draws: Draws) -> Ingested:
    """Read one source, the one at `position`; `draws` gives a draw from [0, 1) for each id: whose label is given.

    Raises `InputError`: as in `read_table`, `check_readable`, `column`, `check_ids`, `lay_out` and `read_ratings`.
    """
    folder, key = Path(params.path), f"ingest.sources.{position}"
    path = folder / source.file
    table, skipped = lay_out(read := source.read(path), source.layout, path, source.file)
    check_readable(read, path, params.max_reject_fraction)
    sha256 = file_sha256(path)
    mapped = map_columns(table, source, sha256, path, key)
    annotations = pl.DataFrame()
    if source.layout == "label_studio":
        mapped, annotations = gather_annotations(mapped, column(table, ANNOTATOR, path, f"{key}.layout"))
    filtered = remove_blanks(mapped, has_ids=source.columns.id is not None)
    records = filtered.kept
    if source.columns.id is None:
        records = records.with_columns(id=content_ids(records["text"], records["response"]))
    records = prefix_ids(records, source.name)
    check_ids(records, path, key)

    rated = Filtered(pl.DataFrame(schema=RATINGS_SCHEMA), none_removed())
    rated_without_text = 0
    if source.ratings or annotations.height:
        if source.ratings:
            limit, bins = params.max_reject_fraction, params.rating_bins
            rated = read_ratings(source.ratings, folder, limit, bins, f"{key}.ratings")
        else:
            rated = label_ratings(annotations, params.rating_bins)
            check_annotations(rated, annotations.height, folder, params.max_reject_fraction)
        rated = Filtered(prefix_ids(rated.kept, source.name), rated.removed)
        rated_without_text = rated.kept.join(records, on="id", how="anti")["id"].n_unique()
        order = records.select("id").with_row_index("row")
        in_order = rated.kept.join(order, on="id", how="inner").sort("row", "annotator", maintain_order=True)
        rated = Filtered(in_order.select(RATINGS_SCHEMA.names()), rated.removed)
        has_labels = source.columns.label is not None and source.ratings is not None
        has_references = source.columns.reference_label is not None
        given = draws(records["id"])
        records = fill_labels(records, rated.kept, params.rating_bins, given, has_labels, has_references)
    return Ingested(
        rows_in=mapped.height + read.unreadable.height,
        sha256=sha256,
        ratings_sha256=file_sha256(folder / source.ratings.file) if source.ratings else None,
        records=records,
        ratings=rated.kept,
        removed=pl.concat([unreadable_rows(read, source.file), filtered.removed]),
        removed_ratings=pl.concat([skipped, rated.removed]),
        rated_without_text=rated_without_text,
        ragged_rows=read.ragged_rows,
        nested=table.nested,
        unused_columns=unused_columns(table, source),
    )
