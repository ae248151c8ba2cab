"""Which split each group of rows is in: drawn by a keyed hash of the group, with no split of a label left empty.

The draw of a group depends on its name alone, so old rows stay where they are when rows are added; for its limits see
docs/cleaning.md, "Semantic duplicates".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from assay.core.errors import InputError
from assay.core.params import Params
from assay.core.seeds import keyed_uniform

SPLITS = ("train", "validation", "test")
IDS_SHOWN = 5
"""Row ids that an error names for each label."""


class SplitParams(Params):
    """The `split` section of `params.yaml`.

    Attributes:
        group_column: rows of one value of this column go to one split; null: none.
        large_group_share: a group with more of a label's rows is assigned before the others of the label.
        given_column: the division that the data brings, `given_values` from its values to splits; null: none.
    """

    group_column: str | None
    large_group_share: float = Field(gt=0, le=1)
    given_column: str | None
    given_values: dict[str, Literal["train", "validation", "test"]] = Field(min_length=1)
    train_fraction: float = Field(gt=0, lt=1)
    validation_fraction: float = Field(gt=0, lt=1)
    test_fraction: float = Field(gt=0, lt=1)
    rare_labels: Literal["error", "remove"]

    @property
    def fractions(self) -> dict[str, float]:
        """The fraction of each split."""
        return dict(zip(SPLITS, (self.train_fraction, self.validation_fraction, self.test_fraction), strict=True))

    @model_validator(mode="after")
    def _sum_to_one(self) -> "SplitParams":
        total = sum(self.fractions.values())
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the three fractions must sum to 1, and sum to {total:g}")
        return self


@dataclass(frozen=True)
class Assignment:
    """The rows with their `split`, and what is to be said of it.

    `large` are the groups above `large_group_share`, as of `strata`; `forced` is the number of groups, by label, that
    are not in the split of their draw, so that none is empty.
    """

    rows: pl.DataFrame
    large: pl.DataFrame
    forced: dict[str, int]
    messages: list[str]


def strata(records: pl.DataFrame) -> pl.DataFrame:
    """By `split_group`: `stratum`, the label that decides, `rows`, and `share`, the largest that they are of a label.

    Of several labels the one decides that the fewest groups have. A single row has no share, however rare its label.
    """
    counted = (
        records.group_by("split_group", "label")
        .len("rows")
        .with_columns(of_label=pl.col("rows").sum().over("label"), groups=pl.len().over("label"))
    )
    share = pl.when(pl.col("rows") > 1).then(pl.col("rows") / pl.col("of_label")).otherwise(0.0).max()
    by_group = counted.sort("split_group", "groups", "label").group_by("split_group", maintain_order=True)
    return by_group.agg(stratum=pl.col("label").first(), rows=pl.col("rows").sum(), share=share)


def rare_label_rows(records: pl.DataFrame) -> pl.DataFrame:
    """The rows whose label is in fewer groups than there are splits."""
    return records.filter(pl.col("split_group").n_unique().over("label") < len(SPLITS))


def refuse_rare_labels(rare: pl.DataFrame, path: Path, what: str, needed: str, fix: str) -> None:
    """Raise `InputError` where there are labels that do not have what is `needed`; names each, its rows and the fix.

    `what` a label is called, such as `label`; `fix` is what can be done besides adding rows and removing them.
    """
    if rare.is_empty():
        return
    lines = []
    for (label,), part in sorted(rare.partition_by("label", as_dict=True).items()):
        ids = part["id"].head(IDS_SHOWN).to_list() + (["…"] if part.height > IDS_SHOWN else [])
        lines.append(f"\n  {what} {label!r}: {part.height} row(s): {', '.join(ids)}")
    raise InputError(
        f"{path}: a {what} needs {needed}:{''.join(lines)}\nAdd rows, correct the {what} (a misspelling?), {fix},"
        " or set `split.rare_labels: remove`"
    )


def assign(records: pl.DataFrame, params: SplitParams, seed: int) -> Assignment:
    """Give each group of the records (`split_group`, `label`) its split; each label has at least three groups."""
    groups = strata(records)
    drawn = groups.with_columns(
        keyed_uniform(groups["split_group"], seed, "split").alias("draw"),
        is_large=pl.col("share") > params.large_group_share,
    )
    parts, forced, messages = [], dict[str, int](), list[str]()
    for (label,), part in sorted(drawn.partition_by("stratum", as_dict=True).items()):
        wanted = {name: fraction * int(part["rows"].sum()) for name, fraction in params.fractions.items()}
        large = part.filter("is_large").sort(-pl.col("rows").cast(pl.Int64), "split_group")
        splits = list[str]()
        for place, (group, rows, share) in enumerate(large.select("split_group", "rows", "share").iter_rows()):
            empty = [name for name in SPLITS if name not in splits]
            splits.append(max(empty if part.height - place <= len(empty) else SPLITS, key=lambda name: wanted[name]))
            wanted[splits[-1]] -= rows
            messages.append(f"group {group!r} has {share:.0%} of the rows of a label: assigned first, to {splits[-1]}")
        parts.append(large.with_columns(split=pl.Series(splits, dtype=pl.String)))
        rest = part.filter(~pl.col("is_large")).sort("draw", "split_group")
        # Once a large group is assigned, the others fill up what is left.
        left = {name: max(rows, 0.0) for name, rows in wanted.items()} if splits else params.fractions
        total = sum(left.values())
        train = rest.filter(pl.col("draw") * total < left["train"]).height
        up_to_validation = rest.filter(pl.col("draw") * total < left["train"] + left["validation"]).height
        # Splits are stretches of the order of draws: moving the two cuts as little as will do leaves none empty.
        needs = [int(name not in splits and part.height >= len(SPLITS)) for name in SPLITS]
        first_cut = min(max(train, needs[0]), rest.height - needs[1] - needs[2])
        second_cut = min(max(up_to_validation, first_cut + needs[1]), rest.height - needs[2])
        placed = rest.with_columns(_by_rank(first_cut, second_cut, rest.height))
        if moved := int((placed["split"] != _by_rank(train, up_to_validation, rest.height)).sum()):
            forced[str(label)] = moved
            messages.append(f"label {label!r} is small: {moved} of its groups moved so that every split has it")
        parts.append(placed)
    placed = pl.concat(parts)
    rows = records.join(placed.select("split_group", "split"), on="split_group", how="left", maintain_order="left")
    return Assignment(rows, placed.filter("is_large").select(*groups.columns, "split"), forced, messages)


def _by_rank(first_cut: int, second_cut: int, rows: int) -> pl.Series:
    """Split of each of so many sorted rows: train up to the first cut, validation up to the second, then test."""
    return pl.Series("split", np.repeat(SPLITS, np.diff([0, first_cut, second_cut, rows])), dtype=pl.String)
