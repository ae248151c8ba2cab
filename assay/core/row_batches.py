"""Work through a table in batches of rows and in parts, in order, in memory that does not grow with it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
import polars.selectors as cs

from assay.core.outputs import write_parquet

BATCH_ROWS = 25_000
"""Large enough that the cost of a call does not count, small enough that a batch stays in the processor's cache."""
BATCH_BYTES = 64 << 20
"""Of texts: of long ones, fewer rows are a batch."""
A = TypeVar("A")
B = TypeVar("B")


def slices(table: pl.LazyFrame, rows: int) -> list[pl.LazyFrame]:
    """A scanned table, so many rows at a time, not read yet; one empty slice, with its columns, where it has none.

    Fewer rows where their texts are more than `BATCH_BYTES`; one at least.
    """
    sizes = table.select(pl.sum_horizontal(pl.repeat(0, pl.len()), cs.string().str.len_bytes()))
    ends = np.cumsum(sizes.collect(engine="streaming").to_series().to_numpy(), dtype=np.int64)
    starts = [0]
    while starts[-1] < len(ends):
        before = ends[starts[-1] - 1] if starts[-1] else 0
        last = max(starts[-1] + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        starts.append(min(last, starts[-1] + rows))
    return [table.slice(start, end - start) for start, end in pairwise(starts)] or [table.head(0)]


def row_batches(table: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """The rows of a scanned table in order, `BATCH_ROWS` at a time, as `slices` cuts it."""
    return (batch.collect() for batch in slices(table, BATCH_ROWS))


def mapped_in_order(function: Callable[[A], B], items: Iterable[A], workers: int) -> Iterator[B]:
    """`map` on threads: results in the order of the items, and never more than `workers + 1` items under way.

    For functions that spend their time in NumPy or Polars, which release Python's lock.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def write_part(frame: pl.DataFrame, folder: Path, run: int, number: int) -> None:
    """Write one part of a table that `joined_parts` puts together; parts are ordered by run, then by number.

    Uncompressed: a part is read again soon and then deleted, and to compress it takes longer than to write it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(frame, folder / f"{run}-{number:012d}.parquet", compression="uncompressed")


def joined_parts(folder: Path) -> pl.LazyFrame:
    """The rows of all parts in a folder, in order."""
    return pl.scan_parquet(sorted(folder.glob("*.parquet")))
