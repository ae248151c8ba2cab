"""The embeddings that `embed` wrote, in the order that another stage wants them."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.core.errors import InputError

EMBEDDINGS = Path("data/embeddings/embeddings.parquet")
LAYERS = Path("data/embeddings/layers.parquet")


def embeddings_of(ids: pl.Series, embeddings: pl.DataFrame, rows: Path) -> NDArray[np.float32]:
    """The embedding of each id, shape `(n, d)`, out of a table with `id` and `embedding`.

    An id without one is an `InputError`, which names the file `rows` that the ids are from.
    """
    joined = ids.alias("id").to_frame().join(embeddings, on="id", how="left", maintain_order="left")
    missing = joined.filter(pl.col("embedding").is_null())["id"]
    if len(missing):
        raise InputError(
            f"{EMBEDDINGS}: no embedding for {len(missing)} row(s) of {rows}, such as {missing[0]!r}; run `embed` again"
        )
    # A copy: PyTorch warns of arrays that cannot be written to, as those of Polars are.
    return np.array(joined["embedding"].to_numpy(), dtype=np.float32)
