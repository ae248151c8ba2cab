"""Which rows train, which choose the best epoch, and which are kept for the test.

Decides: the split of each semantic group, and which labels are too rare to be learnt.

Reads `data/annotation_qa/records.parquet` and the labels of `data/clean/records.parquet`; writes
`data/split/{train,validation,test}.parquet` (the same columns, rows in their order) and `data/split/removed.parquet`.

A group of semantic duplicates goes whole. Its draw from [0, 1) is a keyed hash of the group and of its label (that
of the group's own row, its first) as it was before corrections, and the fractions cut [0, 1) in three. So a row keeps
its split when a person corrects its label, and the test stays the same test; old rows keep theirs when rows are added
at the end, and the shares hold to within sampling error; the metrics give the largest deviation. Old rows move where a
new row comes before them and is their duplicate (it is the first then, and gives its name and label), and where it
links two old groups (the second joins the first): they have to be together, and this is the least that does it.

Where a label's draws leave a split empty, its groups are assigned again in the order of their draws, moving as few as
will do. These labels are named on standard error and in the metrics (`forced_labels`): their rows alone may move when
rows are added. A label of fewer than three groups cannot be in all three splits: it is an error, or its rows are
removed (`rare_label`). Rows without a label are removed (`no_label`).
"""

import sys
from pathlib import Path

import polars as pl

from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_parquet
from assay.core.params import load_params
from assay.core.removed_rows import counts_by_rule, remove
from assay.core.results import write_metrics
from assay.splitting.assignment import SPLITS, SplitParams, assign, rare_label_rows, refuse_rare_labels, strata

RECORDS = Path("data/annotation_qa/records.parquet")
GIVEN = Path("data/clean/records.parquet")
OUTPUT = Path("data/split")
METRICS = Path("metrics/split.json")


def split_metrics(parts: dict[str, pl.DataFrame], fractions: dict[str, float]) -> dict[str, object]:
    """Rows and shares of the splits, over all and by label, and the largest deviation of a share from its fraction."""
    table = pl.concat(part.select("label", pl.lit(name).alias("split")) for name, part in parts.items())
    counts = {
        (str(label), str(split)): part.height
        for (label, split), part in table.partition_by("label", "split", as_dict=True).items()
    }
    labels = sorted({label for label, _ in counts})
    of_label = {label: sum(counts.get((label, name), 0) for name in SPLITS) for label in labels}
    shares = {label: {name: counts.get((label, name), 0) / of_label[label] for name in SPLITS} for label in labels}
    overall = {name: parts[name].height / table.height for name in SPLITS}
    return {
        "rows": {name: parts[name].height for name in SPLITS},
        "shares": overall,
        "labels": len(labels),
        "largest_deviation": max(abs(overall[name] - fractions[name]) for name in SPLITS),
        "largest_deviation_of_a_label": max(
            abs(shares[label][name] - fractions[name]) for label in labels for name in SPLITS
        ),
        "per_label": {
            label: {"rows": of_label[label]} | {f"{name}_share": shares[label][name] for name in SPLITS}
            for label in labels
        },
    }


def main() -> None:
    """Split the records."""
    params = load_params("split", SplitParams)
    seed = load_params("seed", int)
    given = pl.read_parquet(GIVEN, columns=["id", "label"]).rename({"label": "given_label"})
    records = pl.read_parquet(RECORDS).join(given, on="id", how="left", maintain_order="left")

    labelled = remove(records, records.filter(pl.col("label").is_null()), "no_label")
    rare = rare_label_rows(labelled.kept)
    if params.rare_labels == "error":
        fix = "raise `semantic_duplicates.min_cosine` if rows are taken for duplicates that are none"
        refuse_rare_labels(rare, RECORDS, "label", fix)
    learnable = remove(labelled.kept, rare, "rare_label")
    labels = learnable.kept["label"].unique().sort().to_list()
    if len(labels) < 2:
        raise InputError(
            f"{RECORDS}: a classifier needs at least two labels, and {learnable.kept.height} of {records.height} rows"
            f" have {labels or 'none'}; check the columns or the rating bins of `ingest`"
        )
    removed = pl.concat([labelled.removed, learnable.removed])
    for rule, rows in counts_by_rule(removed).items():
        print(f"split: {rows} row(s) removed: {rule}", file=sys.stderr)

    assignment = assign(strata(learnable.kept), params.train_fraction, params.validation_fraction, seed)
    for label, moved in assignment.forced.items():
        print(
            f"split: label {label!r} is small: {moved} of its groups moved so that every split has it", file=sys.stderr
        )
    assigned = learnable.kept.join(
        assignment.groups.select("semantic_group", "split"), on="semantic_group", maintain_order="left"
    )
    parts = {name: assigned.filter(pl.col("split") == name).drop("split", "given_label") for name in SPLITS}

    with output_folder(OUTPUT) as folder:
        for name, part in parts.items():
            write_parquet(part, folder / f"{name}.parquet")
        write_parquet(removed, folder / "removed.parquet")
    write_metrics(
        METRICS,
        {
            "rows_in": records.height,
            "rows_out": sum(part.height for part in parts.values()),
            "removed": {"no_label": labelled.removed.height, "rare_label": learnable.removed.height},
            **split_metrics(parts, params.fractions),
            "forced_labels": assignment.forced,
        },
        "rows.train",
        "rows.validation",
        "rows.test",
    )


if __name__ == "__main__":
    run_stage(main)
