"""Raters, or slots, that give what most others of the row give far more often than the rest do: filled in, not rated?

Null hypothesis: which of a row's ratings is a slot's is chance. Then a slot is like the others (gives a mode of theirs)
with the row's share of such ratings, from row to row independently, whichever rows it rated: a one-sided normal test,
Bonferroni's correction for the slots. Raters differ beyond chance anyway, so a flagged slot is also an outlier: its
mean excess over chance is `min_robust_z` robust standard deviations (median absolute deviation / 0.6745) above the
median of the slots (Iglewicz and Hoaglin 1993, How to Detect and Handle Outliers).
"""

import polars as pl
from pydantic import Field
from scipy import stats

from assay.core.params import Params

FIGURES = ("ratings", "share", "rest_median")
MIN_RATINGS = 3
"""Of a row, so that others can agree."""
MIN_SLOTS = 5
"""Of a source, so that there is a rest."""


class LikeTheOthersParams(Params):
    """Block `like_the_others`: at most which probability by chance, and at least which robust z-score, is flagged."""

    max_p_value: float = Field(gt=0, lt=1)
    min_robust_z: float = Field(gt=0)


def find_like_the_others(ratings: pl.DataFrame, params: LikeTheOthersParams) -> dict[str, dict[str, dict[str, float]]]:
    """By source and slot of those that are flagged: `ratings`, `share` like the others, `rest_median` of that share.

    `ratings` have `id`, `source`, `annotator`, `label` and `rating`; numbers are compared where there are any.
    """
    value = pl.coalesce(pl.col("rating").cast(pl.String), "label")
    rows = ratings.select("id", "source", "annotator", value=value).filter(pl.len().over("id") >= MIN_RATINGS)
    votes = rows.group_by("id", "value").agg(votes=pl.len().cast(pl.Int64)).sort("votes", descending=True)
    most = votes.group_by("id").agg(most=pl.col("votes").first(), second=pl.col("votes").get(1, null_on_oob=True))
    of_others = pl.when(pl.col("votes") == pl.col("most")).then(pl.col("second").fill_null(0)).otherwise("most")
    chance, excess = pl.col("chance"), pl.col("like") - pl.col("chance")
    slots = (
        rows.join(votes, on=["id", "value"])
        .join(most, on="id")
        .with_columns(like=pl.col("votes") - 1 >= of_others)
        .with_columns(chance=pl.col("like").mean().over("id"))
        .group_by("source", "annotator")
        .agg(
            ratings=pl.len(),
            share=pl.col("like").mean(),
            excess=excess.mean(),
            z=excess.sum() / (chance * (1 - chance)).sum().sqrt(),
        )
        .filter(pl.len().over("source") >= MIN_SLOTS)
        .sort("source", "annotator")
        .with_columns(above=pl.col("excess") - pl.col("excess").median().over("source"))
    )
    by_chance = pl.Series(stats.norm.sf(slots["z"].fill_nan(0).to_numpy()), dtype=pl.Float64)
    spread = pl.col("above").abs().median().over("source") / stats.norm.ppf(0.75)
    is_rare = by_chance * pl.len().over("source") <= params.max_p_value
    flagged = slots.with_columns(flagged=is_rare & (pl.col("above") > params.min_robust_z * spread))
    flagged = flagged.with_columns(rest_median=pl.col("share").filter(~pl.col("flagged")).median().over("source"))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in flagged.filter("flagged").iter_rows(named=True):
        found.setdefault(row["source"], {})[row["annotator"]] = {name: row[name] for name in FIGURES}
    return found
