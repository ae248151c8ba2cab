"""What most annotators of a row say, what most of the others say, and how far a row is disputed.

A tie between labels goes to the one that is given more often in all the ratings, and between those that are as frequent
to the first in alphabetical order. Nothing else that is known of a row has a say: a reference label grades, and does
nothing but that.

Ratings are tables of `id`, `annotator`, `label`. Votes are tables of `id`, `label`, `votes` (how often the row was
given the label), `rank` (of the label in ties; 0 wins) and `ratings` (of the row), of each row the winning label first.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray


def number_values(column: pl.Series) -> NDArray[np.int64]:
    """Values as numbers from 0 in sorted order, shape `(len(column),)`."""
    return (column.rank("dense").cast(pl.Int64) - 1).to_numpy()


def count_votes(ratings: pl.DataFrame) -> pl.DataFrame:
    """Count the ratings by row and label; sorted by `id`, the winner of each row first."""
    by_frequency = ratings.group_by("label").len("frequency").sort("frequency", "label", descending=[True, False])
    ranks = by_frequency.select("label", rank=pl.int_range(pl.len(), dtype=pl.Int64))
    return (
        ratings.group_by("id", "label")
        .agg(pl.len().cast(pl.Int64).alias("votes"))
        .join(ranks, on="label", how="left")
        .sort("id", -pl.col("votes"), "rank")
        .with_columns(pl.col("votes").sum().over("id").alias("ratings"))
    )


def find_majority(votes: pl.DataFrame) -> pl.DataFrame:
    """Consensus of each row: `id`, `consensus_label`, `annotator_agreement` (its share of the ratings), `ratings`."""
    first, share = votes.group_by("id", maintain_order=True).first(), pl.col("votes") / pl.col("ratings")
    return first.select("id", consensus_label="label", annotator_agreement=share, ratings="ratings")


def compare_with_others(votes: pl.DataFrame) -> pl.DataFrame:
    """Whether those who gave a row a label agree with the majority of its other annotators: `agrees_with_others`.

    By `id` and `label`, for the rows with at least two ratings.
    """
    # Without one of its votes a label that did not win still does not; the winner may lose to the second.
    second = pl.col("votes").get(1, null_on_oob=True).over("id"), pl.col("rank").get(1, null_on_oob=True).over("id")
    own = pl.col("votes") - 1
    still_wins = (own > second[0]) | ((own == second[0]) & (pl.col("rank") < second[1]))
    is_winner = pl.int_range(pl.len()).over("id") == 0
    agrees = is_winner & still_wins.fill_null(value=True)
    return (
        votes.with_columns(agrees_with_others=agrees)
        .filter(pl.col("ratings") >= 2)
        .select("id", "label", "agrees_with_others")
    )


def disagreement(votes: pl.DataFrame) -> pl.DataFrame:
    """How far each row with at least two ratings is disputed, from 0 (one label) to 1 (all labels equally often).

    The Shannon entropy of the shares of the labels among the row's ratings, divided by that of equal shares of all the
    labels that occur anywhere. `id`, `disagreement`, `ratings`; sorted by `id`.
    """
    labels = votes["label"].n_unique()
    share = pl.col("votes") / pl.col("ratings")
    # Votes are in falling order in every row, so the same votes for other labels sum to the same last bit.
    entropy = -(share * share.log()).sum() / (pl.lit(labels).log() if labels > 1 else 1)
    return (
        votes.filter(pl.col("ratings") >= 2)
        .group_by("id", maintain_order=True)
        .agg(entropy.clip(0, 1).abs().alias("disagreement"), pl.col("ratings").first())
    )


def disputed_rows(records: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
    """The rows with at least two ratings, the most disputed first; among equals those with more ratings, then by `id`.

    `ratings_<label>` is there for each label, in alphabetical order.
    """
    labels = votes["label"].unique().sort()
    counts = votes.group_by("id").agg(
        pl.col("votes").filter(pl.col("label") == label).sum().alias(f"ratings_{label}") for label in labels
    )
    return (
        disagreement(votes)
        .join(records.select("id", "text", "label", "consensus_label", "source"), on="id", how="inner")
        .join(counts, on="id", how="left")
        .sort("disagreement", "ratings", "id", descending=[True, True, False])
        .select(
            *("id", "text", "label", "consensus_label", "disagreement", "ratings"),
            *(f"ratings_{label}" for label in labels),
            "source",
        )
    )
