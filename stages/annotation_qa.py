"""How far the annotators agree, what most of them say, and how far one of them can be trusted.

Decides: the consensus label of each row, and whether the annotators agree enough to go on (`min_krippendorff_alpha`).
Changes no label and removes no row.

Reads `data/semantic_duplicates/records.parquet` and `data/clean/ratings.parquet`; writes `data/annotation_qa/`:

- `records.parquet`: the same rows and columns + `consensus_label`, `annotator_agreement`, `ratings`;
- `annotators.parquet`: `annotator`, `ratings`, `ratings_with_others` (of rows that others rated, too), `accuracy` (the
  share of those that give the label most of the others give; null where undefined);
- `disagreement.parquet`: the rows with several ratings, the most disputed first, with their texts: what the guidelines
  do not settle. `disagreement.csv` is its top for people; a cell that a spreadsheet would run as a formula starts with
  an apostrophe there.

How to read the metrics: docs/pipeline.md, "Agreement of annotators".

When the annotators agree less than the gate allows, everything is written, so that it can be looked at; then it fails.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from assay.annotation.quality import AnnotationQaParams, Quality, measure_quality, render_messages
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_parquet
from assay.core.params import load_params
from assay.core.results import write_metrics
from assay.core.seeds import generator

RECORDS = Path("data/semantic_duplicates/records.parquet")
RATINGS = Path("data/clean/ratings.parquet")
OUTPUT = Path("data/annotation_qa")
METRICS = Path("metrics/annotation_qa.json")
GATE = "krippendorff_alpha_nominal"
DISPUTED_IN_ERROR = 5
TEXT_IN_ERROR_CHARACTERS = 120
FORMULA_START = r"^([=+@\t\r-])"


def check_ratings(ratings: pl.DataFrame, label_order: list[str] | None) -> None:
    """Raise `InputError` where a label is not among those in order."""
    if label_order is None:
        return
    unknown = sorted(set(ratings["label"].unique()) - set(label_order))
    if unknown:
        row = ratings.filter(pl.col("label") == unknown[0]).row(0, named=True)
        raise InputError(
            f"{RATINGS}: row {row['id']!r} has the label {unknown[0]!r} from annotator {row['annotator']!r}, which is "
            f"not in `annotation_qa.label_order` = {label_order} of params.yaml; put {unknown} where they belong in "
            "the order, or write null where labels have none"
        )


def gate_failure(found: Quality, min_krippendorff_alpha: float) -> str | None:
    """Why the annotators do not agree enough, in a sentence; None where they do or nothing can be said."""
    alpha = found.overall.get(GATE)
    if alpha is None or alpha.value >= min_krippendorff_alpha:
        return None
    sources = sorted((estimates[GATE].value, name) for name, estimates in found.per_source.items() if GATE in estimates)
    values = {"gate": min_krippendorff_alpha, "alpha": alpha, "sources": sources, "folder": OUTPUT}
    disputed = found.disputed.head(DISPUTED_IN_ERROR).to_dicts()
    return render_messages(values | {"disputed": disputed, "most": TEXT_IN_ERROR_CHARACTERS})


def report_gaps(records: pl.DataFrame, annotators: pl.DataFrame, like_the_others: dict[str, Any]) -> None:
    """Say for which rows and annotators there was nothing to measure, and which are no annotators, it seems."""
    values: dict[str, Any] = {"rows": records.height, "annotators": annotators.height}
    values |= {"rated": (records["ratings"] > 0).sum(), "several": (records["ratings"] > 1).sum()}
    values["alone"] = annotators.filter(pl.col("ratings_with_others") == 0)["annotator"].to_list()
    for line in render_messages(values | {"like_the_others": like_the_others}).splitlines():
        print(f"annotation_qa: {line}", file=sys.stderr)


def main() -> None:
    """Measure agreement, add the consensus label, and stop where the annotators agree too little."""
    params = load_params("annotation_qa", AnnotationQaParams)
    seed = load_params("seed", int)
    given = pl.read_parquet(RECORDS)
    # Rows may have been removed since the ratings were cleaned.
    ratings = pl.read_parquet(RATINGS).filter(pl.col("label").is_not_null()).join(given, on="id", how="semi")
    ratings = ratings.sort("id", "annotator")
    check_ratings(ratings, params.label_order)
    found = measure_quality(given, ratings, params, partial(generator, seed, "annotation_qa"))
    report_gaps(found.records, found.annotators, found.metrics.get("like_the_others", {}))

    with output_folder(OUTPUT) as folder:
        write_parquet(found.records, folder / "records.parquet")
        write_parquet(found.annotators, folder / "annotators.parquet")
        write_parquet(found.disputed, folder / "disagreement.parquet")
        top = found.disputed.head(params.disputed_rows)
        # No cell is a formula to a spreadsheet.
        top.with_columns(pl.col(pl.String).str.replace(FORMULA_START, "'${1}")).write_csv(
            folder / "disagreement.csv", float_precision=4
        )
    write_metrics(METRICS, found.metrics, "ratings", "krippendorff_alpha_nominal", "label_agrees_with_reference")

    if params.min_krippendorff_alpha is None:
        return
    if GATE not in found.overall and found.metrics.get("rows_with_several_ratings"):
        message = "all ratings are one label, so Krippendorff's alpha is undefined, and the gate lets them pass"
        print(f"annotation_qa: {message}", file=sys.stderr)
    if failure := gate_failure(found, params.min_krippendorff_alpha):
        raise InputError(failure)


if __name__ == "__main__":
    run_stage(main)
