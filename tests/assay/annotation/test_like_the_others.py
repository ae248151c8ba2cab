"""A slot that is filled in is flagged; a good rater, a slot of easy rows and chance are not."""

import numpy as np
import polars as pl
import pytest

from assay.annotation.like_the_others import LikeTheOthersParams, find_like_the_others

PARAMS = LikeTheOthersParams(max_p_value=0.01, min_robust_z=3.5)
ROWS, SLOTS = 400, 10


def rate(accuracy: list[float], seed: int = 1) -> np.ndarray:
    """Labels 0 to 2 of so many rows, a column for each rater of such an accuracy."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, (ROWS, 1))
    wrong = (truth + random.integers(1, 3, (ROWS, len(accuracy)))) % 3
    return np.where(random.random((ROWS, len(accuracy))) < accuracy, truth, wrong)


def table(labels: np.ndarray) -> pl.DataFrame:
    """Ratings of a table of labels; those below 0 are none."""
    rows, slots = np.nonzero(labels >= 0)
    return pl.DataFrame(
        {"id": rows.astype(str), "source": "s", "annotator": [f"{slot:02}" for slot in slots], "rating": None}
        | {"label": labels[rows, slots].astype(str)},
        schema_overrides={"rating": pl.Float64},
    )


def flagged(labels: np.ndarray) -> list[str]:
    return list(find_like_the_others(table(labels), PARAMS).get("s", {}))


def test_slots_filled_in_with_the_mode_of_the_others_are_flagged() -> None:
    labels = rate([0.6] * SLOTS)
    for slot, share in ((8, 0.5), (9, 1.0)):
        mode = np.array([np.bincount(row[:8]).argmax() for row in labels])
        labels[:, slot] = np.where(np.random.default_rng(slot).random(ROWS) < share, mode, labels[:, slot])
    found = find_like_the_others(table(labels), PARAMS)["s"]
    assert list(found) == ["08", "09"]
    # By hand: how often the label of a slot is a mode of the other nine.
    others = np.delete(labels, 9, axis=1)
    counts = np.stack([(others == label).sum(axis=1) for label in range(3)], axis=1)
    share = (counts[np.arange(ROWS), labels[:, 9]] == counts.max(axis=1)).mean()
    assert found["09"]["share"] == pytest.approx(share)
    assert found["09"]["ratings"] == ROWS
    assert 0.5 < found["09"]["rest_median"] < 0.75


@pytest.mark.parametrize("seed", range(5))
def test_raters_alike_and_raters_of_many_skills_are_not_flagged(seed: int) -> None:
    assert flagged(rate([0.6] * SLOTS, seed)) == []
    assert flagged(rate(list(np.linspace(0.4, 0.9, SLOTS)), seed)) == []


def test_a_slot_that_has_easy_rows_alone_is_not_flagged() -> None:
    easy, hard = rate([0.95] * SLOTS), rate([0.5] * SLOTS)
    hard[:, 0] = -1
    assert flagged(np.concatenate([easy, hard])) == []


def test_few_slots_have_no_rest_and_rows_with_two_ratings_no_others_who_agree() -> None:
    labels = rate([0.6] * SLOTS)
    assert flagged(np.where(np.arange(SLOTS) < 4, labels, -1)) == []
    assert flagged(np.where(np.arange(SLOTS) < 2, labels, -1)) == []
    assert find_like_the_others(table(labels).clear(), PARAMS) == {}
