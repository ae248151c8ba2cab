"""What better labels of the train rows are worth to a probe: people's corrections, the detector's findings, an oracle.

Decides: nothing. A logistic regression on the frozen embeddings is fitted on all train rows, once for each variant of
their labels, and scored on the reference labels of the validation rows (the given label where there is none). Not of
test rows: what is read here is what `label_errors.action` is chosen by (docs/protocol.md). Variants:

- `uncorrected`: as they were given; `detector_off`: as people corrected them;
- `detector_on`: as `label_errors` left them; `flagged_dropped`: without the rows that it flagged, whatever its action;
- `oracle`: the reference labels, which is the most that any detector could bring.

One that is like `detector_off`, or like another, is skipped. Differences are paired, with 95% bootstrap intervals over
groups of validation rows; the train rows stay as they are. If an interval holds 0, these rows do not say that it helps.

Reads `data/split/{train,validation}.parquet`, `data/clean/records.parquet` (labels before corrections),
`data/label_errors/` and `data/embeddings/embeddings.parquet`; writes `metrics/optional/label_effect.json`.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.core.errors import run_stage
from assay.core.params import load_params
from assay.core.results import write_metrics
from assay.core.seeds import generator
from assay.embeddings.table import EMBEDDINGS, embeddings_of
from assay.probes import number_values, weighted_probe
from assay.statistics.classification import LabelEffectParams, score_variants

TRAIN = Path("data/split/train.parquet")
VALIDATION = Path("data/split/validation.parquet")
UNCORRECTED = Path("data/clean/records.parquet")
DETECTED = Path("data/label_errors")
METRICS = Path("metrics/optional/label_effect.json")


def label_variants(
    train: pl.DataFrame, acted_on: pl.DataFrame, flagged: pl.Series, uncorrected: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """The variants of the train rows, each `id`, `label` and `weight`; `flagged` is of the train rows, in their order.

    `detector_off` is always there; of the others, those that differ from those before.
    """
    given = train.select("id", "label", weight=pl.lit(1.0))
    before = given.join(uncorrected.select("id", before="label"), on="id", how="left", maintain_order="left")
    all_variants = {
        "detector_off": given,
        "uncorrected": before.select("id", pl.coalesce("before", "label").alias("label"), "weight"),
        "detector_on": acted_on.select("id", "label", weight="label_weight"),
        "flagged_dropped": given.filter(~flagged),
        "oracle": train.select("id", pl.coalesce("reference_label", "label").alias("label"), weight=pl.lit(1.0)),
    }
    found: dict[str, pl.DataFrame] = {}
    for name, table in all_variants.items():
        if not any(table.equals(other) for other in found.values()):
            found[name] = table
    return found


def main() -> None:
    """Score the probe on every variant of the train rows."""
    params = load_params("label_effect", LabelEffectParams)
    seed = load_params("seed", int)
    train = pl.read_parquet(TRAIN)
    validation = pl.read_parquet(VALIDATION).with_columns(target=pl.coalesce("reference_label", "label"))
    acted_on = pl.read_parquet(DETECTED / "train.parquet")
    flagged = pl.read_parquet(DETECTED / "scores.parquet")["is_label_error"]
    compared = label_variants(train, acted_on, flagged, pl.read_parquet(UNCORRECTED, columns=["id", "label"]))
    metrics: dict[str, object] = {
        "rows_train": {name: table.height for name, table in compared.items()},
        "rows_validation": validation.height,
        "rows_with_reference_label": validation["reference_label"].count(),
    }
    if validation.is_empty():
        print(f"label_effect: {VALIDATION} has no rows, so there is nothing to score labels on", file=sys.stderr)
        write_metrics(METRICS, metrics, "rows_validation")
        return

    embeddings = pl.read_parquet(EMBEDDINGS)
    scored = embeddings_of(validation["id"], embeddings, VALIDATION)
    classes = sorted({*validation["target"], *(label for table in compared.values() for label in table["label"])})
    truth = np.array([classes.index(label) for label in validation["target"]])
    predicted = {}
    # Several threads add up in another order, and the last bits of the scores would depend on the machine.
    with threadpool_limits(limits=1, user_api="blas"):
        for name, table in compared.items():
            features = embeddings_of(table["id"], embeddings, TRAIN)
            labels, weights = table["label"].to_numpy(), table["weight"].to_numpy()
            said = weighted_probe(features, labels, weights, scored, classes, params.C)
            predicted[name] = said.argmax(axis=1)
    pairs = [(name, "detector_off") for name in compared if name not in ("detector_off", "uncorrected")]
    pairs += [("detector_off", "uncorrected")] if "uncorrected" in compared else []
    groups, random = number_values(validation["split_group"]), generator(seed, "label_effect", "bootstrap")
    scores = score_variants(truth, predicted, pairs, groups, params.bootstrap_samples, random)
    write_metrics(METRICS, metrics | scores, "detector_off.macro_f1", "oracle_minus_detector_off.macro_f1")


if __name__ == "__main__":
    run_stage(main)
