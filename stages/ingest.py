"""Map the columns of raw files to the canonical table, and ratings to the long ratings table.

Reads the files named in `ingest.sources`, below `ingest.path`, and keeps `max_rows` of their rows at most. Writes
`data/ingested/`:

- `records.parquet`: `id`, `text`, `label`, `reference_label`, `response`, `source`, `origin` (`file:line`), then
  `source_url`, `licence`, `retrieved`, `source_sha256` and `authenticity` of its source, then the columns of `carry`
  (one of the file, what a pattern takes from it, or one value), all text; where the given label is from a rater's
  number, that number as `given_rating`;
- `ratings.parquet`: `id`, `annotator`, `rating`, `label`; empty where no source has ratings;
- `sources.parquet`: where each source comes from, its licence, the SHA-256 of its files, its rows in and out;
- `removed.parquet`, `removed_ratings.parquet`: what could not be read or used, and why.

Files, ratings, ids, given and reference labels: docs/pipeline.md, "Your own files" and "Raters, ids and labels of your
own".
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import jinja2
import polars as pl
from pydantic import Field

from assay.core.errors import InputError, run_stage
from assay.core.forms import show_form
from assay.core.outputs import write_tables
from assay.core.params import load_params
from assay.core.removed_rows import counts_by_rule, removed_rows
from assay.core.results import write_metrics
from assay.core.seeds import keyed_uniform
from assay.sources.records import RECORDS_SCHEMA, Ingested, IngestParams, Source, ingest_source, label_sources

MaxRows = Annotated[int, Field(ge=1)] | None
SOURCES_SCHEMA = pl.Schema(
    dict.fromkeys(("name", "file", "url", "licence", "retrieved", "authenticity", "sha256"), pl.String)
    | {"ratings_file": pl.String, "ratings_sha256": pl.String, "rows_in": pl.Int64, "rows_out": pl.Int64}
)
MIN_ROWS_PER_LABEL = 10
"""Of a sample, so that every label gets into each split and fold."""
NO_LABEL = re.compile(r"(?i)\s*([-?.]*|#?n/?a|<na>|nan|nil|none|null)\s*")
SEVERAL = re.compile(r"\s*[;|,#]\s*")
"""What people and programs write where there is no label, and between several."""
SHOWN_NAMES = 8
"""Labels, columns or forms of a source that are printed by name."""


def sample_rows(ingested: dict[str, Ingested], max_rows: int, seed: int) -> dict[str, Ingested]:
    """At most `max_rows` rows of all sources together, the same share of each label (consensus, else given label).

    Sampled by hash, of each label `MIN_ROWS_PER_LABEL` if they fit; the others are removed under the name `max_rows`.
    """
    label = pl.coalesce("reference_label", "label")
    rows = pl.concat([one.records.select("id", label=label) for one in ingested.values()])
    ranked = rows.with_columns(draw=keyed_uniform(rows["id"], seed, "ingest", "max_rows")).with_columns(
        rank=pl.col("draw").rank("ordinal").over("label"), of_label=pl.len().over("label")
    )
    floor = min(MIN_ROWS_PER_LABEL, max_rows // ranked["label"].n_unique())
    order = ranked.sort(pl.col("rank") > floor, (pl.col("rank") - 0.5) / pl.col("of_label"), "draw")
    kept = order.head(max_rows).select("id")
    sampled = {}
    for name, one in ingested.items():
        rest = removed_rows(one.records.join(kept, on="id", how="anti", maintain_order="left"), "max_rows")
        records, ratings = (
            table.join(kept, on="id", how="semi", maintain_order="left") for table in (one.records, one.ratings)
        )
        sampled[name] = replace(one, records=records, ratings=ratings, removed=pl.concat([one.removed, rest]))
    return sampled


def sources_table(sources: Sequence[Source], ingested: dict[str, Ingested]) -> pl.DataFrame:
    """The table of `sources.parquet`, a row for each source."""
    rows = [
        source.model_dump(include={"name", "file", "url", "licence", "retrieved", "authenticity"})
        | {
            "sha256": found.sha256,
            "ratings_file": source.ratings.file if source.ratings else None,
            "ratings_sha256": found.ratings_sha256,
            "rows_in": found.rows_in,
            "rows_out": found.records.height,
        }
        for source in sources
        for found in [ingested[source.name]]
    ]
    return pl.DataFrame(rows, SOURCES_SCHEMA)


def counts(values: pl.Series) -> dict[str, int]:
    """How often each value occurs, in order of the values; nulls are not counted."""
    return dict(values.drop_nulls().value_counts().sort(values.name).rows())


def metrics(sources: dict[str, Ingested], labels: pl.DataFrame) -> dict[str, object]:
    """Numbers of the whole stage; `labels` are those rewritten."""
    records = pl.concat([one.records.select(RECORDS_SCHEMA.names()) for one in sources.values()])
    both = records.filter(pl.col("label").is_not_null() & pl.col("reference_label").is_not_null())
    result: dict[str, object] = {
        "rows_in": sum(one.rows_in for one in sources.values()),
        "rows_out": records.height,
        "removed": counts_by_rule(one.removed for one in sources.values()),
        "rows_without_label": records["label"].null_count(),
        "labels": counts(records["label"]),
        "reference_labels": counts(records["reference_label"]),
        "ratings": sum(one.ratings.height for one in sources.values()),
        "removed_ratings": counts_by_rule(one.removed_ratings for one in sources.values()),
        "joined_forms": sum(table["times"].sum() for table in (labels, *(one.joined for one in sources.values()))),
        "sources": {
            name: {
                "rows_in": one.rows_in,
                "rows_out": one.records.height,
                "sha256": one.sha256,
                "labels": counts(one.records["label"]),
                "rows_without_label": one.records["label"].null_count(),
                "ragged_rows": one.ragged_rows,
                "nested_cells": one.nested,
                "unused_columns": list(one.columns.values()).count(None),
                "ratings": one.ratings.height,
                "rows_without_ratings": one.records.join(one.ratings, on="id", how="anti").height,
            }
            for name, one in sources.items()
        },
    }
    if both.height:
        result["given_label_accuracy"] = (both["label"] == both["reference_label"]).sum() / both.height
    return result


def some(shown: Sequence[str]) -> str:
    """The first `SHOWN_NAMES`, and how many more there are."""
    return ", ".join(shown[:SHOWN_NAMES]) + f" and {len(shown) - SHOWN_NAMES} more" * (len(shown) > SHOWN_NAMES)


def repeated_texts(sources: Sequence[Ingested]) -> pl.DataFrame:
    """The texts, but for white space, of several rows of sources without ratings; of how many labels and sources."""
    rows = pl.concat(one.records.select(RECORDS_SCHEMA.names()).filter(one.ratings.is_empty()) for one in sources)
    # By hash and in a stream, so that memory need not hold the texts twice more.
    texts = rows.lazy().group_by(pl.col("text").str.replace_all(r"\s+", " ").str.strip_chars().hash())
    return (
        texts.agg(pl.col("label").drop_nulls().n_unique(), pl.n_unique("source"), pl.len())
        .filter(pl.col("len") > 1)
        .collect(engine="streaming")
    )


def describe(labels: pl.DataFrame, sources: dict[str, Ingested], found: dict[str, Any]) -> str:
    """What was seen in the sources, a line each; `labels` are those rewritten, `found` the metrics of the sources."""
    rows = []
    for name, one in sources.items():
        repeated = repeated_texts([one])
        known = pl.concat([one.records["label"], one.ratings["label"]]).drop_nulls().unique().sort().to_list()
        several = {label: SEVERAL.split(label) for label in known}
        seen = {
            "texts_of_several_labels": repeated.filter(pl.col("label") > 1).height,
            "texts_of_one_label": repeated.filter(label=1).height,
            "no_label": [label for label in known if NO_LABEL.fullmatch(label)],
            "several": [label for label, parts in several.items() if len(parts) > 1 and set(parts) <= set(known)],
            "removed_ratings": counts_by_rule(one.removed_ratings),
        }
        rows.append((name, one, found[name], seen))
    shared = repeated_texts(list(sources.values())).filter(pl.col("label") > 1, pl.col("source") > 1).height
    loader = jinja2.PackageLoader("assay.sources", ".")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"repr": repr, "show_form": show_form, "some": some}
    return environment.get_template("ingested.jinja").render(labels=labels, shared=shared, sources=rows)


def main() -> None:
    """Run the stage."""
    params = load_params("ingest", IngestParams)
    seed = load_params("seed", int)
    max_rows: int | None = load_params("max_rows", MaxRows)  # type: ignore[arg-type]

    def draws(ids: pl.Series) -> pl.Series:
        return keyed_uniform(ids, seed, "ingest", "given_label")

    read = [ingest_source(source, position, params) for position, source in enumerate(params.sources)]
    sources, labels = label_sources(read, params, draws)
    if empty := [source.file for source in params.sources if sources[source.name].records.is_empty()]:
        raise InputError(f"{params.path}: no row with a text in {empty}")
    if max_rows is not None:
        sources = sample_rows(sources, max_rows, seed)
    tables = {
        # A column that one source carries is null in the others.
        "records": pl.concat([one.records for one in sources.values()], how="diagonal"),
        "sources": sources_table(params.sources, sources),
        "ratings": pl.concat([one.ratings for one in sources.values()]),
        "removed": pl.concat([one.removed for one in sources.values()]),
        "removed_ratings": pl.concat([one.removed_ratings for one in sources.values()]),
    }
    write_tables("data/ingested", tables)
    found: dict[str, Any] = metrics(sources, labels)
    print(describe(labels, sources, found["sources"]), end="")
    write_metrics("metrics/ingest.json", found, "ratings", "given_label_accuracy")


if __name__ == "__main__":
    run_stage(main)
