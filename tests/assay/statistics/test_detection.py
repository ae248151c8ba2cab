import numpy as np
import pytest

from assay.statistics.detection import grade_score, precision_recall_points


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
