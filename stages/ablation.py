"""What each data step bought a probe on frozen embeddings, by cross-validation over train and validation rows."""

from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.core.errors import run_stage
from assay.core.params import Params, load_params
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed
from assay.embeddings.table import EMBEDDINGS, embeddings_of
from assay.probes import grouped_folds, number_values, weighted_probe

SPLIT = Path("data/split")
METRICS = Path("metrics/ablation/ablation.json")


class AblationParams(Params):
    """The `ablation` section of `params.yaml`; `C` is of the probe, a logistic regression."""

    folds: int = Field(ge=2, le=100)
    repeats: int = Field(ge=1, le=100)
    controls: int = Field(ge=2, le=100)
    C: float = Field(gt=0)


def main() -> None:
    """Score the probe on rows that it was not trained on."""
    params = load_params("ablation", AblationParams)
    seed = load_params("seed", int)
    rows = pl.concat([pl.read_parquet(SPLIT / f"{name}.parquet") for name in ("train", "validation")])
    rows = rows.with_columns(target=pl.coalesce("reference_label", "label"))
    features = embeddings_of(rows["id"], pl.read_parquet(EMBEDDINGS), SPLIT)
    names = sorted({*rows["label"], *rows["target"]})
    labels, truth = (np.array([names.index(label) for label in rows[name]]) for name in ("label", "target"))
    right = []
    with threadpool_limits(limits=1, user_api="blas"):
        for fold in grouped_folds(labels, number_values(rows["split_group"]), params.folds, derived_seed(seed, "fold")):
            of, scored = features[fold.fitted], features[fold.predicted]
            one = np.ones(len(fold.fitted))
            said = weighted_probe(of, labels[fold.fitted], one, scored, range(len(names)), params.C)
            right.append(said.argmax(axis=1) == truth[fold.predicted])
    write_metrics(METRICS, {"rows": rows.height, "accuracy": float(np.concatenate(right).mean())}, "accuracy")


if __name__ == "__main__":
    run_stage(main)
