"""The test rows, and what counts as the truth about them.

The label of a test row is its `reference_label` (the consensus of many raters) where there is one, and the given label
otherwise.
"""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.core.errors import InputError

TEST = Path("data/split/test.parquet")


def read_test_rows() -> pl.DataFrame:
    """The rows of the test split with their `target_label`."""
    return pl.read_parquet(TEST).with_columns(target_label=pl.coalesce("reference_label", "label"))


def group_numbers(test: pl.DataFrame) -> NDArray[np.int64]:
    """The split group of each test row as a number, shape `(rows,)`: rows of one are not independent."""
    return test["split_group"].rank("dense").cast(pl.Int64).to_numpy() - 1


def target_numbers(test: pl.DataFrame, labels: list[str]) -> NDArray[np.int64]:
    """The class of each test row, shape `(rows,)`.

    Raises `InputError`: the table is empty, or a label is not one that the model knows.
    """
    if test.is_empty():
        raise InputError(f"{TEST}: no rows; raise `split.test_fraction` or add data")
    unknown = test.filter(~pl.col("target_label").is_in(labels))
    if unknown.height:
        row = unknown.row(0, named=True)
        raise InputError(
            f"{TEST}: row {row['id']} has the label {row['target_label']!r}, which the model does not know; "
            f"it knows {', '.join(labels)}"
        )
    return np.array([labels.index(label) for label in test["target_label"]], dtype=np.int64)
