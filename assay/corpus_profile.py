"""The profile of the data: what is measured of each row, of each source, and the tables of it."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field

from assay import corpus_statistics
from assay.core.params import Params
from assay.corpus_statistics import Spread, spread
from assay.text.language import UNDETERMINED, detect_languages
from assay.text.token_lengths import token_counts

LENGTHS = ("characters", "words", "tokens")
QUANTILES = (0.05, 0.5, 0.95)
LONGEST_N_GRAM = 2
OUTLIER_DEVIATIONS = 2.5
LEAST_SIMILAR_SHOWN = 50
MIN_LANGUAGE_SHARE = 0.01
"""Languages of fewer of the rows are in the table and not in the metrics: most of them are short texts misread."""
NOT_STATED = "not stated"
Metrics = dict[str, Any]


class ProfileParams(Params):
    """The `profile` section of `params.yaml`."""

    min_rows_per_label: int = Field(ge=1)
    sample_words: int = Field(ge=1)
    neighbours: int = Field(ge=1, le=1000)
    reference_rows: int = Field(ge=2)
    min_language_probability: float = Field(ge=0, le=1)
    encoder_languages: list[str] | None
    tokenizer: str = Field(min_length=1)


def measure_rows(
    records: pl.DataFrame,
    embeddings: NDArray[np.float32],
    params: ProfileParams,
    device: torch.device,
    draws: pl.Series,
) -> pl.DataFrame:
    """The records with `characters`, `words`, `tokens`, `word` (a list), `language`, `neighbour_cosine`, `is_outlier`.

    Of the draws from [0, 1), shape `(n,)`, the rows with the lowest are those that all are compared with.
    """
    reference = np.sort(np.argsort(draws.to_numpy(), kind="stable")[: params.reference_rows])
    similarity = corpus_statistics.neighbour_cosines(embeddings, reference, params.neighbours, device)
    guess = detect_languages(records["text"])
    is_sure = guess["probability"] >= params.min_language_probability
    word = corpus_statistics.words_of(records["text"])
    return records.with_columns(
        characters=pl.col("text").str.len_chars(),
        words=word.list.len(),
        tokens=token_counts(records["text"], Path(params.tokenizer)),
        word=word,
        language=pl.when(is_sure).then(guess["language"]).otherwise(pl.lit(UNDETERMINED)),
        neighbour_cosine=pl.Series(similarity),
        is_outlier=pl.Series(corpus_statistics.low_outliers(similarity, OUTLIER_DEVIATIONS)),
    )


def tabulate_labels(rows: pl.DataFrame, min_rows: int) -> pl.DataFrame:
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


def tabulate_languages(rows: pl.DataFrame) -> pl.DataFrame:
    """`source`, `language`, `rows` and `share` of the source, the most frequent language of each source first."""
    return (
        rows.group_by("source", "language")
        .agg(rows=pl.len().cast(pl.Int64))
        .with_columns(share=pl.col("rows") / pl.col("rows").sum().over("source"))
        .sort("source", pl.col("rows").neg(), "language")
    )


def tabulate_sources(sources: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The sources with the rows that cleaning kept (`rows_clean`); what is not stated says so."""
    kept = rows.group_by("source").agg(rows_clean=pl.len().cast(pl.Int64))
    return (
        sources.join(kept, left_on="name", right_on="source", how="left", maintain_order="left")
        .with_columns(pl.col("rows_clean").fill_null(0), pl.col("licence", "retrieved").fill_null(NOT_STATED))
        .rename({"rows_out": "rows_ingested"})
    )


def keep_defined(metrics: Metrics) -> Metrics:
    """Without the metrics that are undefined."""
    return {name: value for name, value in metrics.items() if value is not None}


def profile_part(
    rows: pl.DataFrame, part: Spread, augmented: int, labels: int, params: ProfileParams, seed: int
) -> Metrics:
    """The metrics of one source, or of all rows.

    `part` is the spread of the embeddings of the rows, `augmented` counts the examples of which they are the sources,
    `labels` those of all the data.
    """
    counts = rows["label"].drop_nulls().value_counts()["count"].to_list()
    found = corpus_statistics.vocabulary(rows["id"], rows["word"], params.sample_words, LONGEST_N_GRAM, seed)
    languages = rows["language"].value_counts().sort("count", "language", descending=[True, False])
    return {
        "rows": rows.height,
        "authenticity": {
            "real": rows.filter(pl.col("authenticity") == "real").height,
            "generated": rows.filter(pl.col("authenticity") == "generated").height,
            "augmented": augmented,
        },
        **keep_defined({"normalised_label_entropy": corpus_statistics.normalised_entropy(counts, labels)}),
        **{measure: {f"q{100 * at:02.0f}": rows[measure].quantile(at) for at in QUANTILES} for measure in LENGTHS},
        "vocabulary": {
            "words": found.words,
            "types": found.types,
            "sample_words": found.sample_words,
            **keep_defined({f"distinct_{n}": share for n, share in enumerate(found.distinct, start=1)}),
        },
        "spread": keep_defined({"pairwise_distance": part.pairwise_distance}),
        "outlier_share": rows["is_outlier"].mean(),
        "language_share": {
            language: count / rows.height
            for language, count in languages.iter_rows()
            if count >= MIN_LANGUAGE_SHARE * rows.height
        },
    }


def profile_sources(
    sources: pl.DataFrame,
    rows: pl.DataFrame,
    embeddings: NDArray[np.float32],
    augmented: dict[str, int],
    labels: int,
    params: ProfileParams,
    seed: int,
) -> Metrics:
    """The metrics of all rows, and by source under `per_source`; arguments as of `profile_part`."""
    whole = spread(embeddings)
    per_source: dict[str, Metrics] = {}
    for name, rows_in in sources.select("name", "rows_in").iter_rows():
        is_of_it = rows["source"] == name
        per_source[name] = {"rows_in": rows_in, "rows": 0}
        if is_of_it.any():
            of_it = spread(embeddings[is_of_it.to_numpy()])
            relevance = {"centroid_cosine": corpus_statistics.cosine(of_it.centroid, whole.centroid)}
            part = profile_part(rows.filter(is_of_it), of_it, augmented.get(name, 0), labels, params, seed)
            per_source[name] |= part | keep_defined(relevance)
    of_all = profile_part(rows, whole, sum(augmented.values()), labels, params, seed)
    return of_all | {"per_source": per_source}


def find_least_similar(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that are least similar to any others."""
    return (
        rows.filter(pl.col("neighbour_cosine").is_not_nan())
        .with_columns(pl.col("neighbour_cosine").cast(pl.Float64).round(4))
        .sort("neighbour_cosine", "id")
        .head(LEAST_SIMILAR_SHOWN)
        .select("id", "source", "label", "neighbour_cosine", "is_outlier", "text")
    )
