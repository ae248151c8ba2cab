"""One source in the canonical form: its columns under their canonical names, ids, and where each row comes from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field, ValidationInfo, field_validator, model_validator

from assay.core.errors import InputError
from assay.core.forms import Forms, join_forms
from assay.core.outputs import file_sha256
from assay.core.params import Params, Pattern
from assay.core.removed_rows import Filtered, is_missing, none_removed, remove_by_rule, removed_rows
from assay.sources.annotation_tools import ANNOTATOR, SourceLayout, lay_out, single_labels
from assay.sources.provenance import ColumnName, Provenance, check_ids, content_ids, origins, unreadable_rows
from assay.sources.ratings import (
    RATINGS_SCHEMA,
    RatingBin,
    RatingColumns,
    Ratings,
    fill_labels,
    label_ratings,
    match_rows,
    read_ratings,
)
from assay.sources.table_files import Reading, Table, check_limit, check_readable, column

PROVENANCE = ("source_url", "licence", "retrieved", "source_sha256", "authenticity")
RECORDS_SCHEMA = pl.Schema(
    dict.fromkeys(("id", "text", "label", "reference_label", "response", "source", "origin", *PROVENANCE), pl.String)
)
LATER_COLUMNS = (
    *("near_duplicate_group", "semantic_group", "split_group", "consensus_label", "annotator_agreement", "ratings"),
    *("parent_id", "recipe", "seed", "split", "rule", "given_rating", "reviewed", "label_weight", "label_quality"),
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


class Constant(Params):
    """A column of one value for all rows of a source, such as the split that its file is."""

    name: Annotated[str, Field(min_length=1)]
    constant: Annotated[str, Field(min_length=1)]


class Taken(Params):
    """A column of the file under another name; with a `pattern`, what its group matches (no match: null)."""

    name: Annotated[str, Field(min_length=1)]
    column: ColumnName
    pattern: Pattern | None


Carried = ColumnName | Constant | Taken


def carried_name(one: Carried) -> str:
    """What a carried column is called."""
    return one.name if isinstance(one, Constant | Taken) else str(one)


class Source(Provenance, Reading):
    """One file of texts, and its ratings where there are any; their file is read as this one but for what they give."""

    file: Annotated[str, Field(min_length=1)]
    layout: SourceLayout
    columns: Columns
    carry: list[Carried]
    ratings: Ratings | None

    @field_validator("carry")
    @classmethod
    def _carried_under_free_names(cls, carry: list[Carried]) -> list[Carried]:
        names = [carried_name(one) for one in carry]
        if used := [name for name in names if name in {*RECORDS_SCHEMA.names(), *LATER_COLUMNS}]:
            fix = f"{{name: my_{used[0]}, column: {used[0]}, pattern: null}}"
            raise ValueError(f"{used[0]!r} is the name of a column of the pipeline; give it another by {fix}")
        if len(set(names)) < len(names):
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
    forms: Forms
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
        ratings: `RATINGS_SCHEMA`, and `origin` before `label_sources`; of the records kept.
        removed_ratings: ratings, or whole lines of the ratings file, that cannot be used.
        joined: forms of ids and raters that were rewritten, as in `join_forms`.
        ragged_rows, nested: as in `Table`.
        columns: those of the file, and the name or number by which the params use each; None: nothing uses it.
        like_labels: those that nothing uses and that hold nothing but labels, as other raters' do.
    """

    rows_in: int
    sha256: str
    ratings_sha256: str | None
    records: pl.DataFrame
    ratings: pl.DataFrame
    removed: pl.DataFrame
    removed_ratings: pl.DataFrame
    joined: pl.DataFrame
    ragged_rows: int
    nested: dict[str, int]
    columns: dict[str, ColumnName | None]
    like_labels: list[str]


def map_columns(table: Table, source: Source, sha256: str, path: Path, key: str) -> pl.DataFrame:
    """The columns of a table under their canonical names (null where there is none), and its provenance.

    A label or response that nobody can see is none. Raises `InputError`: a column that `key` names is not there, or as
    in `single_labels`.
    """
    mapped, places = [], origins(source.file, table.lines)
    for name, chosen in source.columns:
        if chosen is None:
            mapped.append(pl.Series(name, [None] * table.cells.height, dtype=pl.String))
            continue
        named = chosen if isinstance(chosen, list) else [chosen]
        parts = [column(table, one, path, f"{key}.columns.{name}") for one in named]
        cells = parts[0]
        if len(parts) > 1:
            lines = ("\n".join(cell for cell in row if cell and not cell.isspace()) for row in zip(*parts, strict=True))
            cells = pl.Series(lines, dtype=pl.String)
        is_label = name in ("label", "reference_label")
        mapped.append((single_labels(cells, places) if is_label else cells).alias(name))
    carried = [carry_column(table, one, path, f"{key}.carry") for one in source.carry]
    may_be_empty = ("label", "reference_label", "response")
    return (
        pl.DataFrame(mapped)
        .with_columns(pl.when(~is_missing(name)).then(name).alias(name) for name in may_be_empty)
        .with_columns(pl.col("response").str.strip_chars())
        .with_columns(origin=places, source_sha256=pl.lit(sha256), **source.as_columns())
        .select(RECORDS_SCHEMA.names())
        .with_columns(carried)
    )


def carry_column(table: Table, chosen: Carried, path: Path, key: str) -> pl.Series:
    """One column that every row keeps. Raises `InputError`: it is not there, or its pattern matches no value."""
    if isinstance(chosen, Constant):
        return pl.Series(chosen.name, [chosen.constant] * table.cells.height, dtype=pl.String)
    if not isinstance(chosen, Taken):
        return column(table, chosen, path, key).alias(carried_name(chosen))
    values = column(table, chosen.column, path, key).alias(chosen.name)
    found = values if chosen.pattern is None else values.str.extract(chosen.pattern)
    if found.null_count() == len(found) > 0:
        raise InputError(
            f"{path}: `{key}`: the pattern {chosen.pattern!r} takes nothing from column {chosen.column!r}, such as"
            f" {values[0]!r}, for {chosen.name!r}; correct it, with brackets around what is to be taken"
        )
    return found


def used_columns(table: Table, source: Source) -> dict[str, ColumnName | None]:
    """Columns of the file, as the source names each, or its ratings, where those are in the same file; else None."""
    ratings = source.ratings.columns if source.ratings and source.ratings.file == source.file else ()
    named: list[ColumnName] = [ANNOTATOR] if source.layout == "label_studio" else []
    named += [one.column if isinstance(one, Taken) else one for one in source.carry if not isinstance(one, Constant)]
    for _, chosen in (*source.columns, *ratings):
        named += chosen if isinstance(chosen, list) else [] if chosen is None else [chosen]
    used = {column(table, name, Path(source.file), "").name: name for name in named}
    return {name: used.get(name) for name in table.cells.columns}


def prefix_ids(rows: pl.DataFrame, source: str) -> pl.DataFrame:
    """The rows with ids that are the data's after the name of the source: `<source>:<id>`."""
    return rows.with_columns(id=pl.format("{}:{}", pl.lit(source), pl.col("id").str.strip_chars()))


def gather_annotations(records: pl.DataFrame, annotators: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A row a task of a row an annotation, and the annotations as ratings, as `label_ratings` takes them.

    Where no task has two annotations there are no ratings, and the one annotation is the label. Tasks of one number and
    several texts stay.
    """
    rows = records.with_columns(annotators.alias("annotator"))
    given = rows.filter(pl.col("label").is_not_null())
    rated = given.select("id", "annotator", pl.col("label").alias("value"), "origin")
    labels = given.group_by("id", maintain_order=True).agg(pl.col("label").first())
    tasks = records.filter(pl.struct("id", "text").is_first_distinct() | pl.col("id").is_null())
    if not rated["id"].is_duplicated().any():
        rated = rated.clear()
    return tasks.drop("label").join(labels, on="id", how="left").select(records.columns), rated


def ingest_source(source: Source, position: int, params: IngestParams) -> Ingested:
    """Read one source, the one at `position`; its labels are as they stand in the files (`label_sources`).

    Raises `InputError`: as in `read_table`, `check_readable`, `lay_out`, `column`, `join_forms`, `check_ids`,
    `read_ratings`, `label_ratings` and `match_rows`.
    """
    folder, key, limit = Path(params.path), f"ingest.sources.{position}", params.max_reject_fraction
    path = folder / source.file
    table, skipped = lay_out(read := source.read(path), source.layout, path, source.file)
    check_readable(read, path, limit)
    sha256 = file_sha256(path)
    mapped = map_columns(table, source, sha256, path, key)
    rated = Filtered(pl.DataFrame(schema={**RATINGS_SCHEMA, "origin": pl.String}), none_removed())
    if source.layout == "label_studio":
        mapped, annotations = gather_annotations(mapped, column(table, ANNOTATOR, path, f"{key}.layout"))
        rated = Filtered(annotations, none_removed()) if annotations.height else rated
    elif source.ratings:
        rated = read_ratings(source.ratings, folder, limit, f"{key}.ratings")
    no_id = pl.when(is_missing("id"), pl.lit(source.columns.id is not None)).then(pl.lit("no_id"))
    filtered = remove_by_rule(mapped, pl.when(is_missing("text")).then(pl.lit("empty_text")).otherwise(no_id))
    # A line for each rating: the text stands in all of those of its id.
    is_long = (own := source.ratings) and own.file == source.file and isinstance(own.columns, RatingColumns)
    if filtered.kept.height and not is_long:
        check_limit(filtered.removed, mapped.height, limit, f"rows have no text or no id: correct `{key}.columns`")
    records, removed = filtered.kept, [unreadable_rows(read, source.file), filtered.removed]
    ratings, removed_ratings, rule = rated.kept, [skipped, rated.removed], params.forms.ids
    if source.columns.id is None:
        records, rule = records.with_columns(id=content_ids(records["text"], records["response"])), "distinct"
    (records, ratings), ids = join_forms([records, ratings], ["id"], rule, "ingest.forms.ids")
    (ratings,), names = join_forms([ratings], ["annotator"], rule, "ingest.forms.ids")
    records = prefix_ids(records, source.name)
    if is_long:
        first = records.select(first=pl.struct(pl.exclude("origin")).is_first_distinct())["first"]
        removed.append(removed_rows(records.filter(~first).with_columns(id="origin"), "text_repeated"))
        records = records.filter(first)
    check_ids(records, path, key)
    if source.ratings or ratings.height:
        repeated = source.ratings.repeated if source.ratings else "first"
        bound = limit if source.ratings else 1.0
        labelled = label_ratings(ratings, repeated, params.rating_bins, bound, f"{key}.ratings")
        if not source.ratings:
            advice = "annotations cannot be used: each needs a person, one of each task, and `ingest.rating_bins: null`"
            check_limit(labelled.removed, ratings.height, limit, advice)
        matched = match_rows(prefix_ids(labelled.kept, source.name), records, limit, f"{key}.ratings")
        ratings, removed_ratings = matched.kept, [*removed_ratings, labelled.removed, matched.removed]
    columns, labels = used_columns(table, source), set(mapped["label"].drop_nulls())
    unused = {name: set(table.cells[name].drop_nulls().unique()) - {""} for name, use in columns.items() if use is None}
    return Ingested(
        rows_in=mapped.height + read.unreadable.height,
        sha256=sha256,
        ratings_sha256=file_sha256(folder / source.ratings.file) if source.ratings else None,
        records=records,
        ratings=ratings,
        removed=pl.concat(removed),
        removed_ratings=pl.concat(removed_ratings),
        joined=pl.concat([ids, names]),
        ragged_rows=read.ragged_rows,
        nested=table.nested,
        columns=columns,
        like_labels=[name for name, values in unused.items() if values and values <= labels],
    )


def label_sources(
    read: Sequence[Ingested], params: IngestParams, draws: Draws
) -> tuple[dict[str, Ingested], pl.DataFrame]:
    """The sources by name, with one form of each label and labels from ratings; and the forms that were rewritten.

    `draws` gives a draw from [0, 1) for each id: whose label is given. Raises `InputError`: as in `join_forms`.
    """
    tables = [one.records for one in read] + [one.ratings for one in read]
    tables, joined = join_forms(tables, ["label", "reference_label"], params.forms.labels, "ingest.forms.labels")
    labelled = {}
    for source, one, records, ratings in zip(params.sources, read, tables, tables[len(read) :], strict=False):
        ratings = ratings.select(RATINGS_SCHEMA.names())
        if source.ratings or ratings.height:
            has_labels = source.columns.label is not None and source.ratings is not None
            has_references = source.columns.reference_label is not None
            given = draws(records["id"])
            records = fill_labels(records, ratings, params.rating_bins, given, has_labels, has_references)
        labelled[source.name] = replace(one, records=records, ratings=ratings)
    return labelled, joined
