"""Test rows whose label every approach contradicts, for a person to look at: no model changes a test label.

That is no proof of an error: approaches that learnt from the same train rows share mistakes. The order is Cleanlab's
normalized margin (Northcutt et al. 2021) by the mean of their probabilities.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from assay.core.errors import InputError
from assay.core.skipped import why_left_out

PREDICTIONS = Path("data/predictions")


def read_test_predictions(approaches: Iterable[str], test: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """`predictions.parquet` by approach, skipped ones aside. Raises `InputError`: it is not there, or of other rows."""
    found = {}
    for name in approaches:
        file = PREDICTIONS / name / "predictions.parquet"
        if why_left_out(file.parent):
            continue
        if not file.is_file() or not (table := pl.read_parquet(file))["id"].equals(test["id"]):
            what = f"not the {test.height} test rows" if file.is_file() else "missing"
            raise InputError(f"{file}: {what}; run `.venv/bin/dvc repro --force --single-item evaluate@{name}`")
        found[name] = table
    return found


def list_contradicted(predictions: Mapping[str, pl.DataFrame]) -> pl.DataFrame | None:
    """The rows, the least credible label first, with its mean `probability`; None: under two approaches can tell.

    One alone would bend the test towards itself, and one that gives every row the same, as `majority`, tells nothing.
    """
    # Imported here: it takes seconds.
    from cleanlab.rank import get_label_quality_scores

    told = [one for one in predictions.values() if one.select(pl.col("^probability_.*$")).n_unique() > 1]
    if len(told) < 2:
        return None
    target, names = told[0]["target_label"], told[0].select(pl.col("^probability_.*$")).columns
    labels = [name.removeprefix("probability_") for name in names]
    mean = np.mean([one.select(names).to_numpy() for one in told], axis=0)
    codes = target.replace_strict(labels, range(len(labels)), return_dtype=pl.Int64).to_numpy()
    quality = get_label_quality_scores(codes, mean, method="normalized_margin")
    rows = told[0].with_columns(quality=pl.Series(quality), probability=pl.Series(mean[np.arange(len(codes)), codes]))
    is_contradicted = np.all([(one["predicted_label"] != target).to_numpy() for one in told], axis=0)
    return rows.filter(pl.Series(is_contradicted)).sort("quality", "id")
