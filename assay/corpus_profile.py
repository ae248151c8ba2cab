"""The profile of the data: what is measured of each row, of each source, and the tables of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import entropy

from assay.core.params import Params
from assay.embeddings.nearest import nearest_rows
from assay.text.language import UNDETERMINED, detect_languages
from assay.text.token_lengths import token_counts

if TYPE_CHECKING:
    import torch

WORD = "[\\p{L}\\p{M}\\p{N}]+(?:['\u2019][\\p{L}\\p{M}]+)*"
"""Letters and figures, and what an apostrophe ties to them."""
LENGTHS = ("characters", "words", "tokens")
QUANTILES = (0.05, 0.5, 0.95)
LEAST_SIMILAR_SHOWN = 50
MIN_LANGUAGE_SHARE = 0.01
"""Languages of fewer of the rows are not in the metrics: most of them are short texts misread."""
NOT_STATED = "not stated"
Metrics = dict[str, Any]


class ProfileParams(Params):
    """The `profile` section of `params.yaml`."""

    min_rows_per_label: int = Field(ge=1)
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
    """The records with `characters`, `words`, `tokens`, `word` (a list), `language`, `neighbour_cosine`.

    Of the draws from [0, 1), shape `(n,)`, the rows with the lowest are those that all are compared with.
    """
    reference = np.sort(np.argsort(draws.to_numpy(), kind="stable")[: params.reference_rows])
    guess = detect_languages(records["text"])
    is_sure = guess["probability"] >= params.min_language_probability
    word = records["text"].str.to_lowercase().str.extract_all(WORD)
    return records.with_columns(
        characters=pl.col("text").str.len_chars(),
        words=word.list.len(),
        tokens=token_counts(records["text"], Path(params.tokenizer)),
        word=word,
        language=pl.when(is_sure).then(guess["language"]).otherwise(pl.lit(UNDETERMINED)),
        neighbour_cosine=pl.Series(neighbour_cosines(embeddings, reference, params.neighbours, device)),
    )


def neighbour_cosines(
    embeddings: NDArray[np.float32], reference: NDArray[np.int64], neighbours: int, device: torch.device
) -> NDArray[np.float32]:
    """Mean cosine of each row to the rows closest to it among the reference rows, itself excluded; shape `(n,)`.

    Embeddings have length 1, shape `(n, d)`. All are compared with the `reference` rows alone, shape `(r,)`, so that
    time grows with the rows and not with their square.
    """
    count = min(neighbours, len(reference) - 1)
    if count < 1:
        return np.full(len(embeddings), np.nan, dtype=np.float32)
    place = np.full(len(embeddings), -1)
    place[reference] = np.arange(len(reference))
    means: NDArray[np.float32] = nearest_rows(embeddings, embeddings[reference], place, count, device).cosine.mean(1)
    return means


def tabulate_sources(sources: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The sources with the rows that cleaning kept (`rows_clean`); what is not stated says so."""
    kept = rows.group_by("source").agg(rows_clean=pl.len().cast(pl.Int64))
    return (
        sources.join(kept, left_on="name", right_on="source", how="left", maintain_order="left")
        .with_columns(pl.col("rows_clean").fill_null(0), pl.col("licence", "retrieved").fill_null(NOT_STATED))
        .rename({"rows_out": "rows_ingested"})
    )


def find_least_similar(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that are least similar to any others."""
    return (
        rows.filter(pl.col("neighbour_cosine").is_not_nan())
        .with_columns(pl.col("neighbour_cosine").cast(pl.Float64).round(4))
        .sort("neighbour_cosine", "id")
        .head(LEAST_SIMILAR_SHOWN)
        .select("id", "source", "label", "neighbour_cosine", "text")
    )


def profile_part(rows: pl.DataFrame, augmented: int, labels: int) -> Metrics:
    """The metrics of one source, or of all rows, of which so many `augmented` examples are made; of all `labels`.

    The balance is the entropy of the labels by that of equal shares, absent where there is one label, or none.
    """
    counts = rows["label"].drop_nulls().value_counts()["count"].sort().to_list()
    languages = rows["language"].value_counts().sort("count", "language", descending=[True, False])
    balance = {"normalised_label_entropy": float(entropy(counts, base=labels))} if labels > 1 and counts else {}
    return {
        "rows": rows.height,
        "authenticity": {kind: rows.filter(authenticity=kind).height for kind in ("real", "generated")}
        | {"augmented": augmented},
        **balance,
        **{measure: {f"q{100 * at:02.0f}": rows[measure].quantile(at) for at in QUANTILES} for measure in LENGTHS},
        "vocabulary": {"words": rows["words"].sum(), "types": rows["word"].explode().drop_nulls().n_unique()},
        "language_share": {
            language: count / rows.height
            for language, count in languages.iter_rows()
            if count >= MIN_LANGUAGE_SHARE * rows.height
        },
    }


def profile_sources(sources: pl.DataFrame, rows: pl.DataFrame, augmented: dict[str, int], labels: int) -> Metrics:
    """The metrics of all rows, and by source under `per_source`; `augmented` examples by source."""
    per_source: dict[str, Metrics] = {}
    for name, rows_in in sources.select("name", "rows_in").iter_rows():
        of_it = rows.filter(source=name)
        part = profile_part(of_it, augmented.get(name, 0), labels) if of_it.height else {"rows": 0}
        per_source[name] = {"rows_in": rows_in} | part
    return profile_part(rows, sum(augmented.values()), labels) | {"per_source": per_source}
