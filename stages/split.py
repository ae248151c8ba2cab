"""Which rows train, which choose the best epoch, and which are kept for the test.

Decides: the split of each group, and which labels are too rare to be learnt.

Reads `data/annotation_qa/records.parquet`, and ids of `data/clean/unlabelled.parquet`. Writes `data/split/`: `{train,
validation,test}.parquet` (the same columns, rows in their order), `leaks.parquet` and `removed.parquet`.

How, and what becomes of rare labels and of leaks: docs/pipeline.md, "What you can rely on"; of rows to which a person
gave their first label: docs/review.md, "Rows without a label".
"""

import sys
from dataclasses import replace
from pathlib import Path

import polars as pl

from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_tables
from assay.core.params import load_params
from assay.core.removed_rows import counts_by_rule, remove
from assay.core.results import write_metrics
from assay.splitting.assignment import SPLITS, SplitParams, assign, rare_label_rows, refuse_rare_labels
from assay.splitting.given import find_leaks, take_given_splits

RECORDS = Path("data/annotation_qa/records.parquet")
UNLABELLED = Path("data/clean/unlabelled.parquet")
OUTPUT = Path("data/split")
METRICS = Path("metrics/split.json")


def split_metrics(rows: pl.DataFrame) -> dict[str, object]:
    """Rows and shares of the splits, over all and by label."""
    shares = [(pl.col("split") == name).mean().alias(f"{name}_share") for name in SPLITS]
    per_label = rows.group_by("label").agg(pl.len().alias("rows"), *shares).sort("label")
    counts = {name: int((rows["split"] == name).sum()) for name in SPLITS}
    return {
        "rows": counts,
        "shares": {name: count / rows.height for name, count in counts.items()},
        "labels": per_label.height,
        "per_label": {str(of_label.pop("label")): of_label for of_label in per_label.to_dicts()},
    }


def main() -> None:
    """Split the records."""
    params = load_params("split", SplitParams)
    seed = load_params("seed", int)
    records = pl.read_parquet(RECORDS)
    labelled = remove(records, records.filter(pl.col("label").is_null()), "no_label")
    came_without = pl.col("id").is_in(pl.read_parquet(UNLABELLED, columns=["id"])["id"].implode())
    pooled, others = labelled.kept.filter(came_without), labelled.kept.filter(~came_without)
    given = None
    if params.given_column is None:
        rare = rare_label_rows(others)
        needed = f"at least {len(SPLITS)} rows that are no duplicates and of different groups, to be in every split"
        fix = "raise `semantic_duplicates.min_cosine` if rows are taken for duplicates that are none"
    else:
        given = take_given_splits(others, params, RECORDS, seed)
        rare = given.rows.filter((pl.col("split") != "train").all().over("label"))
        needed, fix = "a row in train", "correct `split.given_values`"
    if params.rare_labels == "error":
        refuse_rare_labels(rare, RECORDS, "label", needed, fix)
    learnable = remove(given.rows if given else others, rare, "rare_label")
    labels = learnable.kept["label"].unique().sort().to_list()
    if len(labels) < 2:
        raise InputError(
            f"{RECORDS}: a classifier needs at least two labels, and {learnable.kept.height} of {records.height} rows"
            f" have {labels or 'none'}; check the columns or the rating bins of `ingest`"
        )
    assigned = replace(given, rows=learnable.kept) if given else assign(learnable.kept, params, seed)
    held_out = assigned.rows.filter(pl.col("split") != "train")
    joining = remove(pooled, pooled.join(held_out, on="split_group", how="semi"), "held_out_group")
    assigned = replace(assigned, rows=pl.concat([assigned.rows, joining.kept.with_columns(split=pl.lit("train"))]))
    labels = sorted({*labels, *joining.kept["label"]})
    removed = pl.concat([labelled.removed, learnable.removed, joining.removed])
    # A column that no source has: `semantic_duplicates` says so.
    leaks, counted = find_leaks(assigned.rows, params.group_column if params.group_column in records.columns else None)
    parts = {name: assigned.rows.filter(pl.col("split") == name).drop("split") for name in SPLITS}
    missing = {name: sorted(set(labels) - set(part["label"])) for name, part in parts.items()}
    for message in (
        *(f"{count} row(s) removed: {rule}" for rule, count in counts_by_rule(removed).items()),
        *assigned.messages,
        *(
            f"leak by {kind}: {', '.join(f'{count} {what}' for what, count in found.items())}; see leaks.parquet"
            for kind, found in counted.items()
            if found["shared"]
        ),
        *(f"{name} has no row of label(s) {', '.join(names)}" for name, names in missing.items() if names),
    ):
        print(f"split: {message}", file=sys.stderr)

    write_tables(OUTPUT, {**parts, "leaks": leaks, "removed": removed})
    write_metrics(
        METRICS,
        {
            "rows_in": records.height,
            "rows_out": sum(part.height for part in parts.values()),
            "removed": {"no_label": labelled.removed.height, "rare_label": learnable.removed.height}
            | counts_by_rule(joining.removed),
            **split_metrics(assigned.rows),
            "forced_labels": assigned.forced,
            "large_groups": {one["split_group"]: {"share": one["share"]} for one in assigned.large.to_dicts()},
            "leaks": counted,
        },
        "rows.train",
        "rows.validation",
        "rows.test",
    )


if __name__ == "__main__":
    run_stage(main)
