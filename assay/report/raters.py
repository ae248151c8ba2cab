"""What people score on the test rows: the human scale beside the models' scores.

One rater against the target label, and half of a row's raters against the other half, both from the row's ratings. The
target of the default data is made of the same ratings, one rater's among them, which flatters the first a little.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.statistics.classification import score_predictions
from assay.statistics.metrics_dict import metrics_of

Integers = NDArray[np.int64]
DRAWS = 20
"""Raters drawn for each row, and divisions into halves; the scores are their means."""


def score_raters(
    test: pl.DataFrame, ratings: pl.DataFrame, groups: Integers, random: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Macro-F1 and accuracy with intervals of `one_rater` and `half_of_raters`; empty without rows of two ratings.

    `test` has `id` and `target_label`, `ratings` `id` and `label`, a row for each; groups are those of the test rows. A
    half has as many ratings as the other, and says what most of them say; at a tie the label that more of all ratings
    give.
    """
    rated = ratings.filter(pl.col("label").is_not_null()).join(
        test.with_row_index("row").select("id", "row", "target_label"), on="id", maintain_order="left"
    )
    rated = rated.filter(pl.len().over("row") > 1)
    if rated.is_empty():
        return {}
    names = sorted({*rated["label"], *rated["target_label"]})
    kept, row = np.unique(rated["row"].to_numpy(), return_inverse=True)
    label = rated["label"].replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
    target = test["target_label"].gather(kept).replace_strict(names, range(len(names)), return_dtype=pl.Int64)
    tie_break = np.bincount(label, minlength=len(names)) / (len(label) + 1)
    half = np.bincount(row) // 2

    def vote(chosen: NDArray[np.bool_]) -> Integers:
        votes = np.zeros((len(kept), len(names)))
        np.add.at(votes, (row[chosen], label[chosen]), 1)
        return np.asarray((votes + tie_break).argmax(axis=1))

    drawn = []
    for _ in range(DRAWS):
        # The place of each rating among those of its row, in a random order.
        order = np.lexsort((random.random(len(row)), row))
        place = np.empty(len(row), dtype=np.int64)
        place[order] = np.arange(len(row)) - np.searchsorted(row[order], row[order])
        ends = half[row]
        drawn.append((vote(place == 0), vote(place < ends), vote((place >= ends) & (place < 2 * ends))))
    one, first, second = (np.stack(each) for each in zip(*drawn, strict=True))
    scores = {
        "one_rater": score_predictions(target.to_numpy(), one, groups[kept]),
        "half_of_raters": score_predictions(first, second, groups[kept]),
    }
    return {name: {"rows": len(kept)} | metrics_of(found) for name, found in scores.items()}
