import numpy as np
import pytest
from sklearn.metrics import f1_score

from assay.statistics.label_curves import measure_labels, score_labels


def test_scores_are_those_of_scikit_learn_and_groups_move_them_by_the_delta_method() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 3, 400)
    predicted = np.where(random.random(400) < 0.7, truth, random.integers(0, 4, 400))
    errors, moved = score_labels(truth, predicted, np.arange(400))
    assert 1 - errors == pytest.approx(f1_score(truth, predicted, average=None, labels=[0, 1, 2]))
    drawn = [random.integers(0, 400, 400) for _ in range(400)]
    spread = np.std([score_labels(truth[rows], predicted[rows], np.arange(400))[0] for rows in drawn], axis=0)
    assert np.sqrt((moved**2).sum(axis=0)) == pytest.approx(spread, rel=0.15)


def test_the_label_that_learns_is_first_and_the_rest_is_not_shown() -> None:
    random, sizes = np.random.default_rng(2), np.array([0.1, 0.2, 0.4, 0.7, 1.0])
    slopes = np.array([0.0, 0.08, 0.0, 0.0, 0.0])
    scored = [
        (0.1 + slopes * size**-0.5 + random.normal(0, 0.003, 5), random.normal(0, 0.0003, (100, 5)))
        for _ in range(5)
        for size in sizes
    ]
    found = measure_labels(list("abcde"), np.full(5, 200), sizes, scored, 0.5)
    assert next(iter(found)) == "b"
    # 0.08 (1 - 1.5^-0.5) of its own F1, a fifth of which is macro-F1's.
    assert found["b"]["gain_points"] == pytest.approx(100 * 0.08 * (1 - 1.5**-0.5) / 5, rel=0.1)
    assert [name for name, label in found.items() if label["gain_points_band90_low"] > 0] == ["b"]
