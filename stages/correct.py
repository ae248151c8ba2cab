"""What people decided about rows, applied: labels corrected or confirmed, rows removed.

Decides nothing: the decisions are in `data/corrections.csv`, in git, and are reviewed there. Stands after `clean` and
`embed`, and before everything that reads labels, so that a decision runs neither of the two again.

Reads that file and, of `data/clean/`, `records.parquet`, `removed.parquet` and `unlabelled.parquet`: a row that waits
for a label comes in with the first decision about it. Writes `data/corrected/`:

- `records.parquet`: the rows that stay, with `reviewed`: a person confirmed or corrected the label;
- `changed.parquet`: every decision about a label that was applied, `before` and `after` being labels, the same where it
  was confirmed; `rule` says which of these it was, and `reason`, `reviewer` and `date` who decided, when and why;
- `removed.parquet`: the rows that a person removed, likewise;
- `unlabelled.parquet`: the rows that still wait for a label.

The columns and values of a line, and what holds of several lines on one row, are in docs/review.md.
"""

import sys
from pathlib import Path
from typing import Any

import polars as pl

from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_tables
from assay.core.params import load_params
from assay.core.removed_rows import counts_by_rule
from assay.core.results import write_metrics
from assay.human_review import apply_corrections as review
from assay.human_review.apply_corrections import REMOVAL, Corrected, CorrectParams, Settled
from assay.human_review.corrections import Correction, read_corrections

RECORDS = Path("data/clean/records.parquet")
UNLABELLED = Path("data/clean/unlabelled.parquet")
REMOVED_BY_CLEAN = Path("data/clean/removed.parquet")
OUTPUT = Path("data/corrected")
METRICS = Path("metrics/correct.json")


def measure(records: pl.DataFrame, corrected: Corrected, done: Settled, lines: list[Correction]) -> dict[str, Any]:
    """Metrics of the stage. Decisions about labels are counted on the rows that stay."""
    count = counts_by_rule(corrected.changed.join(corrected.removed, on="id", how="anti"))
    return {
        "rows_in": records.height,
        "rows_out": corrected.records.height,
        "removed": {REMOVAL: corrected.removed.height},
        "corrections": len(lines),
        "reviewers": len({one.reviewer for one in lines}),
        "reviewed": int(corrected.records["reviewed"].sum()),
        "relabelled": count.get("relabel", 0),
        "confirmed": count.get("confirm_label", 0),
        "reference_relabelled": count.get("correct_reference_label", 0),
        "reference_confirmed": count.get("confirm_reference_label", 0),
        "agreements": sum(outcome.agreements for outcome in done.outcomes.values()),
        "not_applied": len(done.not_applied),
    }


def main() -> None:
    """Apply the corrections."""
    params = load_params("correct", CorrectParams)
    path = Path(params.path)
    lines = read_corrections(path)
    unlabelled = pl.read_parquet(UNLABELLED)
    is_decided = unlabelled["id"].is_in([one.id for one in lines])
    records = pl.concat([pl.read_parquet(RECORDS), unlabelled.filter(is_decided)])
    waiting = unlabelled.filter(~is_decided)
    removed_before = pl.read_parquet(REMOVED_BY_CLEAN, columns=["id", "rule", "kept_id"])
    done = review.settle_all(lines, records, removed_before, params.new_labels, path)
    corrected = review.apply_corrections(records, done.outcomes)
    if corrected.records.is_empty():
        raise InputError(f"{path}: removes all {records.height} rows; delete lines of field `row`")

    tables = {"records": corrected.records, "changed": corrected.changed, "removed": corrected.removed}
    write_tables(OUTPUT, tables | {"unlabelled": waiting})
    found = measure(records, corrected, done, lines)
    if unlabelled.height:
        found["unlabelled"] = {"decided": int(is_decided.sum()), "waiting": waiting.height}
    for one in done.not_applied:
        instead = f"; {one.kept_id} stands for it" if one.kept_id else ""
        print(
            f"correct: {path}: line {one.correction.line}: not applied, since `clean` removed {one.correction.id}"
            f" ({one.rule}{instead})",
            file=sys.stderr,
        )
    write_metrics(METRICS, found, "relabelled", "confirmed", "reviewers")


if __name__ == "__main__":
    run_stage(main)
