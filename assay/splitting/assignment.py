"""Which split each group of rows is in: drawn by a keyed hash of the group within its label, with no split left empty.

The draw of a group depends on its name and its label alone, so old rows stay where they are when rows are added; see
the stage `split` for what this means, and for its limits.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field, model_validator

from assay.core.errors import InputError
from assay.core.params import Params
from assay.core.seeds import keyed_uniform

SPLITS = ("train", "validation", "test")
IDS_SHOWN = 5
"""Row ids that an error names for each label."""


class SplitParams(Params):
    """The `split` section of `params.yaml`."""

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
    """`groups`: a row per semantic group with its `semantic_group`, `stratum` (label) and `split`.

    `forced` is the number of groups, by label, that are not in the split of their draw, so that none is empty.
    """

    groups: pl.DataFrame
    forced: dict[str, int]


def strata(records: pl.DataFrame) -> pl.DataFrame:
    """The label (`stratum`) that decides for each semantic group: that of the row it is named after, else of its first.

    `given_stratum` is the label before corrections. A row per group, in the order of the records.
    """
    own_row_first = records.select(
        "semantic_group",
        pl.col("label").alias("stratum"),
        pl.coalesce("given_label", "label").alias("given_stratum"),
        (pl.col("id") != pl.col("semantic_group")).alias("is_other"),
    ).sort("is_other", maintain_order=True)
    decided = own_row_first.unique("semantic_group", keep="first").drop("is_other")
    groups = records.select("semantic_group").unique(maintain_order=True)
    return groups.join(decided, on="semantic_group", maintain_order="left")


def rare_label_rows(records: pl.DataFrame) -> pl.DataFrame:
    """The rows whose label decides for fewer groups than there are splits."""
    groups = strata(records)["stratum"].value_counts()
    common = groups.filter(pl.col("count") >= len(SPLITS)).select(pl.col("stratum").alias("label"))
    return records.join(common, on="label", how="anti", maintain_order="left")


def refuse_rare_labels(rare: pl.DataFrame, path: Path, what: str, fix: str) -> None:
    """Raise `InputError` where there are labels that cannot be in every split; names each, its rows and the fix.

    `what` a label is called, such as `label`; `fix` is what can be done besides adding rows and removing them.
    """
    if rare.is_empty():
        return
    lines = []
    for (label,), part in sorted(rare.partition_by("label", as_dict=True).items()):
        ids = part["id"].head(IDS_SHOWN).to_list() + (["…"] if part.height > IDS_SHOWN else [])
        lines.append(f"\n  {what} {label!r}: {part.height} row(s): {', '.join(ids)}")
    raise InputError(
        f"{path}: a {what} needs at least {len(SPLITS)} rows that are no duplicates, to be in train, validation"
        f" and test:{''.join(lines)}\nAdd rows, correct the {what} (a misspelling?), {fix},"
        " or set `split.rare_labels: remove`"
    )


def assign(groups: pl.DataFrame, train_fraction: float, validation_fraction: float, seed: int) -> Assignment:
    """Give each group its split; each stratum of `groups`, which are as `strata` gives them, has at least three."""
    drawn = pl.concat(
        part.with_columns(keyed_uniform(part["semantic_group"], seed, "split", str(label)).alias("draw"))
        for (label,), part in groups.partition_by("given_stratum", as_dict=True).items()
    )
    parts, forced = [], {}
    for (label,), part in sorted(drawn.partition_by("stratum", as_dict=True).items()):
        by_draw = part.sort("draw", "semantic_group")
        train = by_draw.filter(pl.col("draw") < train_fraction).height
        up_to_validation = by_draw.filter(pl.col("draw") < train_fraction + validation_fraction).height
        # Splits are stretches of the order of draws: moving the two cuts as little as will do leaves none empty.
        first_cut = min(max(train, 1), by_draw.height - 2)
        second_cut = min(max(up_to_validation, first_cut + 1), by_draw.height - 1)
        placed = by_draw.with_columns(
            _by_rank(train, up_to_validation).alias("split_of_draw"), _by_rank(first_cut, second_cut).alias("split")
        )
        moved = placed.filter(pl.col("split") != pl.col("split_of_draw")).height
        if moved:
            forced[str(label)] = moved
        parts.append(placed.select("semantic_group", "stratum", "split"))
    return Assignment(pl.concat(parts), forced)


def _by_rank(first_cut: int, second_cut: int) -> pl.Expr:
    """Split of each row of a sorted table: train up to the first cut, validation up to the second, then test."""
    rank = pl.int_range(pl.len())
    validation_or_test = pl.when(rank < second_cut).then(pl.lit("validation")).otherwise(pl.lit("test"))
    return pl.when(rank < first_cut).then(pl.lit("train")).otherwise(validation_or_test)
