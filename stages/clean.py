"""Clean the texts by named rules, set aside what cannot be used, and keep one row of each group of near duplicates.

Reads `data/ingested/`. Writes `data/clean/`:

- `records.parquet`: the rows kept, with `near_duplicate_group` (the id of the group's kept row);
- `ratings.parquet`: the ratings of the rows kept;
- `changed.parquet`: a line for each row and each rule that changed it, with the value before and after;
- `removed.parquet`: the rows removed, with the rule and, for duplicates, `kept_id`, the row that stands for them;
- `duplicate_groups.parquet`: every row of a group of more than one, and whether the labels of its group differ;
- `boilerplate.parquet`: the lines that `remove_boilerplate` took for such, with the share of documents that have them.

The order, and why (docs/cleaning.md says more): values are checked before anything is done to them, so that a text too
long to handle costs nothing; missing values are filled in or their rows set aside; the rules run, in the order of the
params, until nothing changes; then rows go that are empty, too short, too long, in another language; duplicates come
last, since two rows are often alike only once both are clean. Of each group the first row in the order of the data
stays; that its labels differ is counted and listed, and left to a person.

The rules see `text` alone. Rows are worked through in batches by several processes, from Parquet to Parquet: memory
holds a few batches, and for the duplicates the texts and their signatures.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from assay.cleaning.boilerplate import BOILERPLATE_SCHEMA, frequent_lines
from assay.cleaning.column_checks import ColumnCheck, is_missing
from assay.cleaning.row_cleaning import cleaned, prepared, slices, usable, write_cleaned
from assay.cleaning.rule_chain import with_settings
from assay.cleaning.rules import (
    BOILERPLATE,
    RULES,
    CleanParams,
    Constant,
    NearDuplicateParams,
    Policy,
    chosen_rules,
    with_boilerplate,
)
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json, write_parquet
from assay.core.params import load_params
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.core.row_batches import joined_parts, parts_of, row_batches, write_part
from assay.core.seeds import derived_seed, generator
from assay.duplicates.linking import near_duplicate_groups
from assay.personal_data.pii_benchmark import plant, score

INPUT = Path("data/ingested")
RECORDS = INPUT / "records.parquet"
REMOVED_WITH_KEPT = pl.Schema([*REMOVED_SCHEMA.items(), ("kept_id", pl.String)])
REDACTION = "redact_"
REMOVALS = (
    "missing_label",
    "unsettled",
    "empty_text",
    "min_characters",
    "max_characters",
    "max_tokens",
    "language",
    "exact_duplicate",
    "near_duplicate",
)
"""Rules that remove rows, in order, beside those of `checks` and `missing`."""
GROUP_COLUMNS = ("near_duplicate_group", "id", "is_kept", "source", "label", "text")
UNKNOWN = "unknown"
"""The class that a missing value gets under the policy of that name."""
PLANTED_AMONG_ROWS = 2_000
"""Personal data is planted in this many rows at most."""


def clean_texts(path: Path, params: CleanParams, parts: Path) -> pl.DataFrame:
    """Write the rows that can be used, clean, as parts of `records-2`, and what was changed and removed beside them.

    Returns:
        The lines that were taken for boilerplate (`BOILERPLATE_SCHEMA`); none where its rule is off.
    """
    table = pl.scan_parquet(path)
    rules = chosen_rules(params, table.select("source").unique().collect().to_series().sort().to_list())
    check_columns(table.collect_schema().names(), params)
    checks = {
        name: ColumnCheck(None if check.allowed is None else tuple(check.allowed), check.pattern, check.max_characters)
        for name, check in params.checks.items()
    }
    values, removals = missing_values(table, params.missing)
    prepare = partial(prepared, checks=checks, values=values, removals=removals)
    finish = partial(
        usable,
        min_characters=params.min_characters,
        max_characters=params.max_characters,
        tokenizer=Path(params.max_tokens.tokenizer),
        max_tokens=params.max_tokens.tokens,
        languages=params.languages.model_dump() if params.languages else None,
    )
    names = [rule.name for rule in rules]
    if BOILERPLATE not in names:
        write_cleaned(slices(table), [prepare, partial(cleaned, rules=rules), finish], parts, 2)
        return pl.DataFrame(schema=BOILERPLATE_SCHEMA)
    # A line is only seen once markup is gone; so the rules before run first, on all rows.
    at = names.index(BOILERPLATE)
    write_cleaned(slices(table), [prepare, partial(cleaned, rules=rules[:at])], parts, 1)
    first = parts_of(parts / "records-1")
    scope = rules[at].sources
    is_in_scope = pl.lit(True) if scope is None else pl.col("source").is_in(sorted(scope))
    in_scope = [part.filter(is_in_scope).select("source", "text") for part in first]
    lines = frequent_lines(lambda: (part.collect() for part in in_scope), **params.boilerplate.model_dump())
    write_cleaned(first, [partial(cleaned, rules=with_boilerplate(rules, lines), settled=at), finish], parts, 2)
    shutil.rmtree(parts / "records-1")
    return lines


def check_columns(columns: Sequence[str], params: CleanParams) -> None:
    """Stop where a block of the params names a column that is not there.

    Raises:
        InputError: names the column, and those that there are.
    """
    for block, named in (("checks", params.checks), ("missing", params.missing)):
        if unknown := [column for column in named if column not in columns]:
            raise InputError(
                f"params.yaml: `clean.{block}.{unknown[0]}`: {RECORDS} has no such column; there are {list(columns)}"
            )


def missing_values(
    table: pl.LazyFrame, policies: Mapping[str, Policy | Constant]
) -> tuple[dict[str, str], dict[str, str]]:
    """The policies as `values` and `removals` of `fill_missing`.

    Raises:
        InputError: a column has no value to take the most frequent of.
    """
    values, removals = {}, {}
    for column, policy in policies.items():
        if isinstance(policy, Constant):
            values[column] = policy.constant
        elif policy == "unknown":
            values[column] = UNKNOWN
        elif policy == "mode":
            counts = table.filter(~is_missing(column)).group_by(column).len()
            mode = counts.sort(["len", column], descending=[True, False]).head(1).collect()
            if not mode.height:
                raise InputError(
                    f"params.yaml: `clean.missing.{column}` = 'mode': no row of {RECORDS} has a value there"
                )
            values[column] = mode[column][0]
        elif policy != "keep":
            removals[column] = f"review_missing_{column}" if policy == "review" else f"missing_{column}"
    return values, removals


def remove_duplicates(params: NearDuplicateParams, parts: Path) -> None:
    """From the parts of `records-2`: those of `records` (rows that stay), `removed` and `groups`."""
    table = joined_parts(parts / "records-2")
    rows = table.select("id", "text").collect()
    first = near_duplicate_groups(rows["text"], **params.model_dump())
    is_first = rows["text"].is_first_distinct()
    in_group = np.bincount(first, minlength=len(first))[first] > 1
    start = 0
    for number, batch in enumerate(row_batches(table)):
        span = slice(start, start + batch.height)
        marked = batch.with_columns(
            near_duplicate_group=rows["id"].gather(pl.Series(first[span])),
            is_kept=pl.Series(first[span] == np.arange(span.start, span.stop)),
            rule=pl.when(is_first[span]).then(pl.lit("near_duplicate")).otherwise(pl.lit("exact_duplicate")),
        )
        gone = marked.filter(~pl.col("is_kept")).with_columns(
            before="text", after=pl.lit(None, pl.String), kept_id="near_duplicate_group"
        )
        write_part(marked.filter("is_kept").drop("is_kept", "rule"), parts / "records", 0, number)
        write_part(gone.select(REMOVED_WITH_KEPT.names()), parts / "removed", 3, number)
        write_part(marked.filter(pl.Series(in_group[span])).select(GROUP_COLUMNS), parts / "groups", 0, number)
        start = span.stop


def summary(measured: dict[str, Any]) -> str:
    """What the stage did, in two lines for the terminal."""
    removed = ", ".join(f"{rows:,} {rule}" for rule, rows in measured["removed"].items() if rows)
    changed = ", ".join(f"{rows:,} {rule}" for rule, rows in measured["changed"].items() if rows)
    return (
        f"clean: {measured['rows_in']:,} rows in, {measured['rows_out']:,} out; removed: {removed or 'none'}\n"
        f"clean: {measured['rows_changed']:,} rows changed; changes: {changed or 'none'}"
    )


def planted_scores(texts: pl.Series, params: CleanParams, seed: int) -> dict[str, dict[str, float]]:
    """Precision and recall, by kind, of the redaction rules that are on, on personal data planted in clean rows.

    A rule that is for some sources alone is tried on the rows of all.

    Args:
        texts: of the rows kept.
        params: of the stage.
        seed: of the project.
    """
    settings = params.rule_settings.model_dump()
    rules = {
        name.removeprefix(REDACTION): with_settings(RULES[name], settings)
        for name, where in params.rules.items()
        if where and name.startswith(REDACTION) and name in RULES
    }
    if not rules:
        return {}
    draws = generator(seed, "clean", "planted_rows")
    rows = np.sort(draws.permutation(len(texts))[:PLANTED_AMONG_ROWS])
    planted = plant(texts.gather(rows), params.planted_rows_per_kind, derived_seed(seed, "clean", "planted"))

    def redact(texts: pl.Series) -> pl.Series:
        for rule in rules.values():
            texts = texts.to_frame("text").select(rule(pl.col("text"))).to_series()
        return texts

    scores = score(planted, redact)
    return {kind: scores[kind] for kind in rules if kind in scores}


def counts(path: Path, column: str = "rule") -> dict[str, int]:
    """Rows of a Parquet file by the value of a column."""
    return dict(pl.scan_parquet(path).group_by(column).len().sort(column).collect().rows())


def metrics(params: CleanParams, folder: Path) -> dict[str, Any]:
    """Numbers of the stage, from what it read and wrote; every rule that is on is there, with 0 where it did nothing.

    Args:
        params: of the stage.
        folder: holds its output.
    """
    records, changed, groups = (folder / f"{name}.parquet" for name in ("records", "changed", "duplicate_groups"))
    removed = counts(folder / "removed.parquet")
    by_rule = counts(changed)
    came, stayed = counts(RECORDS, "source"), counts(records, "source")
    conflicts = pl.scan_parquet(groups).filter("labels_differ").select(pl.col("near_duplicate_group").n_unique())
    return {
        "rows_in": sum(came.values()),
        "rows_out": sum(stayed.values()),
        "removed": dict.fromkeys(REMOVALS, 0) | removed,
        "changed": {rule: by_rule.pop(rule, 0) for rule, where in params.rules.items() if where} | by_rule,
        # By hash, so that the ids of a million rows need not be held.
        "rows_changed": pl.scan_parquet(changed).select(pl.col("id").hash().n_unique()).collect().item(),
        "sources": {name: {"rows_in": rows, "rows_out": stayed.get(name, 0)} for name, rows in came.items()},
        "boilerplate_lines": pl.read_parquet(folder / "boilerplate.parquet", columns=["line"]).height,
        "near_duplicate_groups": pl.scan_parquet(groups)
        .select(pl.col("near_duplicate_group").n_unique())
        .collect()
        .item(),
        "near_duplicate_groups_with_conflicting_labels": conflicts.collect().item(),
        "labels": counts(records, "label"),
    }


def main() -> None:
    """Run the stage."""
    params = load_params("clean", CleanParams)
    seed = load_params("seed", int)
    with output_folder("data/clean") as folder:
        parts = folder / "parts"
        lines = clean_texts(RECORDS, params, parts)
        if not joined_parts(parts / "records-2").select(pl.len()).collect().item():
            reasons = dict(joined_parts(parts / "removed").group_by("rule").len().sort("rule").collect().rows())
            raise InputError(f"{RECORDS}: no row is left ({reasons}); correct section `clean` of params.yaml")
        remove_duplicates(params.near_duplicates, parts)

        records = joined_parts(parts / "records")
        groups = joined_parts(parts / "groups").with_columns(
            labels_differ=pl.col("label").n_unique().over("near_duplicate_group") > 1
        )
        ratings = pl.scan_parquet(INPUT / "ratings.parquet")
        write_parquet(records, folder / "records.parquet")
        write_parquet(
            ratings.join(records.select("id"), on="id", how="semi", maintain_order="left"), folder / "ratings.parquet"
        )
        write_parquet(joined_parts(parts / "changed"), folder / "changed.parquet")
        write_parquet(joined_parts(parts / "removed"), folder / "removed.parquet")
        write_parquet(
            groups.sort("near_duplicate_group", maintain_order=True).collect(), folder / "duplicate_groups.parquet"
        )
        write_parquet(lines, folder / "boilerplate.parquet")
        shutil.rmtree(parts)
        measured = metrics(params, folder)
        texts = pl.read_parquet(folder / "records.parquet", columns=["text"])["text"]
        measured["planted"] = planted_scores(texts, params, seed)
    write_json("metrics/clean.json", measured)
    print(summary(measured))


if __name__ == "__main__":
    run_stage(main)
