"""What the report says of altered texts: augmented train rows, and test rows altered to measure robustness."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from assay.report.examples import Example, RuleExamples, mark_difference

EXAMPLES_SHOWN = 6
"""Augmented examples of each recipe."""
ATTACKS_SHOWN = 1
"""Attacks that succeeded, of each kind on each approach."""


def count_recipes(augment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What became of the examples of each recipe: `made`, `removed` by reason, `let_in` (among the train rows)."""
    return [
        {
            "recipe": recipe,
            "made": counts["made"],
            "removed": {reason: rows for reason, rows in counts.items() if reason not in ("made", "let_in") and rows},
            "let_in": counts["let_in"],
        }
        for recipe, counts in augment["per_recipe"].items()
    ]


def _side_by_side(name: str, row: Mapping[str, Any]) -> Example:
    return Example(name, *mark_difference(row["before"], row["after"], mask=False))


def show_augmented(pairs: pl.DataFrame) -> list[RuleExamples]:
    """Source and augmented examples side by side, what differs marked, by recipe."""
    return [
        RuleExamples(
            str(recipe),
            part.height,
            [_side_by_side(row["parent_id"], row) for row in part.head(EXAMPLES_SHOWN).iter_rows(named=True)],
        )
        for (recipe,), part in pairs.group_by("recipe", maintain_order=True)
    ]


def show_attacks(ended: Mapping[str, pl.DataFrame], names: Sequence[str]) -> list[RuleExamples]:
    """Attacks that succeeded, by attack, from the `attacks.parquet` of each approach: the shortest of each approach."""
    found = []
    for name in names:
        won = {
            approach: table.filter((pl.col("attack") == name) & (pl.col("result") == "succeeded"))
            for approach, table in ended.items()
        }
        examples = [
            _side_by_side(f"{approach}: {row['id']}", row)
            for approach, rows in won.items()
            for row in rows.sort(pl.col("before").str.len_chars(), "id").head(ATTACKS_SHOWN).iter_rows(named=True)
        ]
        found.append(RuleExamples(name, sum(rows.height for rows in won.values()), examples))
    return found
