"""CROWDLAB (Goh, Tkachenko & Mueller 2022, https://arxiv.org/abs/2210.06812), as Cleanlab has it: consensus labels and
the quality of annotators, from the ratings and a model that reads the texts.

Each annotator weighs as much as they agree with the others on the rows they have in common, the model as much as it
agrees with the majority; a row's label is the one with the highest weighted average of what they say.

Cleanlab takes a dense table of rows by annotators, and time that grows with annotators squared. 50,000 rows by 1,000
annotators took 1.1 GiB, and 24 s for 3 labels or 66 s for 77, on one core; 5,000 rows by 2,000 annotators 31 s. So both
are capped (`fitting_annotators`), and where the ratings do not fit, those of the annotators with the most ratings are
used and the others are left out.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from cleanlab.multiannotator import get_label_quality_multiannotator
from numpy.typing import NDArray

from assay.probes import grouped_folds, linear_model, out_of_fold_probabilities

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Metrics = dict[str, "float | Metrics"]

CROWDLAB_SCHEMA = pl.Schema({"id": pl.String, "crowdlab_label": pl.String, "crowdlab_quality": pl.Float64})
ANNOTATOR_SCHEMA = pl.Schema({"annotator": pl.String, "crowdlab_quality": pl.Float64})
TIE_BREAK = 1e-9
"""A difference of probabilities that decides between equals and nothing else."""


@dataclass(frozen=True)
class Crowdlab:
    """What CROWDLAB says.

    Legend: `n` rows, `a` annotators.
    """

    labels: Integers
    """The label of each row, shape `(n,)`."""
    quality: Floats
    """How sure it is of that label, 0 to 1, shape `(n,)`."""
    annotator_quality: Floats
    """Quality of each annotator, 0 to 1, shape `(a,)`; NaN where no row of theirs was rated by another."""
    model_weight: float
    """Weight of the model, where the mean annotator has 1."""


@dataclass(frozen=True)
class CrowdOpinion:
    """What CROWDLAB says of rows and annotators, how it was asked, and what a person should know of that."""

    rows: pl.DataFrame
    """`id`, `crowdlab_label`, `crowdlab_quality`, sorted by `id`."""
    annotators: pl.DataFrame
    """`annotator`, `crowdlab_quality`."""
    metrics: Metrics
    messages: tuple[str, ...]

    @classmethod
    def nothing(cls, *messages: str) -> "CrowdOpinion":
        """No rows, no annotators, and why."""
        return cls(pl.DataFrame(schema=CROWDLAB_SCHEMA), pl.DataFrame(schema=ANNOTATOR_SCHEMA), {}, messages)


def fitting_annotators(annotators: Integers, rows: int, max_cells: int, max_annotators: int) -> Integers:
    """The numbers of the annotators that CROWDLAB can take, those with the most ratings; sorted.

    Args:
        annotators: annotator of each rating, shape `(r,)`.
        rows: rows with ratings.
        max_cells: rows times annotators at most.
        max_annotators: annotators at most.
    """
    ratings = np.bincount(annotators)
    by_ratings = np.lexsort((np.arange(len(ratings)), -ratings))
    return np.sort(by_ratings[: min(max_annotators, max_cells // max(rows, 1))])


def crowdlab(rows: Integers, annotators: Integers, labels: Integers, probabilities: Floats) -> Crowdlab:
    """Consensus labels and quality of annotators by CROWDLAB.

    Legend: `r` ratings, `n` rows, `a` annotators, `k` labels.

    Args:
        rows: row of each rating, from 0 to `n - 1`, each with one at least and one with two, shape `(r,)`.
        annotators: annotator of each rating, from 0 to `a - 1`, each with one at least, two at least, shape `(r,)`.
        labels: label of each rating, from 0, shape `(r,)`.
        probabilities: of every label for each row, from a model that did not see the row's ratings, no two the same in
            a row (Cleanlab would draw lots, and fails where nothing but lots is left), shape `(n, k)`.
    """
    table = np.full((len(probabilities), int(annotators.max()) + 1), np.nan)
    table[rows, annotators] = labels
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        # Of annotators who share no row with another, and of ratings of which none agree: nulls and figures say so.
        warnings.simplefilter("ignore")
        result = get_label_quality_multiannotator(
            table, probabilities, return_detailed_quality=False, return_weights=True, verbose=False
        )
    quality = result["label_quality"]
    return Crowdlab(
        labels=quality["consensus_label"].to_numpy().astype(np.int64),
        quality=quality["consensus_quality_score"].to_numpy().astype(np.float64),
        annotator_quality=result["annotator_stats"]["annotator_quality"].sort_index().to_numpy().astype(np.float64),
        model_weight=float(result["model_weight"] / np.mean(result["annotator_weight"])),
    )


def without_ties(probabilities: Floats, given: Integers) -> Floats:
    """The probabilities with equal ones in a row told apart: of two equals, the label given more often comes first.

    Args:
        probabilities: shape `(n, k)`.
        given: number of the label of each rating, shape `(r,)`.
    """
    labels = probabilities.shape[1]
    ratings = np.bincount(given, minlength=labels)
    rank = np.empty(labels)
    rank[np.lexsort((np.arange(labels), -ratings))] = np.arange(labels)
    nudged = probabilities + TIE_BREAK * (labels - rank)
    return np.asarray(nudged / nudged.sum(axis=1, keepdims=True))


def crowd_opinion(
    records: pl.DataFrame,
    ratings: pl.DataFrame,
    features_of: Callable[[pl.Series], NDArray[np.float32]],
    folds: int,
    C: float,
    max_cells: int,
    max_annotators: int,
    seed: int,
) -> CrowdOpinion:
    """Ask CROWDLAB about the rated rows, with a model fitted on the majority labels of other folds.

    Where it cannot be asked, nothing comes back but the reason.

    Args:
        records: `id`, `consensus_label`, `reference_label` (which grades and does nothing else), `semantic_group`.
        ratings: `id`, `annotator`, `label`.
        features_of: the embeddings of rows, from their ids.
        folds: of the model.
        C: `C` of the logistic regression.
        max_cells: rows times annotators at most.
        max_annotators: annotators at most.
        seed: of the folds.
    """
    labels = ratings["label"].unique().sort()
    if len(labels) < 2:
        return CrowdOpinion.nothing("CROWDLAB was not asked: all ratings give the same label")
    everyone = ratings["annotator"].unique().sort()
    fitting = fitting_annotators(_codes(ratings["annotator"]), ratings["id"].n_unique(), max_cells, max_annotators)
    asked = ratings.filter(pl.col("annotator").is_in(everyone.gather(fitting).implode())).sort("id", "annotator")
    messages = []
    if len(fitting) < len(everyone):
        messages.append(
            f"CROWDLAB was asked about the {asked.height} of {ratings.height} ratings that are from the {len(fitting)} "
            f"of {len(everyone)} annotators with the most ratings: more do not fit `annotation_qa.crowdlab` "
            f"(max_cells: {max_cells}, max_annotators: {max_annotators}) of params.yaml"
        )
    if not asked["id"].is_duplicated().any():
        return CrowdOpinion.nothing(
            *messages, "CROWDLAB was not asked: no row has ratings from two of these annotators"
        )

    rows = records.join(asked, on="id", how="semi").sort("id")
    majority = rows["consensus_label"].replace_strict(labels, range(len(labels)), return_dtype=pl.Int64)
    present, codes = np.unique(majority.to_numpy(), return_inverse=True)
    dealt = grouped_folds(codes, _codes(rows["semantic_group"]), folds, seed)
    if not dealt:
        return CrowdOpinion.nothing(
            *messages, "CROWDLAB was not asked: too few rows of two labels to fit a model on some and try it on others"
        )
    judged = out_of_fold_probabilities(linear_model(features_of(rows["id"]), C), codes, dealt)
    unjudged = np.isnan(judged[:, 0])
    agrees = judged[~unjudged].argmax(axis=1) == codes[~unjudged]
    judged[unjudged] = np.bincount(codes) / len(codes)
    probabilities = np.zeros((rows.height, len(labels)))
    probabilities[:, present] = judged

    said = asked["label"].replace_strict(labels, range(len(labels)), return_dtype=pl.Int64).to_numpy()
    opinion = crowdlab(_codes(asked["id"]), _codes(asked["annotator"]), said, without_ties(probabilities, said))
    given = labels.gather(opinion.labels)
    metrics: Metrics = {
        "rows": rows.height,
        "ratings": asked.height,
        "annotators": len(fitting),
        "annotators_left_out": len(everyone) - len(fitting),
        "folds": len(dealt),
        "rows_not_judged_by_model": int(unjudged.sum()),
        "model_agrees_with_consensus": float(agrees.mean()),
        "model_weight": opinion.model_weight,
        "mean_quality": float(opinion.quality.mean()),
    }
    table = pl.DataFrame({"id": rows["id"], "crowdlab_label": given, "crowdlab_quality": opinion.quality})
    quality = pl.DataFrame({"annotator": everyone.gather(fitting), "crowdlab_quality": opinion.annotator_quality})
    shares = rows.select(
        agrees_with_consensus=(pl.lit(given) == pl.col("consensus_label")).mean(),
        agrees_with_reference=(pl.lit(given) == pl.col("reference_label")).mean(),
    ).row(0, named=True)
    metrics |= {name: share for name, share in shares.items() if share is not None}
    return CrowdOpinion(
        table.match_to_schema(CROWDLAB_SCHEMA),
        quality.with_columns(pl.col("crowdlab_quality").fill_nan(None)).match_to_schema(ANNOTATOR_SCHEMA),
        metrics,
        tuple(messages),
    )


def _codes(column: pl.Series) -> Integers:
    """Values as numbers from 0 in sorted order, shape `(len(column),)`."""
    return (column.rank("dense").cast(pl.Int64) - 1).to_numpy()
