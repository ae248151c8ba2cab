"""Semantic duplicates: which rows say the same in other words, so that none is trained on and tested on at once.

Decides: the semantic group of each row, and, where params say so, which of its rows stay; and which rows go to one
split and one fold, for whatever reason. Looks at texts, by their embeddings; labels are only compared. What
follows from how it is done: docs/cleaning.md, "Semantic duplicates".

Reads `data/corrected/records.parquet` and `data/embeddings/embeddings.parquet`. Writes `data/semantic_duplicates/`:

- `records.parquet`: the rows that go on, with `semantic_group` (the id of the group's first row) and `split_group`;
- `pairs.parquet`: each row of a group with the row closest to it, and their cosine, the closest pairs first;
- `conflicts.parquet`: every row of the groups whose given labels differ;
- `joined.parquet`: the rows whose `split_group` is not named after them or their group value (`own_group`);
- `removed.parquet`: with `action: remove`, rows as similar as that to one that stays, `kept_id`, if they agree with it
  in their labels and in what else `assay/duplicates/kept_rows.py` counts.
"""

import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from assay.compute.device import Compute, prepare_device
from assay.core.errors import run_stage
from assay.core.outputs import write_json, write_tables
from assay.core.params import Params, load_params
from assay.core.removed_rows import REMOVED_WITH_KEPT_SCHEMA, Filtered, removed_rows
from assay.core.results import write_metrics
from assay.core.seeds import SeedKey, keyed_uniform
from assay.duplicates.components import first_equal, split_groups
from assay.duplicates.kept_rows import KNOWN_LABEL, choose_kept, is_held_out, meaning_marks
from assay.duplicates.semantic_groups import SemanticGroups, exact_cosines, semantic_groups
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
    found = records.filter(pl.col("label").drop_nulls().n_unique().over("semantic_group") > 1)
    order = np.argsort(first_equal(found, "semantic_group"), kind="stable")
    return found.select("semantic_group", "id", "source", "label", "text")[order]


def keep_distinct(
    records: pl.DataFrame, embeddings: NDArray[np.float32], min_cosine: float, held_out: pl.Expr, seed: SeedKey
) -> Filtered:
    """Of rows with the same label and marks that are directly as similar as `min_cosine`, one; the others are removed.

    Embeddings of shape `(n, d)`.
    """
    table = records.select(
        "semantic_group",
        label=KNOWN_LABEL,
        marks=meaning_marks(records["text"]),
        held_out=held_out,
        order=keyed_uniform(records["id"], *seed, "kept"),
    )
    same = ("semantic_group", "label", "marks")
    kept = choose_kept(table, same, lambda left, right: exact_cosines(embeddings, left, right) >= min_cosine)
    stays = pl.Series(kept == np.arange(records.height))
    gone = records.filter(~stays)
    removed = removed_rows(gone, "semantic_duplicate").with_columns(kept_id=records["id"].gather(kept).filter(~stays))
    return Filtered(records.filter(stays), removed)


def main() -> None:
    """Group the semantic duplicates."""
    params = load_params("semantic_duplicates", SemanticDuplicatesParams)
    group_column: str | None = load_params("split.group_column", str | None)  # type: ignore[arg-type]
    seed = (load_params("seed", int), "semantic_duplicates")
    device = prepare_device(load_params("compute", Compute))
    given = pl.read_parquet(RECORDS)
    held_out = is_held_out(given.columns, RECORDS)
    if group_column is not None and group_column not in given.columns:
        problem = f"{RECORDS} has no column {group_column!r} (`split.group_column`): no rows are grouped by it"
        print(f"semantic_duplicates: {problem}; see `carry` of `ingest`, or set null", file=sys.stderr)
        group_column = None
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
    filtered = Filtered(records, REMOVED_WITH_KEPT_SCHEMA.to_frame())
    if params.action == "remove":
        filtered = keep_distinct(records, embeddings, params.min_cosine, held_out, seed)
    grouped = split_groups(filtered.kept, ["near_duplicate_group", "semantic_group"], group_column, seed)
    kept = filtered.kept.hstack([grouped["split_group"]])
    joined = kept.select("id", "text").hstack(grouped.drop("is_alone"))
    joined = joined.filter(pl.col("split_group") != pl.col("own_group"))
    tables = {"records": kept, "pairs": closest_pairs(records, groups), "conflicts": in_conflict}
    write_tables(OUTPUT, tables | {"joined": joined, "removed": filtered.removed})
    write_metrics(
        METRICS,
        {
            "rows_in": given.height,
            "rows_out": kept.height,
            "removed": {"semantic_duplicate": filtered.removed.height},
            "linked_pairs": groups.links,
            "groups": len(sizes),
            "rows_in_groups": int(sizes.sum()),
            "largest_group": largest,
            "groups_with_conflicting_labels": in_conflict["semantic_group"].n_unique(),
            "split_groups": kept["split_group"].n_unique(),
            "rows_joined_to_other_split_groups": joined.height,
            "rows_without_group_value": grouped["is_alone"].sum(),
        },
        "groups",
        "rows_in_groups",
    )
    write_json(COST, {"compare_seconds": seconds})


if __name__ == "__main__":
    run_stage(main)
