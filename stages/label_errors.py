"""Which train rows have a label that the rest of the train rows speak against, and what is done about them.

Decides: what happens to those rows (`action`). Uses train rows only; the reference labels grade the detector and
nothing else. So do those of validation rows: by them baselines know how often a label is wrong.

Reads `data/split/{train,validation}.parquet` and `data/embeddings/layers.parquet`; writes to `data/label_errors/`:

- `train.parquet`: the rows kept, with `label_quality` and `label_weight` (how much a row counts in training);
- `scores.parquet`: every train row with `label`, `suggested_label`, `label_quality`, `is_label_error`, `reviewed`,
  every score by name, and `probability_<label>` for each label;
- `removed.parquet` and `changed.parquet`.

docs/label_errors.md says how it goes, which rows cannot be judged, and what each step is worth.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.compute.device import Compute, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_tables, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import generator
from assay.embeddings.table import LAYERS, embeddings_of
from assay.label_errors.actions import (
    Acted,
    LabelErrorsParams,
    apply_action,
    build_rows,
    build_score_table,
    gradable_rows,
    grade_scores,
    trace_curves,
)
from assay.label_errors.baselines import score_baselines
from assay.label_errors.detector import WITHOUT_EVIDENCE, Detection, detect

TRAIN = Path("data/split/train.parquet")
VALIDATION = Path("data/split/validation.parquet")
OUTPUT = Path("data/label_errors")
METRICS = Path("metrics/label_errors.json")
CURVES = Path("metrics/plots/label_errors/precision_recall.csv")


def summarise(
    train: pl.DataFrame, labels: NDArray[np.int64], detection: Detection, scores: pl.DataFrame, acted: Acted
) -> dict[str, Any]:
    """What was found among the train rows, whose labels have these numbers, and what was done."""
    known = scores["label_quality"].is_not_null().to_numpy()
    flagged = int(scores["is_label_error"].sum())
    metrics: dict[str, Any] = {
        "rows_in": train.height,
        "rows_out": acted.train.height,
        "removed": {"label_error": acted.removed.height},
        "relabelled": acted.changed.height,
        "folds": detection.folds,
        "rows_not_judged": int((~known).sum()),
        "rows_reviewed": int(scores["reviewed"].sum()),
        "label_errors": flagged,
        "per_label": {
            str(label): {"rows": part.height, "label_errors": int(part["is_label_error"].sum())}
            for (label,), part in sorted(scores.partition_by("label", as_dict=True).items())
        },
    }
    if known.any():
        # Against the given labels, so by the texts alone: evidence may be what a label was made of.
        shares = detection.text_probabilities[known]
        metrics["out_of_fold_text_accuracy"] = float((shares.argmax(axis=1) == labels[known]).mean())
        metrics["temperature"] = detection.temperature
    return metrics


def main() -> None:
    """Find label errors among the train rows, and do what params say about them."""
    params = load_params("label_errors", LabelErrorsParams)
    seed = load_params("seed", int)
    device = prepare_device(load_params("compute", Compute))
    if params.models.finetuned is not None:
        quiet_libraries()
    train = pl.read_parquet(TRAIN)
    if train["label"].n_unique() < 2:
        raise InputError(f"{TRAIN}: {train.height} rows of fewer than two labels; run `split` again")
    if params.evidence is not None and params.evidence not in train.columns:
        problem = f"{TRAIN} has no column `{params.evidence}` (`label_errors.evidence`): only texts are used"
        print(f"label_errors: {problem}", file=sys.stderr)
    rows = build_rows(train, embeddings_of(train["id"], pl.read_parquet(LAYERS), TRAIN), params.evidence)
    # Several threads add up in another order, and the last bits of the scores would depend on the machine.
    with threadpool_limits(limits=1, user_api="blas"):
        detection = detect(rows, params, device, (seed, "label_errors"))
    scores = build_score_table(train, train["label"].unique().sort().to_list(), detection)
    acted = apply_action(train, scores, params.action, params.min_relabel_probability)

    metrics = summarise(train, rows.labels, detection, scores, acted)
    graded_scores = sorted(["label_quality", *detection.scores], key=lambda name: name != WITHOUT_EVIDENCE)
    evidence = params.evidence if params.evidence in train.columns else None
    baselines = score_baselines(train, pl.read_parquet(VALIDATION), evidence)
    gradable = gradable_rows(train, scores, baselines)
    random = generator(seed, "label_errors", "grade")
    if grade := grade_scores(gradable, graded_scores, list(baselines), random):
        metrics["grade"] = grade
        if "label_error_rate" not in baselines:
            problem = f"{VALIDATION} has no reference label: no baseline by how often a label is wrong"
            print(f"label_errors: {problem}", file=sys.stderr)
    reference = acted.train.filter(pl.col("reference_label").is_not_null())
    if reference.height:
        metrics["noise_rate_of_kept_rows"] = (reference["label"] != reference["reference_label"]).mean()
    if unknown := metrics["rows_not_judged"]:
        print(f"label_errors: {unknown} row(s) have no scores: their label has rows in one fold only", file=sys.stderr)

    write_tables(OUTPUT, {"train": acted.train, "scores": scores, "removed": acted.removed, "changed": acted.changed})
    write_text(CURVES, trace_curves(gradable, graded_scores).write_csv())
    write_metrics(METRICS, metrics, "label_errors", "relabelled", "grade.precision", "grade.recall")


if __name__ == "__main__":
    run_stage(main)
