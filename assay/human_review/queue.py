"""Which rows a person should look at first: lists of suspicious rows, fused by reciprocal rank."""

import json

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.embeddings.nearest import Neighbours

RANK_CONSTANT = 60
"""Of reciprocal rank fusion, as its authors have it."""
VOTES_SHOWN = 4
"""Labels that are named with the number of annotators who gave them."""


def show_percent(share: float) -> str:
    """A probability in words; what is not certain is not shown as certain."""
    if 0 < share < 0.005:
        return "<1%"
    if 0.995 <= share < 1:
        return ">99%"
    return f"{share:.0%}"


def show_label(label: str, share: float | None = None) -> str:
    """A label in words, with its probability where that is known."""
    return f'"{label}"' if share is None else f'"{label}" {show_percent(share)}'


def list_label_errors(scores: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The label errors of `scores.parquet` of `label_errors` among the rows, worst first, as a list."""
    found = (
        scores.filter("is_label_error", pl.col("label_quality").is_not_null())
        .join(rows.select("id"), on="id", how="semi")
        .sort("label_quality", "id")
    )
    suggested, reasons = [], []
    for row in found.iter_rows(named=True):
        # A row that a person relabelled since would have another label here.
        other = row["suggested_label"] if row["suggested_label"] != row["label"] else None
        named = [label for label in (row["label"], other) if label is not None]
        said = [show_label(label, row.get(f"probability_{label}")) for label in named]
        suggested.append(other)
        reasons.append("label error: the model gives " + " and ".join(said))
    return build_list(found["id"], suggested, reasons)


def list_mistakes(
    validation: pl.DataFrame, probabilities: NDArray[np.float64], labels: list[str], min_confidence: float, model: str
) -> pl.DataFrame:
    """Confident mistakes: what the model is sure of and the label denies, the surest first, as a list.

    `validation` has `id` and `label` of `n` rows; the probabilities have shape `(n, k)`, the columns as `labels`.
    """
    of_label = [
        float(row[labels.index(label)]) if label in labels else None
        for row, label in zip(probabilities, validation["label"], strict=True)
    ]
    found = (
        validation.select("id", "label")
        .with_columns(
            predicted=pl.Series([labels[column] for column in probabilities.argmax(axis=1)], dtype=pl.String),
            confidence=pl.Series(probabilities.max(axis=1)),
            of_label=pl.Series(of_label, dtype=pl.Float64),
        )
        .filter(pl.col("predicted") != pl.col("label"), pl.col("confidence") >= min_confidence)
        .sort(pl.col("confidence").neg(), "id")
    )
    reasons = [
        f"confident mistake on validation: {model} gives {show_label(predicted, sure)} and {show_label(label, rest)}"
        for predicted, sure, label, rest in found.select("predicted", "confidence", "label", "of_label").iter_rows()
    ]
    return build_list(found["id"], found["predicted"].to_list(), reasons)


def list_unlabelled(
    pool: pl.DataFrame, probabilities: NDArray[np.float64], labels: list[str], model: str
) -> pl.DataFrame:
    """Rows that wait for a label, as a list, by ActiveLab (Goh & Mueller 2023, https://arxiv.org/abs/2301.11856).

    `pool` has `id` of `n` rows; the probabilities have shape `(n, k)`, the columns as `labels`. With at most one label
    a row, the score is the mean of the highest probability and 1/k: those that the model is least sure of come first.
    """
    # Imported here: it takes seconds, and few projects have such rows.
    from cleanlab.multiannotator import get_active_learning_scores

    _, scores = get_active_learning_scores(pred_probs_unlabeled=probabilities)
    suggested = [labels[column] for column in probabilities.argmax(axis=1)]
    found = pool.select("id", suggested=pl.Series(suggested), sure=probabilities.max(axis=1), score=scores)
    found = found.sort("score", "id")
    reasons = [f"no label yet: {model} gives {show_label(*of)}" for of in found.select("suggested", "sure").rows()]
    return build_list(found["id"], found["suggested"].to_list(), reasons)


def list_disagreements(disagreement: pl.DataFrame, ratings: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Those of the rows whose annotators disagree, most disputed first, as a list.

    What most say is suggested, but not where two labels tie or it is the row's own.
    """
    found = (
        disagreement.select("id", "disagreement")
        .filter(pl.col("disagreement") > 0)
        .join(rows.select("id", "label"), on="id", how="inner")
        .sort(pl.col("disagreement").neg(), "id")
    )
    cast = ratings.drop_nulls("label").join(found, on="id", how="semi").rename({"id": "key"})
    return list_by_votes(found.with_columns(key="id"), cast, "annotators disagree")


def list_conflicts(rows: pl.DataFrame) -> pl.DataFrame:
    """Those of the rows that say the same as others with another label, the largest groups first, as a list.

    They have the same `near_duplicate_group` and `marks`. The label that most of them have is suggested.
    """
    keyed = rows.drop_nulls("label").with_columns(key=pl.format("{} {}", "near_duplicate_group", "marks"))
    found = keyed.filter(pl.col("label").n_unique().over("key") > 1)
    ordered = found.sort(-pl.len().over("key").cast(pl.Int64), "key", "id")
    return list_by_votes(ordered, found, "near-duplicates have other labels")


def list_by_votes(found: pl.DataFrame, cast: pl.DataFrame, reason: str) -> pl.DataFrame:
    """The rows of `found` as a list, by the labels (`label`) that `cast` has for their `key`.

    The most frequent one is suggested, if no other ties and it is not the row's own.
    """
    votes: dict[str, list[tuple[str, int]]] = {}
    counted = cast.group_by("key", "label").len("votes").sort("votes", "label", descending=[True, False])
    for key, label, count in counted.iter_rows():
        votes.setdefault(key, []).append((label, count))
    suggested, reasons = [], []
    for key, label in found.select("key", "label").iter_rows():
        of_row = votes.get(key, [])
        leads = len(of_row) == 1 or (len(of_row) > 1 and of_row[0][1] > of_row[1][1])
        suggested.append(of_row[0][0] if leads and of_row[0][0] != label else None)
        shown = [f"{count} {one}" for one, count in of_row[:VOTES_SHOWN]]
        more = sum(count for _, count in of_row[VOTES_SHOWN:])
        reasons.append(f"{reason}: " + ", ".join([*shown, *([f"{more} others"] if more else [])]))
    return build_list(found["id"], suggested, reasons)


def build_list(ids: pl.Series, suggested: list[str | None], reasons: list[str]) -> pl.DataFrame:
    """One of the lists to be fused: `id`, `suggested_label`, `reason` in words."""
    schema = dict.fromkeys(("id", "suggested_label", "reason"), pl.String)
    return pl.DataFrame({"id": ids, "suggested_label": suggested, "reason": reasons}, schema)


def fuse_lists(lists: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The rows of all lists by reciprocal rank, best first; an earlier list wins a tie. `kinds` are their names."""
    place = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    ranked = pl.concat(one.with_columns(kind=pl.lit(kind), place=place) for kind, one in lists.items())
    return (
        ranked.with_row_index("order")
        .sort("place", "order")
        .group_by("id", maintain_order=True)
        .agg(
            score=(1 / (RANK_CONSTANT + pl.col("place"))).sum(),
            suggested_label=pl.col("suggested_label").drop_nulls().first(),
            reasons=pl.col("reason").str.join("; "),
            kinds="kind",
        )
        # The sort keeps the order of place and list among equals.
        .sort(pl.col("score").neg(), maintain_order=True)
    )


def write_neighbours(neighbours: Neighbours, train: pl.DataFrame) -> list[str]:
    """The neighbours of each row of the queue, which are rows of `train`, as JSON."""
    rows = train.select("id", "label", "text").rows(named=True)
    written = []
    for places, cosines in zip(neighbours.row.tolist(), neighbours.cosine.tolist(), strict=True):
        found = [(rows[place], cosine) for place, cosine in zip(places, cosines, strict=True) if np.isfinite(cosine)]
        shown = [row | {"cosine": round(float(cosine), 3)} for row, cosine in found]
        written.append(json.dumps(shown, ensure_ascii=False))
    return written
