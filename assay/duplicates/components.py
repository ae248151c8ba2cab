"""Groups of rows that pairs link: the connected components of a graph, each named by its smallest row."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.core.seeds import SeedKey, keyed_uniform

Indices = NDArray[np.int64]


def join_groups(first: Indices, left: Indices, right: Indices) -> Indices:
    """Join the groups of the rows `left` and `right` of each pair, shape `(p,)`.

    `first` is the smallest row of each row's group so far, `np.arange(n)` where each is alone, and what is returned the
    smallest row afterwards, shape `(n,)`.
    """
    if not len(left):
        return first
    # Imported here: it takes a tenth of a second, and most of what imports this module has no pairs.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    roots, ends = np.unique(np.stack([first[left], first[right]]), return_inverse=True)
    one, other = ends.reshape(2, -1)
    graph = coo_array((np.ones(len(one), dtype=np.bool_), (one, other)), shape=(len(roots), len(roots)))
    _, component = connected_components(graph, directed=False)
    # The roots are sorted, so the first one of a component is its smallest.
    _, smallest = np.unique(component, return_index=True)
    joined = np.arange(len(first))
    joined[roots] = roots[smallest[component]]
    return joined[first]


def first_equal(rows: pl.DataFrame, *columns: str) -> Indices:
    """The first row that agrees with each row in all the columns, nulls included, shape `(n,)`."""
    numbered = rows.select(*columns).with_row_index("row")
    return numbered.select(pl.col("row").min().over(columns).cast(pl.Int64)).to_series().to_numpy()


def split_groups(rows: pl.DataFrame, links: list[str], group_column: str | None, seed: SeedKey) -> pl.DataFrame:
    """Which rows go to one split and one fold.

    Returns `split_group`; `own_group`, what it would be without links; `is_alone`, no value in the group column.

    Rows are linked that agree in one of the columns `links`, or in the group column where it is not missing. A row by
    itself is named by its value in the group column, else by its id. A group has the name with the smallest keyed hash,
    values of the group column before ids: so the order of rows does not matter, nor do more rows of the same value; and
    where groups are joined, one of them keeps its name.
    """
    value = pl.lit(None, pl.String) if group_column is None else pl.col(group_column).cast(pl.String).str.strip_chars()
    own = pl.when(value != "").then(pl.lit(f"{group_column}=") + value)
    table = rows.select("id", *links, is_alone=own.is_null(), own_group=pl.coalesce(own, "id"))
    first = np.arange(rows.height)
    for column in (*links, "own_group"):
        first = join_groups(first, np.arange(rows.height), first_equal(table, column))
    draw = keyed_uniform(table["own_group"], *seed, "split_group")
    name = pl.col("own_group").sort_by("is_alone", "draw", "own_group").first().over("first")
    return table.with_columns(draw=draw, first=pl.Series(first)).select("is_alone", "own_group", split_group=name)
