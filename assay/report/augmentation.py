"""What the report says of altered texts: augmented train rows, and test rows altered to measure robustness."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from assay.report.examples import mark_difference

EXAMPLES_SHOWN = 6
"""Augmented examples of each recipe."""
ATTACKS_SHOWN = 1
"""Attacks that succeeded, of each kind on each approach."""


def _side_by_side(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    before, after = mark_difference(row["before"], row["after"], mask=False)
    return {"id": name, "before": before, "after": after}


def show_augmented(pairs: pl.DataFrame) -> list[dict[str, Any]]:
    """Source and augmented examples side by side, what differs marked, by recipe; as `examples_by_rule`."""
    shown = []
    for (recipe,), part in pairs.group_by("recipe", maintain_order=True):
        examples = [_side_by_side(row["parent_id"], row) for row in part.head(EXAMPLES_SHOWN).iter_rows(named=True)]
        shown.append({"rule": recipe, "rows": part.height, "examples": examples})
    return shown


def show_attacks(ended: Mapping[str, pl.DataFrame], names: Sequence[str]) -> list[dict[str, Any]]:
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
        found.append({"rule": name, "rows": sum(rows.height for rows in won.values()), "examples": examples})
    return found
