"""Clean the texts by named rules, and keep one row of each group of near duplicates.

Reads `data/ingested/`. Writes `data/clean/`:

- `records.parquet`: the rows kept, with `near_duplicate_group` (the id of the group's kept row);
- `ratings.parquet`: the ratings of the rows kept;
- `changed.parquet`: a line for each row and each rule that changed its text, with the text before and after;
- `removed.parquet`: the rows removed, with the rule and, for duplicates, `kept_id`, the row that stands for them.

The rules are applied to `text` in the order of the params; a `response` is not touched, because its line ends may be
part of it. Then rows are removed that are empty, too short or too long, or without a label, then duplicates: of each
group the first row in the order of the data stays. A duplicate is exact if the cleaned text is the same to the letter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
from pydantic import Field, field_validator, model_validator

from stages.lib.artifacts import REMOVED_SCHEMA, output_folder, write_json, write_parquet
from stages.lib.errors import InputError, run_stage
from stages.lib.near_duplicates import near_duplicate_groups
from stages.lib.params import Params, load_params
from stages.lib.text_rules import RULES

INPUT = Path("data/ingested")
REMOVED_WITH_KEPT = pl.Schema([*REMOVED_SCHEMA.items(), ("kept_id", pl.String)])


class NearDuplicateParams(Params):
    """Block `clean.near_duplicates`."""

    shingle_characters: Annotated[int, Field(ge=1, le=100)]
    permutations: Annotated[int, Field(ge=16, le=4096)]
    min_jaccard: Annotated[float, Field(gt=0, le=1)]


class CleanParams(Params):
    """Section `clean`."""

    rules: list[str]
    min_characters: Annotated[int, Field(ge=1)]
    max_characters: Annotated[int, Field(ge=1)]
    near_duplicates: NearDuplicateParams

    @field_validator("rules")
    @classmethod
    def _known(cls, rules: list[str]) -> list[str]:
        if unknown := [rule for rule in rules if rule not in RULES]:
            raise ValueError(f"no rule {unknown[0]!r}; stages/lib/text_rules.py has {list(RULES)}")
        if len(set(rules)) < len(rules):
            raise ValueError("a rule is named twice")
        return rules

    @model_validator(mode="after")
    def _lengths(self) -> "CleanParams":
        if self.min_characters > self.max_characters:
            raise ValueError(f"min_characters {self.min_characters} is more than max_characters {self.max_characters}")
        return self


@dataclass(frozen=True)
class Changed:
    """Records after the rules, and a line for each row and rule that changed it (`REMOVED_SCHEMA`)."""

    records: pl.DataFrame
    changed: pl.DataFrame


@dataclass(frozen=True)
class Kept:
    """Records kept, and those removed (`REMOVED_WITH_KEPT`)."""

    records: pl.DataFrame
    removed: pl.DataFrame


@dataclass(frozen=True)
class Deduplicated:
    """Records kept, one for each group, and the others.

    Attributes:
        records: the rows kept, with `near_duplicate_group`.
        removed: `REMOVED_WITH_KEPT`.
        groups: number of groups of more than one row.
        conflicting_groups: those of them whose rows have more than one label.
    """

    records: pl.DataFrame
    removed: pl.DataFrame
    groups: int
    conflicting_groups: int


def apply_rules(records: pl.DataFrame, rules: Sequence[str]) -> Changed:
    """Apply rules to `text`, one after the other."""
    changed = [pl.DataFrame(schema=REMOVED_SCHEMA)]
    for rule in rules:
        after = records.with_columns(after=RULES[rule](pl.col("text")))
        changed.append(
            after.filter(pl.col("after") != pl.col("text"))
            .with_columns(rule=pl.lit(rule), before=pl.col("text"))
            .select(REMOVED_SCHEMA.names())
        )
        records = after.with_columns(text=pl.col("after")).drop("after")
    return Changed(records, pl.concat(changed))


def remove_unusable(records: pl.DataFrame, min_characters: int, max_characters: int) -> Kept:
    """Remove rows without text, with too little or too much of it, or without a label; the first rule that fits counts.

    Args:
        records: with `id`, `text` and `label`.
        min_characters: a shorter text is removed.
        max_characters: a longer text is removed.
    """
    length = pl.col("text").str.len_chars()
    rule = (
        pl.when(length == 0)
        .then(pl.lit("empty_text"))
        .when(length < min_characters)
        .then(pl.lit("min_characters"))
        .when(length > max_characters)
        .then(pl.lit("max_characters"))
        .when(pl.col("label").is_null())
        .then(pl.lit("no_label"))
    )
    marked = records.with_columns(rule=rule)
    return Kept(
        records=marked.filter(pl.col("rule").is_null()).drop("rule"),
        removed=as_removed(marked.filter(pl.col("rule").is_not_null()), pl.lit(None, pl.String)),
    )


def remove_duplicates(
    records: pl.DataFrame, shingle_characters: int, permutations: int, min_jaccard: float
) -> Deduplicated:
    """Keep the first row of each group of near duplicates; the params are those of `near_duplicate_groups`."""
    first = near_duplicate_groups(
        records["text"], shingle_characters=shingle_characters, permutations=permutations, min_jaccard=min_jaccard
    )
    grouped = records.with_columns(
        near_duplicate_group=records["id"].gather(pl.Series(first)),
        rule=pl.when(pl.col("text").is_first_distinct())
        .then(pl.lit("near_duplicate"))
        .otherwise(pl.lit("exact_duplicate")),
    )
    is_kept = pl.col("near_duplicate_group") == pl.col("id")
    groups = (
        grouped.group_by("near_duplicate_group", maintain_order=True)
        .agg(pl.len().alias("rows"), pl.col("label").n_unique().alias("labels"))
        .filter(pl.col("rows") > 1)
    )
    return Deduplicated(
        records=grouped.filter(is_kept).drop("rule"),
        removed=as_removed(grouped.filter(~is_kept), pl.col("near_duplicate_group")),
        groups=groups.height,
        conflicting_groups=groups.filter(pl.col("labels") > 1).height,
    )


def as_removed(rows: pl.DataFrame, kept_id: pl.Expr) -> pl.DataFrame:
    """Rows with `rule` in the form of `REMOVED_WITH_KEPT`."""
    return rows.with_columns(before=pl.col("text"), after=pl.lit(None, pl.String), kept_id=kept_id).select(
        REMOVED_WITH_KEPT.names()
    )


def metrics(
    rows_in: int, rules: Sequence[str], changed: pl.DataFrame, removed: pl.DataFrame, unique: Deduplicated
) -> dict[str, object]:
    """Numbers of the stage; every rule is there, with 0 where it did nothing."""
    removal = ("empty_text", "min_characters", "max_characters", "no_label", "exact_duplicate", "near_duplicate")
    labels = unique.records["label"].value_counts().sort("label")
    return {
        "rows_in": rows_in,
        "rows_out": unique.records.height,
        "removed": {rule: (removed["rule"] == rule).sum() for rule in removal},
        "changed": {rule: (changed["rule"] == rule).sum() for rule in rules},
        "rows_changed": changed["id"].n_unique(),
        "near_duplicate_groups": unique.groups,
        "near_duplicate_groups_with_conflicting_labels": unique.conflicting_groups,
        "labels": dict(labels.rows()),
    }


def main() -> None:
    """Run the stage."""
    params = load_params("clean", CleanParams)
    near = params.near_duplicates
    records = pl.read_parquet(INPUT / "records.parquet")
    ratings = pl.read_parquet(INPUT / "ratings.parquet")

    cleaned = apply_rules(records, params.rules)
    usable = remove_unusable(cleaned.records, params.min_characters, params.max_characters)
    unique = remove_duplicates(usable.records, near.shingle_characters, near.permutations, near.min_jaccard)
    removed = pl.concat([usable.removed, unique.removed])
    if not unique.records.height:
        counts = dict(removed["rule"].value_counts().sort("rule").rows())
        raise InputError(
            f"{INPUT / 'records.parquet'}: no row of {records.height} is left ({counts}); "
            "correct section `clean` of params.yaml"
        )

    with output_folder("data/clean") as folder:
        write_parquet(unique.records, folder / "records.parquet")
        write_parquet(
            ratings.join(unique.records, on="id", how="semi", maintain_order="left"), folder / "ratings.parquet"
        )
        write_parquet(cleaned.changed, folder / "changed.parquet")
        write_parquet(removed, folder / "removed.parquet")
    write_json("metrics/clean.json", metrics(records.height, params.rules, cleaned.changed, removed, unique))


if __name__ == "__main__":
    run_stage(main)
