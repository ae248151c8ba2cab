from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from assay.statistics.detection import (
    estimate_average_precision,
    grade_random,
    grade_score,
    precision_recall_points,
    weighted_average_precision,
)


def test_grades_of_a_worked_example() -> None:
    is_wrong = np.array([True, False, True, False, False])
    # Ranked by quality: wrong, right, wrong, right, right. AP = (1/1 + 2/3) / 2; 5 of 6 pairs are in order.
    found = grade_score(is_wrong, np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert found == {
        "average_precision": pytest.approx(5 / 6),
        "auroc": pytest.approx(5 / 6),
        # One row is the least that can be looked at.
        **{f"precision_at_{share}pct": 1.0 for share in (1, 5, 10)},
        **{f"recall_at_{share}pct": 0.5 for share in (1, 5, 10)},
    }


def test_figures_that_are_undefined_have_no_key() -> None:
    assert grade_score(np.zeros(2, dtype=bool), np.ones(2)) == {}
    assert grade_score(np.zeros(0, dtype=bool), np.ones(0)) == {}
    assert "auroc" not in grade_score(np.ones(2, dtype=bool), np.ones(2))


def test_the_curve_is_that_of_the_score_and_short() -> None:
    random = np.random.default_rng(0)
    is_wrong = random.random(5000) < 0.2
    points = precision_recall_points(is_wrong, random.random(5000) - 0.3 * is_wrong)
    assert 100 < points.height <= 200
    assert points["recall"].is_sorted()
    assert points["recall"].min() == 0.0
    assert points["recall"].max() == 1.0
    assert precision_recall_points(np.zeros(3, dtype=bool), np.ones(3)).is_empty()


def test_a_random_order_is_the_mean_over_all_orders() -> None:
    is_wrong = np.array([True, True, False, False, True])
    grades = [grade_score(is_wrong, np.array(order)) for order in permutations(range(5))]
    expected = {name: pytest.approx(np.mean([one[name] for one in grades])) for name in grades[0]}
    assert grade_random(is_wrong) == expected


def test_weighted_average_precision_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(2)
    is_wrong, quality = random.random(80) < 0.3, random.integers(0, 12, 80).astype(float)
    counts = random.multinomial(80, np.full(80, 1 / 80), size=5).T.astype(float)
    expected = [average_precision_score(is_wrong, -quality, sample_weight=one) for one in counts.T]
    assert weighted_average_precision(is_wrong, quality, counts) == pytest.approx(expected)


def test_average_precision_of_few_wrong_rows_or_of_a_perfect_order_has_no_interval() -> None:
    is_wrong = np.arange(600) < 99
    quality = {"one": np.random.default_rng(3).random(600), "perfect": (~is_wrong).astype(np.float64)}
    few, enough = (
        estimate_average_precision(wrong, quality, [("perfect", "one")], np.arange(600), np.random.default_rng(1))
        for wrong in (is_wrong, np.arange(600) < 100)
    )
    assert all(one.low is None for one in few.values())
    assert [name for name, one in enough.items() if one.low is not None] == ["one", "perfect_minus_one"]


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "noise", "shift"), [(600, 0.2, 0.8), (600, 0.2, 1.6), (2000, 0.18, 1.6)])
def test_intervals_of_average_precision_cover(rows: int, noise: float, shift: float) -> None:
    """Rows come in pairs that are alike, as groups; two scores, of which one knows less."""
    random = np.random.default_rng(1)

    def draw(rows: int) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.float64]]]:
        is_wrong = np.repeat(random.random(rows // 2) < noise, 2)
        shared = np.repeat(random.normal(size=rows // 2), 2)
        better = -(0.6 * shared + 0.8 * random.normal(size=rows) + shift * is_wrong)
        return is_wrong, {"better": better, "worse": better + random.normal(size=rows)}

    is_wrong, qualities = draw(1_000_000)
    true = {name: average_precision_score(is_wrong, -one) for name, one in qualities.items()}
    true["better_minus_worse"] = true["better"] - true["worse"]
    covered = dict.fromkeys(true, 0)
    for _ in range(400):
        found = estimate_average_precision(*draw(rows), [("better", "worse")], np.arange(rows) // 2, random)
        for name, one in found.items():
            covered[name] += one.low is None or one.low <= true[name] <= one.high
    # Two standard errors of 400 trials are 0.02.
    assert all(0.93 - 0.02 <= hits / 400 <= 0.97 + 0.02 for hits in covered.values()), covered
