"""What is done about label errors, the table of their scores, and how well the scores find known errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from assay.core.removed_rows import REMOVED_SCHEMA, none_removed, remove
from assay.label_errors.detector import WITHOUT_EVIDENCE, Detection, Detector, Rows
from assay.probes import Floats, number_values
from assay.statistics.detection import estimate_average_precision, grade_random, grade_score, precision_recall_points
from assay.statistics.metrics_dict import interval_metrics

ROWS_KEPT_PER_LABEL = 3
"""Removing rows stops at this many of a label (all, where there are fewer), so that no label dies out."""

Action = Literal["keep", "drop", "relabel", "weight", "review"]


class LabelErrorsParams(Detector):
    """The `label_errors` section of `params.yaml`."""

    evidence: str | None
    action: Action
    min_relabel_probability: float = Field(gt=0, le=1)


@dataclass(frozen=True)
class Acted:
    """The rows that train, and what was done to the others, in the form of `removed.parquet`."""

    train: pl.DataFrame
    removed: pl.DataFrame
    changed: pl.DataFrame


def build_rows(train: pl.DataFrame, features: NDArray[np.float32], evidence: str | None) -> Rows:
    """What the detector sees of train rows with features `(n, d)`; no evidence where they have no such column."""
    codes = np.full(train.height, -1)
    if evidence is not None and evidence in train.columns:
        values = train[evidence]
        codes = number_values(values.cast(pl.Float64).fill_nan(None) if values.dtype.is_float() else values)
    labels, groups = number_values(train["label"]), number_values(train["split_group"])
    return Rows(train["text"].to_list(), features, labels, groups, codes)


def build_score_table(train: pl.DataFrame, names: list[str], detection: Detection) -> pl.DataFrame:
    """Every train row with its scores, the table of `scores.parquet`."""
    known = ~np.isnan(detection.quality)
    suggested = np.where(known, np.nan_to_num(detection.probabilities).argmax(axis=1), -1)
    reviewed = train["reviewed"] if "reviewed" in train.columns else pl.Series("reviewed", [False] * train.height)
    return train.select(
        "id",
        "label",
        pl.Series("suggested_label", [names[i] if i >= 0 else None for i in suggested.tolist()], dtype=pl.String),
        pl.Series("label_quality", detection.quality),
        pl.Series("is_label_error", detection.is_label_error) & ~reviewed,
        reviewed,
        *(pl.Series(name, score) for name, score in detection.scores.items()),
        *(pl.Series(f"probability_{name}", detection.probabilities[:, i]) for i, name in enumerate(names)),
    ).with_columns(pl.col(pl.Float64).fill_nan(None))


def apply_action(train: pl.DataFrame, scores: pl.DataFrame, action: Action, min_relabel_probability: float) -> Acted:
    """Do to the label errors what `action` names.

    - `keep` and `review`: nothing; with `review` they are in the queue of rows for people, with `keep` they are not;
    - `drop`: they are removed, but for the best of a label that would be left with too few rows;
    - `relabel`: those whose suggested label has at least `min_relabel_probability` get it;
    - `weight`: every row counts in training as much as its label is likely beside the likeliest other one
      (`pairwise_confidence`), in the mean 1.

    The `scores` are those of `build_score_table`, in the order of the rows.
    """
    rows = train.with_columns(scores["label_quality"], label_weight=pl.lit(1.0))
    nothing = none_removed()
    if action == "weight":
        weight = scores["pairwise_confidence"].fill_null(1.0)
        weight = pl.select(pl.when(scores["reviewed"]).then(1.0).otherwise(weight)).to_series()
        return Acted(rows.with_columns(label_weight=weight / weight.mean()), nothing, nothing)
    if action == "drop":
        gone = scores.filter(_with_room(scores, pl.col("is_label_error")))
        dropped = remove(rows, train.join(gone, on="id", how="semi", maintain_order="left"), "label_error")
        return Acted(dropped.kept, dropped.removed, nothing)
    if action == "relabel":
        columns = [name for name in scores.columns if name.startswith("probability_")]
        sure = pl.max_horizontal(columns) >= min_relabel_probability
        wrong = pl.col("is_label_error") & sure & (pl.col("label") != pl.col("suggested_label"))
        changed = scores.filter(_with_room(scores, wrong)).select(
            "id", pl.lit("label_error").alias("rule"), before="label", after="suggested_label"
        )
        joined = rows.join(changed.select("id", "after"), on="id", how="left", maintain_order="left")
        relabelled = joined.with_columns(label=pl.coalesce("after", "label")).drop("after")
        return Acted(relabelled, nothing, changed.match_to_schema(REMOVED_SCHEMA))
    return Acted(rows, nothing, nothing)


def _with_room(scores: pl.DataFrame, chosen: pl.Expr) -> pl.Series:
    """Of the chosen rows, the worst of each label, as many as leave it `ROWS_KEPT_PER_LABEL`; shape `(n,)`."""
    room = (pl.len().over("label").cast(pl.Int64) - ROWS_KEPT_PER_LABEL).clip(lower_bound=0)
    marked = scores.select("id", "label", "label_quality", chosen=chosen.fill_null(value=False), room=room)
    ordered = marked.filter("chosen").sort("label_quality", "id")
    worst = ordered.filter(pl.int_range(pl.len()).over("label") < pl.col("room"))
    return marked["id"].is_in(worst["id"].implode())


def gradable_rows(train: pl.DataFrame, scores: pl.DataFrame, baselines: Mapping[str, Floats]) -> pl.DataFrame:
    """The scores of the rows that have some and a reference label, with baselines, `source`, `group`, `is_wrong`."""
    return scores.with_columns(
        train["source"],
        pl.Series("group", number_values(train["split_group"])),
        *(pl.Series(name, values) for name, values in baselines.items()),
        is_wrong=train["label"] != train["reference_label"],
    ).filter(pl.col("is_wrong").is_not_null() & pl.col("label_quality").is_not_null())


def grade_scores(
    rows: pl.DataFrame, names: list[str], baselines: Sequence[str], random: np.random.Generator
) -> dict[str, object]:
    """How well each score finds the wrong ones of `gradable_rows`; nothing where there is none.

    The score of the detector by texts alone, and with evidence, is set against the baseline that knows as much.
    """
    if rows.is_empty():
        return {}
    is_wrong, flagged = rows["is_wrong"].to_numpy(), rows["is_label_error"].to_numpy()
    found: dict[str, object] = {"rows": rows.height, "noise_rate": float(is_wrong.mean())}
    if flagged.any():
        found["precision"] = float(is_wrong[flagged].mean())
    if is_wrong.any():
        found["recall"] = float(flagged[is_wrong].mean())
    grades = {name: grade_score(is_wrong, rows[name].to_numpy()) for name in (*names, *baselines)}
    text_only = WITHOUT_EVIDENCE if WITHOUT_EVIDENCE in names else "label_quality"
    pairs = [(text_only, "label_error_rate"), ("label_quality", "evidence_error_rate")]
    pairs = [(one, other) for one, other in pairs if other in baselines]
    compared = {name: rows[name].to_numpy() for name in dict.fromkeys((text_only, "label_quality", *baselines))}
    estimates = estimate_average_precision(is_wrong, compared, pairs, rows["group"].to_numpy(), random)
    intervals = {name: interval_metrics("average_precision", one) for name, one in estimates.items()}
    if is_wrong.any():
        found |= {name: grades[name] | intervals.get(name, {}) for name in names}
        found["baselines"] = {"random": grade_random(is_wrong)} | {
            name: grades[name] | intervals[name] for name in baselines
        }
        found["differences"] = {f"{one}_minus_{other}": intervals[f"{one}_minus_{other}"] for one, other in pairs}
    per_source: dict[str, object] = {}
    for (source,), part in sorted(rows.partition_by("source", as_dict=True).items()):
        is_wrong = part["is_wrong"].to_numpy()
        graded = grade_score(is_wrong, part["label_quality"].to_numpy())
        per_source[str(source)] = {"rows": part.height, "noise_rate": float(is_wrong.mean()), **graded}
    return found | {"per_source": per_source}


def trace_curves(rows: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Precision over recall of each score, for a plot: `score`, `recall`, `precision`; arguments as `grade_scores`."""
    is_wrong = rows["is_wrong"].to_numpy()
    points = {name: precision_recall_points(is_wrong, rows[name].to_numpy()) for name in names}
    columns = pl.col("recall", "precision").round(6)
    return pl.concat(of_one.select(pl.lit(name).alias("score"), columns) for name, of_one in points.items())
