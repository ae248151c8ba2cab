"""Which train rows have a label that the rest of the train rows speak against.

Decides: the train rows to drop. Looks at train rows only; the reference labels grade the detector and nothing else.

Reads `data/split/train.parquet` and `data/embeddings/embeddings.parquet`; writes `data/label_errors/train.parquet` (the
rows kept + `label_quality`), `data/label_errors/scores.parquet` (every train row: `id`, `label`, `suggested_label`,
`label_quality`, `is_label_error` and `probability_<label>` for each label) and `data/label_errors/removed.parquet`.

Confident learning (Northcutt, Jiang & Chuang 2021, https://doi.org/10.1613/jair.1.12125), as Cleanlab has it:

1. Each row gets the probability of every label from a logistic regression that was not fitted on the row's fold. Rows
   of a semantic group are in one fold. The embeddings are standardised by the rows that the fold is fitted on.
2. `label_quality` is the probability of the given label (self-confidence).
3. Cleanlab finds the label errors (`filter_by`); those above `max_label_quality` are let off. Cleanlab finds as many as
   it takes the noise to be, and where most of the noise lies between neighbouring labels, as with human raters, many of
   the rows it adds last are right. The cap gives up recall for rows.

What is not judged: a label whose rows are all in one fold is unknown to the model that should judge them; their
probability would be 0 and all would look wrong. These rows are kept, with null scores (`rows_not_judged`). With a label
of few rows there may be fewer folds than asked for: no more than the most groups that a label has.
"""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.lib.artifacts import REMOVED_SCHEMA, output_folder, write_json, write_parquet
from stages.lib.embedding_table import EMBEDDINGS, embeddings_of
from stages.lib.errors import InputError, run_stage
from stages.lib.params import Params, load_params
from stages.lib.randomness import derived_seed

TRAIN = Path("data/split/train.parquet")
OUTPUT = Path("data/label_errors")
METRICS = Path("metrics/label_errors.json")

ROWS_KEPT_PER_LABEL = 3
"""Dropping stops at this many rows of a label (all, where there are fewer), so that no label dies out."""

MAX_ITERATIONS = 2000
"""Of the logistic regression; it converges in tens to hundreds."""

FilterBy = Literal[
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
]


class LabelErrorsParams(Params):
    """The `label_errors` section of `params.yaml`."""

    folds: int = Field(ge=2, le=100)
    l2_strength: float = Field(gt=0)
    filter_by: FilterBy
    max_label_quality: float = Field(gt=0, le=1)
    action: Literal["drop", "keep"]


@dataclass(frozen=True)
class OutOfFold:
    """Probabilities from models that did not see the row, and the number of folds.

    `probabilities` has shape `(n, k)`; a row that no model could judge is all NaN.
    """

    probabilities: NDArray[np.float64]
    folds: int


@dataclass(frozen=True)
class Findings:
    """What Cleanlab says of each row, shape `(n,)` each; the qualities are NaN where a row was not judged."""

    is_label_error: NDArray[np.bool_]
    self_confidence: NDArray[np.float64]
    normalized_margin: NDArray[np.float64]


def out_of_fold_probabilities(
    embeddings: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    folds: int,
    l2_strength: float,
    seed: int,
) -> OutOfFold:
    """Probability of every label for each row, by a logistic regression fitted on the other folds.

    Args:
        embeddings: shape `(n, d)`.
        labels: label of each row, from 0 to `k - 1`, shape `(n,)`.
        groups: rows of one group are in one fold, shape `(n,)`.
        folds: number of folds; fewer where no label has as many groups.
        l2_strength: `C` of the logistic regression: the larger, the weaker the penalty.
        seed: of the shuffle that deals out the folds.
    """
    classes = int(labels.max()) + 1
    probabilities = np.full((len(labels), classes), np.nan)
    groups_of_label = np.bincount(np.unique(np.stack([labels, groups]), axis=1)[0])
    folds = min(folds, int(groups_of_label.max()))
    if folds < 2:
        return OutOfFold(probabilities, 0)

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # A label with fewer rows than folds is looked after below.
        warnings.filterwarnings("ignore", message="The least populated class in y")
        parts = list(splitter.split(embeddings, labels, groups))
    for fitted, held_out in parts:
        known = np.unique(labels[fitted])
        if len(known) < 2:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=l2_strength, max_iter=MAX_ITERATIONS))
        model.fit(embeddings[fitted], labels[fitted])
        judged = held_out[np.isin(labels[held_out], known)]
        if len(judged):
            probabilities[judged] = 0
            probabilities[np.ix_(judged, known)] = model.predict_proba(embeddings[judged])
    return OutOfFold(probabilities, folds)


def find_label_errors(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], filter_by: FilterBy, max_label_quality: float
) -> Findings:
    """Cleanlab's label errors and quality scores among the rows that were judged.

    Args:
        labels: label of each row, shape `(n,)`.
        probabilities: out of fold, all NaN for a row that was not judged, shape `(n, k)`.
        filter_by: Cleanlab's way to find the errors.
        max_label_quality: a row whose label the model gives a higher probability is no error.
    """
    judged = ~np.isnan(probabilities[:, 0])
    is_error = np.zeros(len(labels), dtype=np.bool_)
    confidence = np.full(len(labels), np.nan)
    margin = np.full(len(labels), np.nan)
    # Cleanlab wants every label to occur: one with no judged row leaves, and the others sum to 1 again.
    present, codes = np.unique(labels[judged], return_inverse=True)
    if len(present) < 2:
        return Findings(is_error, confidence, margin)
    shares = probabilities[judged][:, present]
    shares = shares / shares.sum(axis=1, keepdims=True)
    confidence[judged] = get_label_quality_scores(codes, shares, method="self_confidence")
    margin[judged] = get_label_quality_scores(codes, shares, method="normalized_margin")
    found = find_label_issues(codes, shares, filter_by=filter_by, n_jobs=1)
    is_error[judged] = found & (confidence[judged] <= max_label_quality)
    return Findings(is_error, confidence, margin)


def score_table(train: pl.DataFrame, names: list[str], out_of_fold: OutOfFold, findings: Findings) -> pl.DataFrame:
    """Every train row with its scores, the table of `scores.parquet`."""
    probabilities = out_of_fold.probabilities
    judged = ~np.isnan(probabilities[:, 0])
    suggested = np.where(judged, np.nan_to_num(probabilities).argmax(axis=1), -1)
    columns = [pl.Series(f"probability_{name}", probabilities[:, i]) for i, name in enumerate(names)]
    return train.select(
        "id",
        "label",
        pl.Series("suggested_label", [names[i] if i >= 0 else None for i in suggested.tolist()], dtype=pl.String),
        pl.Series("label_quality", findings.self_confidence),
        pl.Series("is_label_error", findings.is_label_error),
        *columns,
    ).with_columns(pl.col(pl.Float64).fill_nan(None))


def rows_to_drop(scores: pl.DataFrame, rows_kept_per_label: int) -> pl.DataFrame:
    """The ids of the label errors, but for the best of a label that would be left with too few rows."""
    room = (pl.len().over("label").cast(pl.Int64) - rows_kept_per_label).clip(lower_bound=0)
    return (
        scores.with_columns(room.alias("room"))
        .filter("is_label_error")
        .sort("label_quality", "id")
        .filter(pl.int_range(pl.len()).over("label") < pl.col("room"))
        .select("id")
    )


def grade(
    is_wrong: NDArray[np.bool_], is_label_error: NDArray[np.bool_], findings: dict[str, NDArray[np.float64]]
) -> dict[str, float]:
    """How well the detector finds the rows that are known to be wrong; a figure that is undefined has no key.

    Args:
        is_wrong: the given label is not the reference label, shape `(m,)`.
        is_label_error: found by the detector, shape `(m,)`.
        findings: quality scores by name, shape `(m,)` each; low speaks for an error.
    """
    if len(is_wrong) == 0:
        return {}
    hits = int((is_wrong & is_label_error).sum())
    grades = {"noise_rate": float(is_wrong.mean())}
    if is_label_error.any():
        grades["precision"] = hits / int(is_label_error.sum())
    if is_wrong.any():
        grades["recall"] = hits / int(is_wrong.sum())
        for name, quality in findings.items():
            grades[f"average_precision_{name}"] = float(average_precision_score(is_wrong, -quality))
            if not is_wrong.all():
                grades[f"auroc_{name}"] = float(roc_auc_score(is_wrong, -quality))
    return grades


def main() -> None:
    """Find label errors among the train rows, and drop them where params say so."""
    params = load_params("label_errors", LabelErrorsParams)
    seed = load_params("seed", int)
    train = pl.read_parquet(TRAIN)
    if train["label"].n_unique() < 2:
        raise InputError(f"{TRAIN}: {train.height} rows of fewer than two labels; run `split` again")
    embeddings = embeddings_of(train["id"], pl.read_parquet(EMBEDDINGS), TRAIN).astype(np.float64)
    names = train["label"].unique().sort().to_list()
    labels = (train["label"].rank("dense").cast(pl.Int64) - 1).to_numpy()
    groups = (train["semantic_group"].rank("dense").cast(pl.Int64) - 1).to_numpy()

    # Several threads add up in another order, and the last bits of the scores would depend on the machine.
    with threadpool_limits(limits=1):
        out_of_fold = out_of_fold_probabilities(
            embeddings, labels, groups, params.folds, params.l2_strength, derived_seed(seed, "label_errors")
        )
        findings = find_label_errors(labels, out_of_fold.probabilities, params.filter_by, params.max_label_quality)
    scores = score_table(train, names, out_of_fold, findings)
    dropped = rows_to_drop(scores, ROWS_KEPT_PER_LABEL) if params.action == "drop" else scores.clear().select("id")
    kept = train.with_columns(scores["label_quality"]).join(dropped, on="id", how="anti", maintain_order="left")
    removed = train.join(dropped, on="id", how="semi", maintain_order="left").select(
        "id",
        pl.lit("label_error").alias("rule"),
        pl.col("text").alias("before"),
        pl.lit(None, pl.String).alias("after"),
    )

    judged = ~np.isnan(findings.self_confidence)
    graded = judged & train["reference_label"].is_not_null().to_numpy()
    is_wrong = (train["label"] != train["reference_label"]).fill_null(value=False).to_numpy()
    flagged = int(findings.is_label_error.sum())
    metrics: dict[str, object] = {
        "rows_in": train.height,
        "rows_out": kept.height,
        "removed": {"label_error": removed.height},
        "folds": out_of_fold.folds,
        "rows_not_judged": int((~judged).sum()),
        "label_errors": flagged,
        "label_errors_share": flagged / train.height,
        "label_errors_kept": flagged - removed.height,
        "per_label": {
            str(label): {"rows": part.height, "label_errors": int(part["is_label_error"].sum())}
            for (label,), part in sorted(scores.partition_by("label", as_dict=True).items())
        },
    }
    if judged.any():
        shares = out_of_fold.probabilities[judged]
        metrics["out_of_fold_accuracy"] = float((shares.argmax(axis=1) == labels[judged]).mean())
        metrics["out_of_fold_log_loss"] = float(log_loss(labels[judged], shares, labels=np.arange(len(names))))
    metrics |= grade(
        is_wrong[graded],
        findings.is_label_error[graded],
        {
            "self_confidence": findings.self_confidence[graded],
            "normalized_margin": findings.normalized_margin[graded],
        },
    )
    reference = kept.filter(pl.col("reference_label").is_not_null())
    if reference.height:
        metrics["noise_rate_of_kept_rows"] = (reference["label"] != reference["reference_label"]).mean()
    if not judged.all():
        print(
            f"label_errors: {int((~judged).sum())} row(s) were not judged: their label has rows in one fold only",
            file=sys.stderr,
        )

    with output_folder(OUTPUT) as folder:
        write_parquet(kept, folder / "train.parquet")
        write_parquet(scores, folder / "scores.parquet")
        write_parquet(removed.match_to_schema(REMOVED_SCHEMA), folder / "removed.parquet")
    write_json(METRICS, metrics)


if __name__ == "__main__":
    run_stage(main)
