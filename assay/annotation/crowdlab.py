"""CROWDLAB (Goh, Tkachenko & Mueller 2022, https://arxiv.org/abs/2210.06812), as Cleanlab has it: consensus labels and
the quality of annotators, from the ratings and a model that reads the texts.

Each annotator weighs as much as they agree with the others on the rows they have in common, the model as much as it
agrees with the majority; a row's label is the one with the highest weighted average of what they say.

Cleanlab takes a dense table of rows by annotators (1.1 GiB for 50,000 by 1,000), and time that grows with annotators
squared. So both are capped: where the ratings do not fit, those of the annotators with the most ratings are used.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from cleanlab.multiannotator import get_label_quality_multiannotator
from numpy.typing import NDArray
from pydantic import Field

from assay.annotation.consensus import number_values
from assay.core.params import Params
from assay.probes import grouped_folds, linear_model, out_of_fold_probabilities

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
FeaturesOf = Callable[[pl.Series], NDArray[np.float32]]
"""From the ids of rows to their embeddings."""
CROWDLAB_SCHEMA = pl.Schema({"id": pl.String, "crowdlab_label": pl.String, "crowdlab_quality": pl.Float64})
ANNOTATOR_SCHEMA = pl.Schema({"annotator": pl.String, "crowdlab_quality": pl.Float64})
TIE_BREAK = 1e-9
"""A difference of probabilities that decides between equals and nothing else."""


class CrowdlabParams(Params):
    """The `annotation_qa.crowdlab` block of `params.yaml`."""

    folds: int = Field(ge=2, le=100)
    C: float = Field(gt=0)
    max_cells: int = Field(ge=4)
    max_annotators: int = Field(ge=2)


@dataclass(frozen=True)
class CrowdOpinion:
    """What CROWDLAB says of rows and annotators, how it was run, and what a person should know of that."""

    rows: pl.DataFrame
    annotators: pl.DataFrame
    metrics: dict[str, Any]
    messages: tuple[str, ...]

    @classmethod
    def nothing(cls, *messages: str) -> "CrowdOpinion":
        """No rows, no annotators, and why."""
        return cls(pl.DataFrame(schema=CROWDLAB_SCHEMA), pl.DataFrame(schema=ANNOTATOR_SCHEMA), {}, messages)


def crowdlab(
    rows: Integers, annotators: Integers, labels: Integers, probabilities: Floats
) -> tuple[Integers, Floats, Floats, float]:
    """Labels of the rows and how sure CROWDLAB is of them, shape `(n,)`; quality of the annotators, `(a,)`; and weight.

    Sureness and quality are from 0 to 1; NaN where no row of an annotator was rated by another. The weight is that of
    the model, where the mean annotator has 1.

    Rows, annotators and labels are those of the ratings, numbers from 0 without gaps, shape `(r,)`; one row at least is
    rated twice, by two annotators. Probabilities, shape `(n, k)`, are from a model that did not see the row's ratings,
    no two the same in a row (Cleanlab would draw lots, and fails where nothing but lots is left).
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
    return (
        quality["consensus_label"].to_numpy().astype(np.int64),
        quality["consensus_quality_score"].to_numpy().astype(np.float64),
        result["annotator_stats"]["annotator_quality"].sort_index().to_numpy().astype(np.float64),
        float(result["model_weight"] / np.mean(result["annotator_weight"])),
    )


def without_ties(probabilities: Floats, given: Integers) -> Floats:
    """The probabilities, shape `(n, k)`, without ties in a row: the label `given`, `(r,)`, more often is first."""
    labels = probabilities.shape[1]
    ratings = np.bincount(given, minlength=labels)
    rank = np.empty(labels)
    rank[np.lexsort((np.arange(labels), -ratings))] = np.arange(labels)
    nudged = probabilities + TIE_BREAK * (labels - rank)
    return np.asarray(nudged / nudged.sum(axis=1, keepdims=True))


def choose_ratings(ratings: pl.DataFrame, params: CrowdlabParams) -> tuple[pl.DataFrame, list[str]]:
    """The ratings of the annotators that CROWDLAB can take, and what a person should know of that."""
    everyone = ratings.group_by("annotator").len().sort("len", "annotator", descending=[True, False])
    fitting = everyone.head(min(params.max_annotators, params.max_cells // max(ratings["id"].n_unique(), 1)))
    chosen = ratings.join(fitting, on="annotator", how="semi").sort("id", "annotator")
    if fitting.height == everyone.height:
        return chosen, []
    return chosen, [
        f"CROWDLAB was run on the {chosen.height} of {ratings.height} ratings that are from the {fitting.height} "
        f"of {everyone.height} annotators with the most ratings: more do not fit `annotation_qa.crowdlab` "
        f"(max_cells: {params.max_cells}, max_annotators: {params.max_annotators}) of params.yaml"
    ]


def judge_rows(
    rows: pl.DataFrame, labels: pl.Series, features_of: FeaturesOf, params: CrowdlabParams, seed: int
) -> tuple[Floats, dict[str, float]] | None:
    """Probabilities from a model fitted on the majority labels of other folds, and metrics of it; None: no fold.

    Rows in no fold's reach get the shares of the labels.
    """
    majority = rows["consensus_label"].replace_strict(labels, range(len(labels)), return_dtype=pl.Int64)
    present, codes = np.unique(majority.to_numpy(), return_inverse=True)
    folds = grouped_folds(codes, number_values(rows["split_group"]), params.folds, seed)
    if not folds:
        return None
    judged = out_of_fold_probabilities(linear_model(features_of(rows["id"]), [params.C]), codes, folds)[0]
    skipped = np.isnan(judged[:, 0])
    agrees = judged[~skipped].argmax(axis=1) == codes[~skipped]
    judged[skipped] = np.bincount(codes) / len(codes)
    probabilities = np.zeros((rows.height, len(labels)))
    probabilities[:, present] = judged
    return probabilities, {
        "folds": len(folds),
        "rows_not_judged_by_model": int(skipped.sum()),
        "model_agrees_with_consensus": float(agrees.mean()),
    }


def crowd_opinion(
    records: pl.DataFrame, ratings: pl.DataFrame, features_of: FeaturesOf, params: CrowdlabParams, seed: int
) -> CrowdOpinion:
    """Run CROWDLAB on the rated rows; where that cannot be done, nothing comes back but the reason.

    The reference label grades and does nothing else.
    """
    labels = ratings["label"].unique().sort()
    if len(labels) < 2:
        return CrowdOpinion.nothing("CROWDLAB was not run: all ratings give the same label")
    chosen, messages = choose_ratings(ratings, params)
    if not chosen["id"].is_duplicated().any():
        return CrowdOpinion.nothing(*messages, "CROWDLAB was not run: no row has ratings from two of these annotators")
    rows = records.join(chosen, on="id", how="semi").sort("id")
    judged = judge_rows(rows, labels, features_of, params, seed)
    if judged is None:
        return CrowdOpinion.nothing(
            *messages, "CROWDLAB was not run: too few rows of two labels to fit a model on some and try it on others"
        )

    given = chosen["label"].replace_strict(labels, range(len(labels)), return_dtype=pl.Int64).to_numpy()
    annotators = chosen["annotator"].unique().sort()
    numbers = number_values(chosen["id"]), number_values(chosen["annotator"])
    probabilities, of_model = judged
    code, row_quality, annotator_quality, weight = crowdlab(*numbers, given, without_ties(probabilities, given))
    label = labels.gather(code)
    table = pl.DataFrame({"id": rows["id"], "crowdlab_label": label, "crowdlab_quality": row_quality})
    quality = pl.DataFrame({"annotator": annotators, "crowdlab_quality": annotator_quality})
    shares = rows.select(
        agrees_with_consensus=(pl.lit(label) == pl.col("consensus_label")).mean(),
        agrees_with_reference=(pl.lit(label) == pl.col("reference_label")).mean(),
    ).row(0, named=True)
    metrics = {
        "rows": rows.height,
        "ratings": chosen.height,
        "annotators": len(annotators),
        "annotators_left_out": ratings["annotator"].n_unique() - len(annotators),
        **of_model,
        "model_weight": weight,
        "mean_quality": float(row_quality.mean()),
        **{name: share for name, share in shares.items() if share is not None},
    }
    return CrowdOpinion(
        table.match_to_schema(CROWDLAB_SCHEMA),
        quality.with_columns(pl.col("crowdlab_quality").fill_nan(None)).match_to_schema(ANNOTATOR_SCHEMA),
        metrics,
        tuple(messages),
    )
