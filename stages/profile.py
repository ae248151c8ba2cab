"""What was collected: how much of it, how varied, how relevant, in which languages, real or made, and on what terms.

Decides nothing. It is measured on the rows that are left after corrections, source by source and in total, so that a
reviewer sees what a change of the data brings in: `make diff` compares the figures with those of the base revision.

Reads `data/ingested/sources.parquet`, `data/corrected/records.parquet`, `data/embeddings/embeddings.parquet` and
`data/augmented/train.parquet`. Writes `metrics/profile.json`, and to `data/profile/`:

- `sources.parquet`: where each source comes from, and its rows on the way;
- `labels.parquet`: rows by source and label, and whether the label has too few in all;
- `lengths.parquet`: quantiles of characters, words and tokens, by source (null: of all);
- `languages.parquet`: rows by source and language;
- `least_alike.parquet`: the rows that are least like any others, and whether they count as outliers.

How to read the figures:

1. Class balance is the entropy of the given labels by that of equal shares: 1 where every label has as many rows.
2. Words, and distinct-1 to distinct-3 (Li et al. 2016), are of lower-cased text. Distinct-n is taken on a sample of one
   size, `sample_words`; distinct-1 is its type-token ratio. A source with fewer words is measured on what it has
   (`vocabulary.sample_words` says so), and looks more varied for that.
3. Spread is over the embeddings, as 1 minus a cosine: mean distance to the centroid, mean distance of all pairs.
4. Relevance is how far a source belongs to the rest: the cosine of its centroid with that of all rows, and the share of
   its rows that are outliers. A row's likeness is its mean cosine to the `neighbours` rows closest to it among at most
   `reference_rows` drawn by seed; an outlier is 2.5 robust standard deviations less alike than the median row.
5. Languages are told from the text alone; of a text of a few words that is a guess. Where the model gives its best
   guess less than `min_language_probability`, the language counts as `und`, undetermined.
6. Rows are real or generated as their source says, or augmented: those are copies of train rows, and come on top.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field

from assay.compute.device import Compute, prepare_device
from assay.core.errors import run_stage
from assay.core.outputs import output_folder, write_json, write_parquet
from assay.core.params import Params, load_params
from assay.core.seeds import keyed_uniform
from assay.corpus_statistics import (
    Spread,
    cosine,
    low_outliers,
    neighbour_cosines,
    normalised_entropy,
    spread,
    vocabulary,
    words_of,
)
from assay.embeddings.table import EMBEDDINGS, embeddings_of
from assay.text.language import UNDETERMINED, detected
from assay.text.token_lengths import token_counts

SOURCES = Path("data/ingested/sources.parquet")
RECORDS = Path("data/corrected/records.parquet")
AUGMENTED = Path("data/augmented/train.parquet")
OUTPUT = Path("data/profile")
METRICS = Path("metrics/profile.json")

LENGTHS = ("characters", "words", "tokens")
QUANTILES = (0.05, 0.5, 0.95)
"""Those in the metrics; the table has one every `TABLE_STEP`."""
TABLE_STEP = 0.05
LONGEST_N_GRAM = 3
OUTLIER_DEVIATIONS = 2.5
LEAST_ALIKE_SHOWN = 50
MIN_LANGUAGE_SHARE = 0.01
"""Languages of fewer of the rows are in the table and not in the metrics: most of them are short texts misread."""

NOT_STATED = "not stated"

Figures = dict[str, Any]


class ProfileParams(Params):
    """The `profile` section of `params.yaml`."""

    min_rows_per_label: int = Field(ge=1)
    sample_words: int = Field(ge=1)
    neighbours: int = Field(ge=1, le=1000)
    reference_rows: int = Field(ge=2)
    min_language_probability: float = Field(ge=0, le=1)
    tokenizer: str = Field(min_length=1)


def measured(
    records: pl.DataFrame, embeddings: NDArray[np.float32], params: ProfileParams, device: torch.device, seed: int
) -> pl.DataFrame:
    """What is measured of each row.

    Args:
        records: `id`, `text`, `label`, `source`, `authenticity`.
        embeddings: of the records, shape `(n, d)`.
        params: of the stage.
        device: where cosines are computed.
        seed: the project seed.

    Returns:
        The records with `characters`, `words`, `tokens`, `word` (the list of them), `language`, `neighbour_cosine` and
        `is_outlier`.
    """
    draws = keyed_uniform(records["id"], seed, "profile", "reference_rows").to_numpy()
    reference = np.sort(np.argsort(draws, kind="stable")[: params.reference_rows])
    likeness = neighbour_cosines(embeddings, reference, params.neighbours, device)
    guess = detected(records["text"])
    is_sure = guess["probability"] >= params.min_language_probability
    word = words_of(records["text"])
    return records.with_columns(
        characters=pl.col("text").str.len_chars(),
        words=word.list.len(),
        tokens=token_counts(records["text"], Path(params.tokenizer)),
        word=word,
        language=pl.when(is_sure).then(guess["language"]).otherwise(pl.lit(UNDETERMINED)),
        neighbour_cosine=pl.Series(likeness),
        is_outlier=pl.Series(low_outliers(likeness, OUTLIER_DEVIATIONS)),
    )


def label_table(rows: pl.DataFrame, min_rows: int) -> pl.DataFrame:
    """`source`, `label`, `rows` and `is_below_minimum`, by source and then by label; source null is all of them.

    A label with too few rows in all is marked in each source: they may be got from any.
    """
    labelled = rows.filter(pl.col("label").is_not_null())
    total = labelled.group_by("label").len("rows").with_columns(source=pl.lit(None, pl.String))
    by_source = labelled.group_by("source", "label").len("rows")
    few = total.filter(pl.col("rows") < min_rows)["label"]
    return (
        pl.concat([part.select("source", "label", pl.col("rows").cast(pl.Int64)) for part in (total, by_source)])
        .with_columns(is_below_minimum=pl.col("label").is_in(few.implode()))
        .sort("source", "label", nulls_last=False)
    )


def length_table(rows: pl.DataFrame) -> pl.DataFrame:
    """`source` (null: all), `measure`, `quantile` and `value`, with a quantile every `TABLE_STEP`."""
    quantiles = [round(step * TABLE_STEP, 2) for step in range(round(1 / TABLE_STEP) + 1)]
    parts = [(None, rows), *((name, part) for (name,), part in rows.group_by("source", maintain_order=True))]
    found = [
        (name, measure, quantile, part[measure].quantile(quantile))
        for name, part in parts
        for measure in LENGTHS
        for quantile in quantiles
    ]
    schema = {"source": pl.String, "measure": pl.String, "quantile": pl.Float64, "value": pl.Float64}
    return pl.DataFrame(found, schema, orient="row")


def language_table(rows: pl.DataFrame) -> pl.DataFrame:
    """`source`, `language`, `rows` and `share` of the source, the most frequent language of each source first."""
    return (
        rows.group_by("source", "language")
        .agg(rows=pl.len().cast(pl.Int64))
        .with_columns(share=pl.col("rows") / pl.col("rows").sum().over("source"))
        .sort("source", pl.col("rows").neg(), "language")
    )


def source_table(sources: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The sources with the rows that cleaning kept (`rows_clean`); what is not stated says so."""
    kept = rows.group_by("source").agg(rows_clean=pl.len().cast(pl.Int64))
    return (
        sources.join(kept, left_on="name", right_on="source", how="left", maintain_order="left")
        .with_columns(pl.col("rows_clean").fill_null(0), pl.col("licence", "retrieved").fill_null(NOT_STATED))
        .rename({"rows_out": "rows_ingested"})
    )


def known(figures: Figures) -> Figures:
    """Without the figures that are undefined."""
    return {name: value for name, value in figures.items() if value is not None}


def part_figures(
    rows: pl.DataFrame, part: Spread, copies: pl.DataFrame, labels: int, params: ProfileParams, seed: int
) -> Figures:
    """The figures of one source, or of all rows.

    Args:
        rows: as `measured` gives them.
        part: of their embeddings.
        copies: augmented rows whose parents are among them.
        labels: how many labels there are in all the data.
        params: of the stage.
        seed: the project seed.
    """
    counts = rows["label"].drop_nulls().value_counts()["count"].to_list()
    found = vocabulary(rows["id"], rows["word"], params.sample_words, LONGEST_N_GRAM, seed)
    languages = rows["language"].value_counts().sort("count", "language", descending=[True, False])
    return {
        "rows": rows.height,
        "authenticity": {
            "real": rows.filter(pl.col("authenticity") == "real").height,
            "generated": rows.filter(pl.col("authenticity") == "generated").height,
            "augmented": copies.height,
        },
        **known({"normalised_label_entropy": normalised_entropy(counts, labels)}),
        **{
            measure: {f"q{100 * quantile:02.0f}": rows[measure].quantile(quantile) for quantile in QUANTILES}
            for measure in LENGTHS
        },
        "vocabulary": {
            "words": found.words,
            "types": found.types,
            "sample_words": found.sample_words,
            **known({f"distinct_{n}": share for n, share in enumerate(found.distinct, start=1)}),
        },
        "spread": known(
            {"distance_to_centroid": part.distance_to_centroid, "pairwise_distance": part.pairwise_distance}
        ),
        "outliers": rows["is_outlier"].sum(),
        "outlier_share": rows["is_outlier"].mean(),
        "language_share": {
            language: count / rows.height
            for language, count in languages.iter_rows()
            if count >= MIN_LANGUAGE_SHARE * rows.height
        },
    }


def main() -> None:
    """Profile the data."""
    params = load_params("profile", ProfileParams)
    seed = load_params("seed", int)
    device = prepare_device(load_params("compute", Compute))
    sources = pl.read_parquet(SOURCES)
    records = pl.read_parquet(RECORDS, columns=["id", "text", "label", "source", "authenticity"])
    embeddings = embeddings_of(records["id"], pl.read_parquet(EMBEDDINGS), RECORDS)
    copies = pl.read_parquet(AUGMENTED, columns=["parent_id", "authenticity"])
    copies = copies.filter(pl.col("authenticity") == "augmented").join(
        records.select("id", "source"), left_on="parent_id", right_on="id", how="left", maintain_order="left"
    )

    started = time.perf_counter()
    rows = measured(records, embeddings, params, device.device, seed)
    label_rows = label_table(rows, params.min_rows_per_label)
    totals = label_rows.filter(pl.col("source").is_null())
    whole = spread(embeddings)
    per_source = {}
    for source in sources.iter_rows(named=True):
        is_of_it = (rows["source"] == source["name"]).to_numpy()
        part = rows.filter(pl.Series(is_of_it))
        if part.is_empty():
            per_source[source["name"]] = {"rows_in": source["rows_in"], "rows": 0}
            continue
        of_it = spread(embeddings[is_of_it])
        per_source[source["name"]] = {
            "rows_in": source["rows_in"],
            **part_figures(part, of_it, copies.filter(pl.col("source") == source["name"]), totals.height, params, seed),
            **known({"centroid_cosine": cosine(of_it.centroid, whole.centroid)}),
        }
    unlicensed = sources.filter(pl.col("licence").is_null())["name"]
    metrics = {
        **part_figures(rows, whole, copies, totals.height, params, seed),
        "sources": sources.height,
        "rows_without_stated_licence": rows.filter(pl.col("source").is_in(unlicensed.implode())).height,
        "rows_without_label": rows["label"].null_count(),
        "labels": totals.height,
        "labels_below_minimum": totals["is_below_minimum"].sum(),
        "rows_of_smallest_label": totals["rows"].min() or 0,
        "per_source": per_source,
        "per_label": {label: {"rows": count} for label, count in totals.select("label", "rows").iter_rows()},
        "profile_seconds": time.perf_counter() - started,
    }

    least_alike = (
        rows.filter(pl.col("neighbour_cosine").is_not_nan())
        .with_columns(pl.col("neighbour_cosine").cast(pl.Float64).round(4))
        .sort("neighbour_cosine", "id")
        .head(LEAST_ALIKE_SHOWN)
        .select("id", "source", "label", "neighbour_cosine", "is_outlier", "text")
    )
    with output_folder(OUTPUT) as folder:
        write_parquet(source_table(sources, rows), folder / "sources.parquet")
        write_parquet(label_rows, folder / "labels.parquet")
        write_parquet(length_table(rows), folder / "lengths.parquet")
        write_parquet(language_table(rows), folder / "languages.parquet")
        write_parquet(least_alike, folder / "least_alike.parquet")
    write_json(METRICS, metrics)


if __name__ == "__main__":
    run_stage(main)
