"""Which train rows have a label that the rest of the train rows speak against, and what is done about them.

Decides: what happens to those rows (`action`). Looks at train rows only; the reference labels grade the detector and
nothing else.

Reads `data/split/train.parquet` and `data/embeddings/`; writes to `data/label_errors/`:

- `train.parquet`: the rows kept, with `label_quality` and `label_weight` (how much a row counts in training);
- `scores.parquet`: every train row with `label`, `suggested_label`, `label_quality`, `is_label_error`, `reviewed`,
  every score by name, and `probability_<label>` for each label;
- `data_issues.parquet`: outliers, near-duplicates, imbalance and weak groups, as Cleanlab's Datalab sees them;
- `removed.parquet` and `changed.parquet`.

How it goes (docs/label_errors.md says what each step is worth):

1. Each row is judged by models that were not fitted on it: fine-tuned encoders, classifiers on the frozen states of the
   encoder's last layers, words, neighbours. Rows of a semantic group are in one fold. Their probabilities are averaged
   and calibrated by the given labels.
2. What is known beside the text is taken into account by Bayes' rule: where labels are the bins of ratings, a +1 is
   wrong more often than a +4 (`evidence`).
3. `label_quality` is the score that params name, such as the probability of the given label or a rank. Cleanlab finds
   the label errors (`filter_by`; Northcutt, Jiang & Chuang 2021, https://doi.org/10.1613/jair.1.12125); those above
   `max_label_quality` are let off, since Cleanlab finds as many as it takes the noise to be, and many of those it adds
   last are right.
4. A row that a person has reviewed is no label error, whatever the models say.

What is not judged: a label whose rows are all in one fold is unknown to the model that should judge them; their
probability would be 0 and all would look wrong. These rows are kept, with null scores (`rows_not_judged`). With a label
of few rows there may be fewer folds than asked for: no more than the most groups that a label has.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.compute.device import Compute, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json, write_parquet, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.embeddings.table import EMBEDDINGS, LAYERS, embeddings_of
from assay.label_errors.data_issues import data_issues
from assay.label_errors.detector import Detection, Detector, Rows, detect, numbered
from assay.statistics.detection import grades, precision_recall_points

TRAIN = Path("data/split/train.parquet")
OUTPUT = Path("data/label_errors")
METRICS = Path("metrics/label_errors.json")
CURVES = Path("metrics/plots/label_errors/precision_recall.csv")

ROWS_KEPT_PER_LABEL = 3
"""Taking rows out stops at this many of a label (all, where there are fewer), so that no label dies out."""


class LabelErrorsParams(Detector):
    """The `label_errors` section of `params.yaml`."""

    evidence: str | None
    action: Literal["keep", "drop", "relabel", "weight", "review"]
    min_relabel_probability: float = Field(gt=0, le=1)


@dataclass(frozen=True)
class Acted:
    """The rows that train, and what was done to the others, in the form of `removed.parquet`."""

    train: pl.DataFrame
    removed: pl.DataFrame
    changed: pl.DataFrame


def label_names(train: pl.DataFrame) -> list[str]:
    """The labels in the order of their numbers."""
    names: list[str] = train["label"].unique().sort().to_list()
    return names


def evidence_codes(train: pl.DataFrame, column: str | None) -> NDArray[np.int64]:
    """What is known beside the text of each row's label, as codes; -1 everywhere where there is no such column."""
    if column is None or column not in train.columns:
        return np.full(train.height, -1)
    return numbered(train[column].cast(pl.Float64).fill_nan(None) if train[column].dtype.is_float() else train[column])


def rows_to_judge(train: pl.DataFrame, evidence: str | None) -> Rows:
    """What the detector sees of the train rows.

    Raises:
        InputError: a row has no embedding.
    """
    return Rows(
        texts=train["text"].to_list(),
        features=embeddings_of(train["id"], pl.read_parquet(LAYERS), TRAIN),
        labels=numbered(train["label"]),
        groups=numbered(train["semantic_group"]),
        evidence=evidence_codes(train, evidence),
    )


def score_table(train: pl.DataFrame, names: list[str], detection: Detection) -> pl.DataFrame:
    """Every train row with its scores, the table of `scores.parquet`."""
    judged = ~np.isnan(detection.quality)
    suggested = np.where(judged, np.nan_to_num(detection.probabilities).argmax(axis=1), -1)
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


def acted_on(
    train: pl.DataFrame, scores: pl.DataFrame, action: str, min_relabel_probability: float, rows_kept_per_label: int
) -> Acted:
    """Do to the label errors what `action` says.

    - `keep` and `review`: nothing; with `review` they are in the queue of rows for people, with `keep` they are not;
    - `drop`: they leave, but for the best of a label that would be left with too few rows;
    - `relabel`: those whose suggested label has at least `min_relabel_probability` get it;
    - `weight`: every row counts in training as much as its label is likely beside the likeliest other one
      (`pairwise_confidence`), in the mean 1.

    Args:
        train: the train rows.
        scores: as `score_table` gives them, the same rows in the same order.
        action: what to do.
        min_relabel_probability: for `relabel`.
        rows_kept_per_label: for `drop` and `relabel`.
    """
    rows = train.with_columns(scores["label_quality"], label_weight=pl.lit(1.0))
    nothing = pl.DataFrame(schema=REMOVED_SCHEMA)
    if action == "weight":
        weight = scores["pairwise_confidence"].fill_null(1.0)
        weight = pl.select(pl.when(scores["reviewed"]).then(1.0).otherwise(weight)).to_series()
        return Acted(rows.with_columns(label_weight=weight / weight.mean()), nothing, nothing)
    if action == "drop":
        gone = scores.filter(_with_room(scores, pl.col("is_label_error"), rows_kept_per_label))
        removed = train.join(gone, on="id", how="semi", maintain_order="left").select(
            "id",
            pl.lit("label_error").alias("rule"),
            pl.col("text").alias("before"),
            pl.lit(None, pl.String).alias("after"),
        )
        return Acted(rows.join(gone, on="id", how="anti", maintain_order="left"), removed, nothing)
    if action == "relabel":
        columns = [name for name in scores.columns if name.startswith("probability_")]
        sure = pl.max_horizontal(columns) >= min_relabel_probability
        wrong = pl.col("is_label_error") & sure & (pl.col("label") != pl.col("suggested_label"))
        changed = scores.filter(_with_room(scores, wrong, rows_kept_per_label)).select(
            "id", pl.lit("label_error").alias("rule"), before="label", after="suggested_label"
        )
        new = changed.select("id", new_label="after")
        relabelled = rows.join(new, on="id", how="left", maintain_order="left").with_columns(
            label=pl.coalesce("new_label", "label")
        )
        return Acted(relabelled.drop("new_label"), nothing, changed)
    return Acted(rows, nothing, nothing)


def _with_room(scores: pl.DataFrame, chosen: pl.Expr, rows_kept_per_label: int) -> pl.Series:
    """Of the chosen rows, the worst of each label, as many as leave it `rows_kept_per_label`; shape `(n,)`."""
    room = (pl.len().over("label").cast(pl.Int64) - rows_kept_per_label).clip(lower_bound=0)
    marked = scores.select("id", "label", "label_quality", chosen=chosen.fill_null(value=False), room=room)
    worst = (
        marked.filter("chosen")
        .sort("label_quality", "id")
        .filter(pl.int_range(pl.len()).over("label") < pl.col("room"))
    )
    return marked["id"].is_in(worst["id"].implode())


def graded(train: pl.DataFrame, scores: pl.DataFrame, names: list[str]) -> dict[str, object]:
    """How well each score finds the rows whose label is not the reference label; nothing where there is no reference.

    Args:
        train: the train rows.
        scores: as `score_table` gives them, the same rows in the same order.
        names: of the scores to grade.
    """
    rows = _gradable(train, scores)
    if rows.is_empty():
        return {}
    is_wrong, flagged = rows["is_wrong"].to_numpy(), rows["is_label_error"].to_numpy()
    found: dict[str, object] = {"rows": rows.height, "noise_rate": float(is_wrong.mean())}
    if flagged.any():
        found["precision"] = float(is_wrong[flagged].mean())
    if is_wrong.any():
        found["recall"] = float(flagged[is_wrong].mean())
    found |= {name: grades(is_wrong, rows[name].to_numpy()) for name in names}
    per_source: dict[str, object] = {}
    for (source,), part in sorted(rows.partition_by("source", as_dict=True).items()):
        is_wrong = part["is_wrong"].to_numpy()
        scored = grades(is_wrong, part["label_quality"].to_numpy())
        per_source[str(source)] = {"rows": part.height, "noise_rate": float(is_wrong.mean()), **scored}
    return found | {"per_source": per_source}


def _gradable(train: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """The scores of the rows that were judged and have a reference label, with `source` and `is_wrong`."""
    return scores.with_columns(train["source"], is_wrong=train["label"] != train["reference_label"]).filter(
        pl.col("is_wrong").is_not_null() & pl.col("label_quality").is_not_null()
    )


def curves(train: pl.DataFrame, scores: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Precision over recall of each score, for a plot: `score`, `recall`, `precision`."""
    rows = _gradable(train, scores)
    parts = [
        precision_recall_points(rows["is_wrong"].to_numpy(), rows[name].to_numpy()).select(
            pl.lit(name).alias("score"), pl.col("recall", "precision").round(6)
        )
        for name in names
    ]
    return pl.concat(parts)


def main() -> None:
    """Find label errors among the train rows, and do what params say about them."""
    params = load_params("label_errors", LabelErrorsParams)
    seed = load_params("seed", int)
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()
    train = pl.read_parquet(TRAIN)
    if train["label"].n_unique() < 2:
        raise InputError(f"{TRAIN}: {train.height} rows of fewer than two labels; run `split` again")
    if params.evidence is not None and params.evidence not in train.columns:
        print(
            f"label_errors: {TRAIN} has no column `{params.evidence}` (`label_errors.evidence`): texts alone speak",
            file=sys.stderr,
        )
    names = label_names(train)
    rows = rows_to_judge(train, params.evidence)

    # Several threads add up in another order, and the last bits of the scores would depend on the machine.
    with threadpool_limits(limits=1, user_api="blas"):
        detection = detect(rows, params, device, seed)
        embeddings = embeddings_of(train["id"], pl.read_parquet(EMBEDDINGS), TRAIN)
        issues = data_issues(rows.labels, detection.probabilities, embeddings, device.device)
    scores = score_table(train, names, detection)
    acted = acted_on(train, scores, params.action, params.min_relabel_probability, ROWS_KEPT_PER_LABEL)

    judged = scores["label_quality"].is_not_null().to_numpy()
    flagged = int(scores["is_label_error"].sum())
    metrics: dict[str, object] = {
        "rows_in": train.height,
        "rows_out": acted.train.height,
        "removed": {"label_error": acted.removed.height},
        "relabelled": acted.changed.height,
        "folds": detection.folds,
        "rows_not_judged": int((~judged).sum()),
        "rows_reviewed": int(scores["reviewed"].sum()),
        "label_errors": flagged,
        "label_errors_share": flagged / train.height,
        "per_label": {
            str(label): {"rows": part.height, "label_errors": int(part["is_label_error"].sum())}
            for (label,), part in sorted(scores.partition_by("label", as_dict=True).items())
        },
        "data_issues": issues.counts,
    }
    if judged.any():
        shares = detection.probabilities[judged]
        metrics["out_of_fold_accuracy"] = float((shares.argmax(axis=1) == rows.labels[judged]).mean())
        metrics["out_of_fold_log_loss"] = float(log_loss(rows.labels[judged], shares, labels=np.arange(len(names))))
        metrics["temperature"] = detection.temperature
    graded_scores = ["label_quality", *detection.scores]
    if grade := graded(train, scores, graded_scores):
        metrics["grade"] = grade
    reference = acted.train.filter(pl.col("reference_label").is_not_null())
    if reference.height:
        metrics["noise_rate_of_kept_rows"] = (reference["label"] != reference["reference_label"]).mean()
    if not judged.all():
        print(
            f"label_errors: {int((~judged).sum())} row(s) were not judged: their label has rows in one fold only",
            file=sys.stderr,
        )

    with output_folder(OUTPUT) as folder:
        write_parquet(acted.train, folder / "train.parquet")
        write_parquet(scores, folder / "scores.parquet")
        write_parquet(pl.concat([train.select("id"), issues.table], how="horizontal"), folder / "data_issues.parquet")
        write_parquet(acted.removed.match_to_schema(REMOVED_SCHEMA), folder / "removed.parquet")
        write_parquet(acted.changed.match_to_schema(REMOVED_SCHEMA), folder / "changed.parquet")
    write_text(CURVES, curves(train, scores, graded_scores).write_csv())
    write_json(METRICS, metrics)


if __name__ == "__main__":
    run_stage(main)
