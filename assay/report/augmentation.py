"""What the report says of altered texts: copies made for training, and test rows altered to see what a model bears."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from assay.report.examples import Example, RuleExamples, marked
from assay.report.plots import Change

COPIES_SHOWN = 6
"""Copies of each recipe."""
ATTACKS_SHOWN = 1
"""Attacks that succeeded, of each kind on each approach."""


@dataclass(frozen=True)
class RecipeCopies:
    """What became of the copies of one recipe.

    Attributes:
        recipe: its name.
        made: copies.
        removed: by reason, those with any.
        let_in: copies among the train rows.
        quality: of a sample of them, as `augment_quality` measured; empty where there was none.
    """

    recipe: str
    made: int
    removed: dict[str, int]
    let_in: int
    quality: dict[str, Any]


def recipe_copies(augment: dict[str, Any], quality: dict[str, Any]) -> list[RecipeCopies]:
    """One entry for each recipe, in the order of the metrics of `augment`."""
    return [
        RecipeCopies(
            recipe,
            counts["made"],
            {reason: rows for reason, rows in counts.items() if reason not in ("made", "let_in") and rows},
            counts["let_in"],
            quality["per_recipe"].get(recipe, {}),
        )
        for recipe, counts in augment["per_recipe"].items()
    ]


def copy_examples(pairs: pl.DataFrame) -> list[RuleExamples]:
    """Parents and copies side by side, what differs marked, by recipe.

    Args:
        pairs: `recipe`, `parent_id`, `before`, `after`.
    """
    return [
        RuleExamples(
            str(recipe),
            part.height,
            [
                Example(row["parent_id"], *marked(row["before"], row["after"], mask=False))
                for row in part.head(COPIES_SHOWN).iter_rows(named=True)
            ],
        )
        for (recipe,), part in pairs.group_by("recipe", maintain_order=True)
    ]


def changes(robustness: dict[str, dict[str, Any]]) -> dict[str, list[Change]]:
    """What each perturbation does to the accuracy of each approach, by perturbation.

    Args:
        robustness: metrics of the stage, by approach; without those that were left out.
    """
    names = list(dict.fromkeys(name for measured in robustness.values() for name in measured["perturbations"]))
    return {
        name: [
            Change(
                approach,
                found["accuracy_before"],
                found["accuracy_after"],
                found["accuracy_difference_ci95_low"],
                found["accuracy_difference_ci95_high"],
            )
            for approach, measured in robustness.items()
            if (found := measured["perturbations"].get(name))
        ]
        for name in names
    }


def attack_names(robustness: dict[str, dict[str, Any]]) -> list[str]:
    """The attacks tried, in the order of the metrics."""
    return list(dict.fromkeys(name for measured in robustness.values() for name in measured["attacks"]))


def attack_examples(ended: dict[str, pl.DataFrame], names: Sequence[str]) -> list[RuleExamples]:
    """Attacks that succeeded, by attack: the shortest of each approach.

    Args:
        ended: `attacks.parquet` of each approach.
        names: of the attacks.
    """
    found = []
    for name in names:
        examples = []
        count = 0
        for approach, table in ended.items():
            won = table.filter((pl.col("attack") == name) & (pl.col("result") == "succeeded"))
            count += won.height
            shortest = won.sort(pl.col("before").str.len_chars(), "id").head(ATTACKS_SHOWN)
            examples += [
                Example(f"{approach}: {row['id']}", *marked(row["before"], row["after"], mask=False))
                for row in shortest.iter_rows(named=True)
            ]
        found.append(RuleExamples(name, count, examples))
    return found
