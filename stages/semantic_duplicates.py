"""Semantic duplicates: which rows say the same in other words, so that none is trained on and tested on at once.

Decides: the semantic group of each row, and, where params say so, which of its rows stays. Looks at texts, by their
embeddings; labels are only compared.

Reads `data/corrected/records.parquet` and `data/embeddings/embeddings.parquet`. Writes `data/semantic_duplicates/`:

- `records.parquet`: the rows that go on, with `semantic_group` (the id of the group's first row);
- `pairs.parquet`: each row of a group with the row closest to it, and their cosine, the closest pairs first;
- `conflicts.parquet`: every row of the groups whose given labels differ;
- `removed.parquet`: with `action: remove`, all rows of a group but its first, and `kept_id`, that first one.

How it is done, and what follows from it:

1. Two rows are linked if the cosine of their embeddings is at least `min_cosine`; a group is what a chain of links
   joins (single linkage). That is the careful choice against leakage: no row of one group is as close as that to a row
   of another. The price: where all texts are similar, one group may take in a large part; a warning says so.
2. All pairs are compared, so time grows with the square of the rows: on two cores, 10,000 rows took 1.3 s and 50,000
   took 18 s, so a million would take two hours; memory grows with the rows alone.
3. The cosine knows topic and wording better than sentiment or negation: "I love it" and "I hate it" may be neighbours.
   So the default only keeps such rows together. Before rows are removed, look at the pairs, and at the conflicts:
   labels that differ inside a group are reported, and left to a person.
4. A group is named by its first row in the order of the data: rows added at the end leave the name as it is, and so the
   split. A new row that links two groups makes one of them, and the rows of the second take the name of the first.
"""

import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from assay.compute.device import Compute, prepare_device
from assay.core.errors import run_stage
from assay.core.outputs import output_folder, write_json, write_parquet
from assay.core.params import Params, load_params
from assay.core.removed_rows import REMOVED_WITH_KEPT_SCHEMA, Filtered, removed_rows
from assay.core.results import write_metrics
from assay.duplicates.semantic_groups import SemanticGroups, semantic_groups
from assay.embeddings.table import EMBEDDINGS, embeddings_of

RECORDS = Path("data/corrected/records.parquet")
OUTPUT = Path("data/semantic_duplicates")
METRICS = Path("metrics/semantic_duplicates.json")
COST = Path("metrics/cost/semantic_duplicates.json")
LARGE_GROUP_SHARE = 0.05
"""A group with more of all rows than this is pointed out: the shares of the splits can no longer hold."""


class SemanticDuplicatesParams(Params):
    """The `semantic_duplicates` section of `params.yaml`."""

    min_cosine: float = Field(gt=0, le=0.9999)
    action: Literal["group", "remove"]


def closest_pairs(records: pl.DataFrame, groups: SemanticGroups) -> pl.DataFrame:
    """Each row that is linked with the one closest to it, the closest pairs first, the earlier row on the left.

    Two rows that are closest to each other are one pair.
    """
    pairs = (
        pl.DataFrame({"row": np.arange(records.height), "nearest": groups.nearest, "cosine": groups.cosine})
        .filter(pl.col("nearest") >= 0)
        .select(pl.min_horizontal("row", "nearest"), other=pl.max_horizontal("row", "nearest"), cosine="cosine")
        .unique(["row", "other"], keep="first", maintain_order=True)
        .sort(pl.col("cosine").neg(), "row", "other")
    )
    one = records[pairs["row"]].select("semantic_group", "id", "label", "text")
    other = records[pairs["other"]].select(other_id="id", other_label="label", other_text="text")
    return pl.concat([one, other], how="horizontal").insert_column(1, pairs["cosine"].round(6))


def conflicts(records: pl.DataFrame) -> pl.DataFrame:
    """The rows of groups with more than one given label, group by group in the order of their first rows."""
    order = pl.int_range(pl.len()).min().over("semantic_group")
    return (
        records.filter(pl.col("label").drop_nulls().n_unique().over("semantic_group") > 1)
        .sort(order, maintain_order=True)
        .select("semantic_group", "id", "source", "label", "text")
    )


def keep_first(records: pl.DataFrame) -> Filtered:
    """Only the first row of each group; the removed rows have `kept_id`, that first one."""
    is_first = pl.col("id") == pl.col("semantic_group")
    gone = records.filter(~is_first)
    removed = removed_rows(gone, "semantic_duplicate").with_columns(kept_id=gone["semantic_group"])
    return Filtered(records.filter(is_first), removed)


def main() -> None:
    """Group the semantic duplicates."""
    params = load_params("semantic_duplicates", SemanticDuplicatesParams)
    device = prepare_device(load_params("compute", Compute))
    given = pl.read_parquet(RECORDS)
    embeddings = embeddings_of(given["id"], pl.read_parquet(EMBEDDINGS), RECORDS)

    started = time.perf_counter()
    groups = semantic_groups(embeddings, params.min_cosine, device.device)
    seconds = time.perf_counter() - started

    records = given.with_columns(semantic_group=given["id"].gather(groups.first))
    sizes = records["semantic_group"].value_counts().filter(pl.col("count") > 1)["count"]
    largest = int(sizes.max() or 0)  # type: ignore[arg-type]
    if largest > LARGE_GROUP_SHARE * records.height:
        print(
            f"semantic_duplicates: one group has {largest} of {records.height} rows, and goes to one split as a whole;"
            f" raise `semantic_duplicates.min_cosine` above {params.min_cosine} if they are no duplicates",
            file=sys.stderr,
        )
    in_conflict = conflicts(records)
    filtered = (
        keep_first(records) if params.action == "remove" else Filtered(records, REMOVED_WITH_KEPT_SCHEMA.to_frame())
    )
    with output_folder(OUTPUT) as folder:
        write_parquet(filtered.kept, folder / "records.parquet")
        write_parquet(closest_pairs(records, groups), folder / "pairs.parquet")
        write_parquet(in_conflict, folder / "conflicts.parquet")
        write_parquet(filtered.removed, folder / "removed.parquet")
    write_metrics(
        METRICS,
        {
            "rows_in": given.height,
            "rows_out": filtered.kept.height,
            "removed": {"semantic_duplicate": filtered.removed.height},
            "linked_pairs": groups.links,
            "groups": len(sizes),
            "rows_in_groups": int(sizes.sum()),
            "largest_group": largest,
            "groups_with_conflicting_labels": in_conflict["semantic_group"].n_unique(),
        },
        "groups",
        "rows_in_groups",
    )
    write_json(COST, {"compare_seconds": seconds})


if __name__ == "__main__":
    run_stage(main)
