"""Clean the texts by named rules, remove what cannot be used, and keep one row of each group of near-duplicates.

Reads `data/ingested/`. Writes `data/clean/`:

- `records.parquet`: the rows kept, with `near_duplicate_group` (the id of the group's kept row);
- `unlabelled.parquet`: with `missing.label: pool`, the rows that wait for a label; the same columns;
- `ratings.parquet`: the ratings of the rows kept;
- `changed.parquet`: a line for each row and each rule that changed it, with the value before and after;
- `removed.parquet`: the rows removed, with the rule and, for duplicates, `kept_id`, the row that stands for them;
- `duplicate_groups.parquet`: every row of a group of more than one, whether it stays, and whether rows of the group
  that say the same have other labels (`labels_differ`); the label is `reference_label` where there is one.

docs/cleaning.md has the order and its reasons. The rules see `text` alone. Rows are worked through in batches by
several processes, from Parquet to Parquet: memory holds a few batches, and for the duplicates the texts.
"""

import shutil
from pathlib import Path
from typing import Any

import polars as pl

from assay.cleaning.redaction_scores import score_redaction
from assay.cleaning.row_cleaning import clean_texts
from assay.cleaning.rules import CleanParams
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_parquet
from assay.core.params import load_params
from assay.core.removed_rows import removed_rows
from assay.core.results import write_metrics
from assay.core.row_batches import joined_parts, row_batches, write_part
from assay.core.seeds import derived_seed, generator
from assay.duplicates.kept_rows import KNOWN_LABEL, find_duplicates, is_held_out
from assay.duplicates.near_duplicates import IDENTICAL, near_matches

INPUT = Path("data/ingested")
RECORDS = INPUT / "records.parquet"
REMOVALS = (
    *("missing_label", "unsettled", "empty_text", "min_characters", "max_characters", "max_tokens", "language"),
    *("conflicting_label", "exact_duplicate", "near_duplicate"),
)
"""Rules that remove rows, in order, beside those of `checks` and `missing`."""
GROUP_COLUMNS = ("near_duplicate_group", "id", "is_kept", "source", "label", "text", "labels_differ")


def remove_duplicates(params: CleanParams, parts: Path, seed: int) -> None:
    """From the parts of `cleaned`: those of `records` (rows that stay), `removed` and `groups`."""
    table = joined_parts(parts / "cleaned")
    held_out = is_held_out(table.collect_schema().names(), RECORDS)
    rows = table.select("id", "text", label=KNOWN_LABEL, held_out=held_out).collect()
    found = find_duplicates(rows, params.near_duplicates, params.on_conflict, (seed, "clean"))
    found = found.with_columns(is_kept=pl.col("rule").is_null(), label=rows["label"])
    start = 0
    for number, batch in enumerate(row_batches(table)):
        # Apart from the columns of the data, which may have any names.
        marked = batch.select("id", "source", "text").hstack(found[start : start + batch.height])
        marked = marked.with_columns(near_duplicate_group=pl.coalesce("group", "id"))
        gone = marked.filter(~pl.col("is_kept"))
        removed = removed_rows(gone, pl.col("rule")).with_columns(kept_id=gone["kept_id"])
        kept = batch.with_columns(marked["near_duplicate_group"]).filter(marked["is_kept"])
        write_part(kept, parts / "records", 0, number)
        write_part(removed, parts / "removed", 1, number)
        write_part(marked.filter(pl.col("group").is_not_null()).select(GROUP_COLUMNS), parts / "groups", 0, number)
        start += batch.height


def fill_pool(params: CleanParams, parts: Path, seed: int) -> pl.DataFrame:
    """The rows that wait for a label; every row without one is also in the parts of `removed`, by the rule that fits.

    A near-duplicate of a labelled row goes whatever its marks, or it might train beside a test row; so does a row that
    the division of the data holds out. Of near-duplicates among the others one stays, as of labelled rows.
    """
    rows = joined_parts(parts / "unlabelled").with_columns(label=pl.lit(None, pl.String)).collect()
    if rows.is_empty():
        return rows.with_columns(near_duplicate_group="id")
    labelled = joined_parts(parts / "records").select("id", "text").collect()
    limits = params.near_duplicates or IDENTICAL
    near = near_matches(rows["text"], labelled["text"], limits)
    stands = near.select(pl.when(pl.col("jaccard") >= limits.min_jaccard).then("index")).to_series()
    marked = rows.select(
        "id", "text", "label", held_out=is_held_out(rows.columns, RECORDS), near=labelled["id"].gather(stands)
    )
    free = marked.filter(~pl.col("held_out"), pl.col("near").is_null())
    found = free.select("id").hstack(find_duplicates(free, params.near_duplicates, "keep", (seed, "clean")))
    marked = marked.join(found, on="id", how="left", maintain_order="left")
    not_free = pl.when("held_out").then(pl.lit("missing_label")).when(pl.col("near").is_not_null())
    rule = pl.coalesce(not_free.then(pl.lit("near_duplicate")), "rule", pl.lit("waits_for_label"))
    kept_id = pl.coalesce("near", pl.when(pl.col("rule").is_not_null()).then("kept_id"))
    removed = removed_rows(marked, rule).with_columns(marked.select(kept_id=kept_id).to_series())
    write_part(removed, parts / "removed", 2, 0)
    group = marked.select(near_duplicate_group=pl.coalesce("group", "id")).to_series()
    return rows.with_columns(group).filter(removed["rule"] == "waits_for_label")


def counts(path: Path, column: str = "rule") -> dict[str, int]:
    """Rows of a Parquet file by the value of a column."""
    return dict(pl.scan_parquet(path).group_by(column).len().sort(column).collect().rows())


def count_groups(rows: pl.LazyFrame) -> int:
    """The near-duplicate groups among some rows."""
    return int(rows.select(pl.col("near_duplicate_group").n_unique()).collect().item())


def measure(params: CleanParams, folder: Path) -> dict[str, Any]:
    """Metrics of the stage, from what it read and wrote; a rule that is on and did nothing is there with 0."""
    records, changed, groups = (folder / f"{name}.parquet" for name in ("records", "changed", "duplicate_groups"))
    removed = counts(folder / "removed.parquet")
    by_rule = counts(changed)
    came, stayed = counts(RECORDS, "source"), counts(records, "source")
    return {
        "rows_in": sum(came.values()),
        "rows_out": sum(stayed.values()),
        "removed": dict.fromkeys(REMOVALS, 0) | removed,
        "changed": {rule: by_rule.pop(rule, 0) for rule, where in params.rules.items() if where} | by_rule,
        # By hash, so that the ids of a million rows need not be held.
        "rows_changed": pl.scan_parquet(changed).select(pl.col("id").hash().n_unique()).collect().item(),
        "sources": {name: {"rows_in": rows, "rows_out": stayed.get(name, 0)} for name, rows in came.items()},
        "near_duplicate_groups": count_groups(pl.scan_parquet(groups)),
        # Of the rows of these groups, those that stay beside the first: they differ in label, marks or wording.
        "near_duplicates_kept": pl.scan_parquet(groups).filter("is_kept").select(pl.len()).collect().item()
        - count_groups(pl.scan_parquet(groups)),
        "near_duplicate_groups_with_conflicting_labels": count_groups(pl.scan_parquet(groups).filter("labels_differ")),
        "labels": counts(records, "label"),
    }


def main() -> None:
    """Run the stage."""
    params = load_params("clean", CleanParams)
    seed = load_params("seed", int)
    with output_folder("data/clean") as folder:
        parts = folder / "parts"
        clean_texts(RECORDS, params, parts)
        if not joined_parts(parts / "cleaned").select(pl.len()).collect().item():
            reasons = dict(joined_parts(parts / "removed").group_by("rule").len().sort("rule").collect().rows())
            raise InputError(f"{RECORDS}: no row is left ({reasons}); correct section `clean` of params.yaml")
        remove_duplicates(params, parts, seed)

        records = joined_parts(parts / "records")
        groups = joined_parts(parts / "groups")
        ratings = pl.scan_parquet(INPUT / "ratings.parquet")
        write_parquet(records, folder / "records.parquet")
        write_parquet(fill_pool(params, parts, seed), folder / "unlabelled.parquet")
        write_parquet(
            ratings.join(records.select("id"), on="id", how="semi", maintain_order="left"), folder / "ratings.parquet"
        )
        write_parquet(joined_parts(parts / "changed"), folder / "changed.parquet")
        write_parquet(joined_parts(parts / "removed"), folder / "removed.parquet")
        write_parquet(
            groups.sort("near_duplicate_group", maintain_order=True).collect(), folder / "duplicate_groups.parquet"
        )
        shutil.rmtree(parts)
        texts = pl.read_parquet(folder / "records.parquet", columns=["text"])["text"]
        random, values = generator(seed, "clean", "planted_rows"), derived_seed(seed, "clean", "planted")
        measured = measure(params, folder) | {"planted": score_redaction(texts, params, random, values)}
    write_metrics("metrics/clean.json", measured, "rows_changed")


if __name__ == "__main__":
    run_stage(main)
