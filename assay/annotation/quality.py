"""What the ratings of rows say: consensus labels, agreement beyond chance, and the quality of each annotator."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.annotation import consensus
from assay.annotation.agreement import krippendorff_alpha_interval, label_agreement, label_counts, number_sums
from assay.annotation.like_the_others import LikeTheOthersParams, find_like_the_others
from assay.core.params import Params
from assay.statistics.bootstrap import bootstrap_figures
from assay.statistics.metrics_dict import Estimate, metrics_of

CONSENSUS_SCHEMA = pl.Schema({"consensus_label": pl.String, "annotator_agreement": pl.Float64, "ratings": pl.Int64})
Generators = Callable[[str], np.random.Generator]
"""A generator for each purpose, the same for the same purpose."""
Metrics = dict[str, Any]


class AnnotationQaParams(Params):
    """The `annotation_qa` section of `params.yaml`."""

    label_order: list[str] | None = Field(min_length=2)
    min_krippendorff_alpha: float | None = Field(ge=-1, le=1)
    bootstrap_samples: int = Field(ge=100, le=100_000)
    disputed_rows: int = Field(ge=1)
    like_the_others: LikeTheOthersParams | None

    @field_validator("label_order")
    @classmethod
    def _each_label_once(cls, labels: list[str] | None) -> list[str] | None:
        twice = sorted({label for label in labels or [] if labels and labels.count(label) > 1})
        if twice:
            raise ValueError(f"each label once; {twice} is there several times")
        return labels


@dataclass(frozen=True)
class Quality:
    """What the ratings say: of all rows (with `CONSENSUS_SCHEMA`), of annotators, of those with several ratings."""

    records: pl.DataFrame
    annotators: pl.DataFrame
    disputed: pl.DataFrame
    overall: dict[str, Estimate]
    per_source: dict[str, dict[str, Estimate]]
    metrics: Metrics


def add_consensus(records: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
    """The records with `consensus_label`, `annotator_agreement` (its share of the row's ratings) and `ratings`."""
    joined = records.join(consensus.find_majority(votes), on="id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("ratings").fill_null(0)).with_columns(
        pl.col(name).cast(dtype) for name, dtype in CONSENSUS_SCHEMA.items()
    )


def number_labels(ratings: pl.DataFrame, label_order: list[str] | None) -> NDArray[np.int64]:
    """The labels as numbers from 0, in their order where they have one, else in alphabetical order."""
    if label_order is None:
        return consensus.number_values(ratings["label"])
    return ratings["label"].replace_strict(label_order, range(len(label_order)), return_dtype=pl.Int64).to_numpy()


def estimate_agreement(ratings: pl.DataFrame, params: AnnotationQaParams, random: Generators) -> dict[str, Estimate]:
    """Fleiss' kappa and Krippendorff's alphas of `id`, `label`, `rating`; those that are undefined have no key."""
    counts = label_counts(consensus.number_values(ratings["id"]), number_labels(ratings, params.label_order))
    of_labels = partial(label_agreement, counts, ordered=params.label_order is not None)
    numeric = ratings.filter(pl.col("rating").is_finite())
    sums = number_sums(consensus.number_values(numeric["id"]), numeric["rating"].to_numpy())
    return bootstrap_figures(of_labels, len(counts.ratings), params.bootstrap_samples, random("labels")) | (
        bootstrap_figures(
            lambda weights: {"krippendorff_alpha_interval": krippendorff_alpha_interval(sums, weights)},
            len(sums.ratings),
            params.bootstrap_samples,
            random("numbers"),
        )
    )


def _defined(shares: pl.DataFrame) -> Metrics:
    """The only row of a table as metrics, without those that are undefined."""
    return {name: share for name, share in shares.row(0, named=True).items() if share is not None}


def score_single_rater(ratings: pl.DataFrame) -> Metrics:
    """Share of ratings that give the label most others give, and their row's reference label; over what is defined."""
    return _defined(
        ratings.select(
            single_rater_accuracy=pl.col("agrees_with_others").mean(),
            single_rater_accuracy_against_reference=(pl.col("label") == pl.col("reference_label")).mean(),
        )
    )


def compare_labels(records: pl.DataFrame) -> Metrics:
    """How far the given label and the consensus of most raters are the reference label, over rated rows."""
    return _defined(
        records.filter(pl.col("consensus_label").is_not_null()).select(
            consensus_agrees_with_reference=(pl.col("consensus_label") == pl.col("reference_label")).mean(),
            label_agrees_with_reference=(pl.col("label") == pl.col("reference_label")).mean(),
        )
    )


def tabulate_annotators(ratings: pl.DataFrame) -> pl.DataFrame:
    """The table of `annotators.parquet`, sorted by annotator, from ratings with `agrees_with_others`."""
    return (
        ratings.group_by("annotator")
        .agg(
            pl.len().cast(pl.Int64).alias("ratings"),
            pl.col("agrees_with_others").count().cast(pl.Int64).alias("ratings_with_others"),
            pl.col("agrees_with_others").mean().alias("accuracy"),
        )
        .sort("annotator")
    )


def count_ratings(records: pl.DataFrame, ratings: pl.DataFrame) -> Metrics:
    """Counts and shares over the rated rows; none where there are no ratings."""
    if ratings.is_empty():
        return {}
    several = ratings.filter(pl.len().over("id") > 1)
    return {
        "rows_with_ratings": records.filter(pl.col("ratings") > 0).height,
        "rows_with_several_ratings": several["id"].n_unique(),
        "annotators": ratings["annotator"].n_unique(),
        **(score_single_rater(several) if several.height else {}),
        **compare_labels(records),
    }


def measure_quality(
    given: pl.DataFrame, ratings: pl.DataFrame, params: AnnotationQaParams, random: Generators
) -> Quality:
    """Consensus, agreement and the quality of annotators.

    `given` are all rows (`id`, `text`, `label`, `reference_label`, `source`), `ratings` theirs (`id`, `annotator`,
    `label`, `rating`), sorted by `id` and `annotator`.
    """
    votes = consensus.count_votes(ratings)
    records = add_consensus(given, votes)
    # With labels and source of their row, and `agrees_with_others`, null where there are no others.
    of_row, agreeing = records.select("id", "reference_label", "source"), consensus.compare_with_others(votes)
    ratings = ratings.join(of_row, on="id", how="inner", maintain_order="left")
    ratings = ratings.join(agreeing, on=["id", "label"], how="left", maintain_order="left")
    several = ratings.filter(pl.len().over("id") > 1)
    by_source = {str(source): part for (source,), part in several.partition_by("source", as_dict=True).items()}
    # Several threads add up in another order, and last bits would depend on the machine.
    with threadpool_limits(limits=1):
        overall = estimate_agreement(several, params, random)
        per_source = {source: estimate_agreement(part, params, random) for source, part in sorted(by_source.items())}

    metrics: Metrics = {"rows_in": given.height, "rows_out": records.height, "removed": {}, "ratings": ratings.height}
    metrics |= count_ratings(records, ratings)
    if several.height:
        metrics |= metrics_of(overall)
        metrics["per_source"] = {
            source: {"ratings": part.height, "rows_with_several_ratings": part["id"].n_unique()}
            | metrics_of(per_source[source])
            | score_single_rater(part)
            for source, part in sorted(by_source.items())
        }
    if params.like_the_others and several.height:
        metrics["like_the_others"] = find_like_the_others(several, params.like_the_others)
    annotators = tabulate_annotators(ratings)
    return Quality(records, annotators, consensus.disputed_rows(records, votes), overall, per_source, metrics)


def render_messages(values: dict[str, Any]) -> str:
    """What is said of ratings, a line each: `messages.jinja` with these values."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent))
    environment.filters["repr"] = repr
    return environment.get_template("messages.jinja").render(values).lstrip("\n")
