"""How far the annotators agree, what most of them say, and how far one of them can be trusted.

Decides: the consensus label of each row. Changes no label and removes no row.

Reads `data/semantic_duplicates/records.parquet` and `data/clean/ratings.parquet`; writes
`data/annotation_qa/records.parquet` (the same rows and columns + `consensus_label`, `annotator_agreement`, `ratings`)
and `data/annotation_qa/annotators.parquet` (`annotator`, `ratings`, `accuracy`: the share of an annotator's ratings
that give the row's consensus label).

How to read the figures:

1. The consensus label is the label most of a row's ratings give. A tie goes to the reference label where it is among
   the tied, else to the first of them in alphabetical order. The reference label may be made otherwise (in the default
   data from the mean of the ratings), so their agreement is reported.
2. A rating counts in the consensus that it is compared with. With twenty raters a row that hardly matters; with three
   it flatters them.
3. In the default data an annotator is a position in a row's list of ratings: a slot, in which different people sit from
   row to row. Mean pairwise Cohen's kappa then says how far two raters drawn at random agree, as Fleiss' kappa does,
   and nothing of the habits of any one person; so do the accuracies in `annotators.parquet`.
4. Fleiss' kappa gives each row the same weight, Krippendorff's alpha each rating. The interval alpha is over the
   ratings as numbers, where they are numbers; all else is over labels.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from stages.lib.agreement import (
    fleiss_kappa,
    krippendorff_alpha_interval,
    krippendorff_alpha_nominal,
    mean_pairwise_cohen_kappa,
)
from stages.lib.artifacts import output_folder, write_json, write_parquet
from stages.lib.errors import run_stage
from stages.lib.params import Params, load_params

RECORDS = Path("data/semantic_duplicates/records.parquet")
RATINGS = Path("data/clean/ratings.parquet")
OUTPUT = Path("data/annotation_qa")
METRICS = Path("metrics/annotation_qa.json")

Metrics = dict[str, "float | Metrics"]


class AnnotationQaParams(Params):
    """The `annotation_qa` section of `params.yaml`."""

    min_common_items: int = Field(ge=2)
    max_annotator_pairs: int = Field(ge=1)


@dataclass(frozen=True)
class Consensus:
    """The records with their consensus, and the number of rows in which labels tied for the most ratings."""

    records: pl.DataFrame
    ties: int


def add_consensus(records: pl.DataFrame, ratings: pl.DataFrame) -> Consensus:
    """Add `consensus_label`, `annotator_agreement` (its share of the row's ratings) and `ratings` (their number).

    Args:
        records: `id`, `reference_label` and other columns.
        ratings: `id` and `label`, one row per rating.
    """
    votes = ratings.filter(pl.col("label").is_not_null()).group_by("id", "label").agg(pl.len().alias("votes"))
    leading = votes.filter(pl.col("votes") == pl.col("votes").max().over("id"))
    ties = leading.height - leading["id"].n_unique()
    preferred = leading.join(records.select("id", "reference_label"), on="id", how="inner").sort(
        "id", pl.col("label").eq_missing(pl.col("reference_label")).not_(), "label"
    )
    consensus = preferred.unique("id", keep="first", maintain_order=True).join(
        votes.group_by("id").agg(pl.col("votes").sum().alias("ratings")), on="id", how="left"
    )
    joined = records.join(
        consensus.select(
            "id",
            pl.col("label").alias("consensus_label"),
            (pl.col("votes") / pl.col("ratings")).alias("annotator_agreement"),
            pl.col("ratings").cast(pl.Int64),
        ),
        on="id",
        how="left",
        maintain_order="left",
    )
    return Consensus(joined.with_columns(pl.col("ratings").fill_null(0)), ties)


def with_consensus(ratings: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """Each rating beside what is known of its row: `consensus_label`, `reference_label`, `source`."""
    return ratings.filter(pl.col("label").is_not_null()).join(
        records.select("id", "consensus_label", "reference_label", "source"),
        on="id",
        how="inner",
        maintain_order="left",
    )


def chance_corrected(ratings: pl.DataFrame) -> Metrics:
    """Fleiss' kappa and Krippendorff's alphas over ratings with a label; those that are undefined are left out."""
    items = _codes(ratings["id"])
    labels = _codes(ratings["label"])
    numeric = ratings.filter(pl.col("rating").is_finite())
    scores = {
        "fleiss_kappa": fleiss_kappa(items, labels),
        "krippendorff_alpha_nominal": krippendorff_alpha_nominal(items, labels),
        "krippendorff_alpha_interval": krippendorff_alpha_interval(_codes(numeric["id"]), numeric["rating"].to_numpy()),
    }
    return {name: score for name, score in scores.items() if score is not None}


def single_rater_accuracy(ratings: pl.DataFrame) -> Metrics:
    """Share of ratings that give their row's consensus label, and its reference label where there is one."""
    row = ratings.select(
        single_rater_accuracy=(pl.col("label") == pl.col("consensus_label")).mean(),
        single_rater_accuracy_against_reference=(pl.col("label") == pl.col("reference_label")).mean(),
    ).row(0, named=True)
    return {name: share for name, share in row.items() if share is not None}


def label_agreement(records: pl.DataFrame) -> Metrics:
    """How far the given label, the consensus of most raters and the reference label agree, over rated rows."""
    row = (
        records.filter(pl.col("consensus_label").is_not_null())
        .select(
            consensus_agrees_with_reference=(pl.col("consensus_label") == pl.col("reference_label")).mean(),
            label_agrees_with_consensus=(pl.col("label") == pl.col("consensus_label")).mean(),
            label_agrees_with_reference=(pl.col("label") == pl.col("reference_label")).mean(),
        )
        .row(0, named=True)
    )
    return {name: share for name, share in row.items() if share is not None}


def annotator_quality(ratings: pl.DataFrame) -> pl.DataFrame:
    """`annotator`, `ratings` and `accuracy` against the consensus, sorted by annotator."""
    return (
        ratings.group_by("annotator")
        .agg(
            pl.len().cast(pl.Int64).alias("ratings"),
            (pl.col("label") == pl.col("consensus_label")).mean().alias("accuracy"),
        )
        .sort("annotator")
    )


def agreement_metrics(
    records: pl.DataFrame, ratings: pl.DataFrame, min_common_items: int, max_annotator_pairs: int
) -> Metrics:
    """All figures of agreement; one that is undefined has no key.

    Args:
        records: with `consensus_label` and `ratings`.
        ratings: as `with_consensus` gives them, at least one.
        min_common_items: a pair of annotators counts when both rated at least this many rows.
        max_annotator_pairs: pairs of annotators at most.
    """
    # A person who rated a row twice would pair with themselves: the first rating stands.
    once = ratings.unique(["id", "annotator"], keep="first", maintain_order=True)
    cohen = mean_pairwise_cohen_kappa(
        _codes(once["id"]), _codes(once["annotator"]), _codes(once["label"]), min_common_items, max_annotator_pairs
    )
    rated = records.filter(pl.col("ratings") > 0)
    metrics: Metrics = {
        "ratings": ratings.height,
        "rows_with_ratings": rated.height,
        "annotators": ratings["annotator"].n_unique(),
        "ratings_per_row_min": rated.select(pl.col("ratings").min()).item(),
        "ratings_per_row_max": rated.select(pl.col("ratings").max()).item(),
        **chance_corrected(ratings),
        "cohen_kappa_pairs": cohen.pairs,
        "cohen_kappa_undefined_pairs": cohen.undefined_pairs,
    }
    if cohen.mean is not None:
        metrics["mean_pairwise_cohen_kappa"] = cohen.mean
    metrics |= single_rater_accuracy(ratings) | label_agreement(records)
    metrics["per_source"] = {
        str(source): {"ratings": part.height} | chance_corrected(part) | single_rater_accuracy(part)
        for (source,), part in sorted(ratings.partition_by("source", as_dict=True).items())
    }
    return metrics


def _codes(column: pl.Series) -> NDArray[np.int64]:
    """Values as numbers from 0 in sorted order, shape `(len(column),)`."""
    return (column.rank("dense").cast(pl.Int64) - 1).to_numpy()


def main() -> None:
    """Measure agreement and add the consensus label."""
    params = load_params("annotation_qa", AnnotationQaParams)
    given = pl.read_parquet(RECORDS)
    # Rows may have been removed since the ratings were cleaned.
    given_ratings = pl.read_parquet(RATINGS).join(given, on="id", how="semi", maintain_order="left")

    consensus = add_consensus(given, given_ratings)
    ratings = with_consensus(given_ratings, consensus.records)
    metrics: Metrics = {"rows_in": given.height, "rows_out": consensus.records.height, "removed": {}}
    if ratings.is_empty():
        print("annotation_qa: there are no ratings; the given labels pass through as they are", file=sys.stderr)
        metrics["ratings"] = 0
    else:
        metrics |= agreement_metrics(consensus.records, ratings, params.min_common_items, params.max_annotator_pairs)
        metrics["consensus_ties"] = consensus.ties

    with output_folder(OUTPUT) as folder:
        write_parquet(consensus.records, folder / "records.parquet")
        write_parquet(annotator_quality(ratings), folder / "annotators.parquet")
    write_json(METRICS, metrics)


if __name__ == "__main__":
    run_stage(main)
