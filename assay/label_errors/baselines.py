"""What ten lines of code would rank the rows by: a detector of label errors is to be better than that."""

import numpy as np
import polars as pl
from numpy.typing import NDArray


def score_baselines(
    train: pl.DataFrame, validation: pl.DataFrame, evidence: str | None
) -> dict[str, NDArray[np.float64]]:
    """Qualities of the train rows, low speaks for an error, shape `(n,)` each; those that can be had.

    - `label_error_rate`: how often the row's label is wrong among validation rows with a reference label;
    - `evidence_error_rate`: the same of the row's value in the column `evidence`, such as a rating;
    - `evidence_magnitude`: that value without its sign, where it is a number: a rating of 4 is surer than one of 1.

    A value that no such validation row has counts as the mean does.
    """
    known = validation.filter(pl.col("reference_label").is_not_null())
    known = known.with_columns(is_wrong=pl.col("label") != pl.col("reference_label"))
    columns = {"label_error_rate": "label"} | ({} if evidence is None else {"evidence_error_rate": evidence})
    found = {}
    for name, column in columns.items() if known.height else ():
        rates = known.group_by(column).agg(rate=pl.col("is_wrong").mean())
        joined = train.select(column).join(rates, on=column, how="left", maintain_order="left", nulls_equal=True)
        found[name] = -joined["rate"].fill_null(known["is_wrong"].mean()).to_numpy()
    if evidence is not None and train[evidence].dtype.is_numeric():
        size = train[evidence].cast(pl.Float64).fill_nan(None).abs()
        found["evidence_magnitude"] = size.fill_null(size.mean()).fill_null(0.0).to_numpy()
    return found
