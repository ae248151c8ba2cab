from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss

from assay.statistics.calibration import calibration_metrics, debiased_errors
from assay.statistics.classification import (
    compare_scores,
    f1_influence,
    macro_f1,
    score_classes,
    score_predictions,
    score_probabilities,
)
from assay.statistics.intervals import wilson_estimate

Case = tuple[NDArray[np.int64], NDArray[np.float64]]


@pytest.fixture
def case() -> Case:
    random = np.random.default_rng(3)
    truth = random.integers(0, 4, 300)
    logits = random.normal(size=(300, 5))
    logits[np.arange(300), truth] += 1.5
    probabilities = np.exp(logits)
    # Class 4 is neither true nor predicted, class 3 is predicted by chance.
    probabilities[:, 4] = 0
    return truth, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_scores_of_classes_with_and_without_rows() -> None:
    scores = score_classes(np.array([0, 0, 1]), np.array([0, 1, 1]), ["a", "b", "never"])
    assert scores["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert scores["never"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1])) == pytest.approx(2 / 3)


def test_scores_are_those_of_scikit_learn_and_influences_their_derivatives(case: Case) -> None:
    truth, probabilities = case
    predicted = probabilities.argmax(axis=1)
    groups = np.arange(300)
    scores = score_predictions(truth, np.stack([predicted, truth]), groups)
    f1 = f1_score(truth, predicted, average="macro")
    assert scores["accuracy"].value == pytest.approx((accuracy_score(truth, predicted) + 1) / 2)
    assert scores["macro_f1"].value == pytest.approx((f1 + 1) / 2)
    value, influence = f1_influence(truth, predicted)
    assert value == pytest.approx(f1)
    # A row that counts a little more moves the score by its influence.
    for row in (0, 7):
        weights = np.ones(300)
        weights[row] += 1e-5
        moved = f1_score(truth, predicted, average="macro", sample_weight=weights)
        assert (moved - f1) * 1e5 * 300 == pytest.approx(influence[row], rel=1e-3)
    scores = score_probabilities(truth, probabilities[None], groups)
    assert scores["log_loss"].value == pytest.approx(log_loss(truth, probabilities, labels=range(5)))
    expected = brier_score_loss(truth, probabilities, labels=range(5), scale_by_half=False)
    assert scores["brier_score"].value == pytest.approx(expected)


def test_accuracy_has_wilsons_interval_and_groups_widen_it(case: Case) -> None:
    truth, probabilities = case
    predicted = probabilities.argmax(axis=1)[None]
    alone = score_predictions(truth, predicted, np.arange(300))["accuracy"]
    assert asdict(alone) == pytest.approx(asdict(wilson_estimate(int((predicted == truth).sum()), 300)))
    # Each row ten times is no more than each once.
    tenfold = score_predictions(np.repeat(truth, 10), np.repeat(predicted, 10, axis=1), np.repeat(np.arange(300), 10))
    assert asdict(tenfold["accuracy"]) == pytest.approx(asdict(alone))
    assert score_predictions(truth, truth[None], np.arange(300))["accuracy"].low == pytest.approx(0.98736, abs=1e-5)


def test_macro_f1_has_an_interval_where_each_label_has_rows_enough() -> None:
    truth = np.repeat([0, 1], [20, 80])
    predicted = np.where(np.arange(100) % 7 == 0, 1 - truth, truth)[None]
    assert score_predictions(truth, predicted, np.arange(100))["macro_f1"].low is not None
    few = np.repeat([0, 1], [19, 81])
    assert score_predictions(few, predicted, np.arange(100))["macro_f1"].low is None
    # A label that is only predicted has no row.
    assert score_predictions(truth, np.append(predicted[0, :-1], 2)[None], np.arange(100))["macro_f1"].low is None
    # Where all is right nothing varies.
    assert score_predictions(truth, truth[None], np.arange(100))["macro_f1"].low is None


def test_calibration_error_of_a_hand_worked_case() -> None:
    # Bins of two rows: (0.9, 0.8), one right: gap 0.35, by chance 0.25; (0.7, 0.5), both right: gap 0.4, by chance 0.
    confidence, right = np.array([0.9, 0.8, 0.7, 0.5]), np.array([[1.0], [0.0], [1.0], [1.0]])
    squares = 0.5 * (0.35**2 - 0.25) + 0.5 * 0.4**2
    assert debiased_errors(confidence, right, 2) == pytest.approx(np.sqrt(squares))


def test_a_calibrated_model_is_like_one() -> None:
    random, below = np.random.default_rng(4), 0
    for _ in range(100):
        confidence = random.uniform(0.4, 1, (1, 400))
        right = (random.random((1, 400)) < confidence).astype(np.float64)
        found = calibration_metrics(confidence, right, 15, 100, random)
        below += found["calibration_error"] <= found["calibration_error_if_calibrated_95pct"]
    assert 88 <= below <= 100
    assert calibration_metrics(confidence, 1 - right, 15, 100, random)["calibration_error"] > 0.4


def test_differences_are_paired() -> None:
    targets = np.arange(200) % 2
    before = np.where(np.arange(200) % 4 < 2, targets, 1 - targets)
    same = compare_scores(targets, before, before, np.arange(200), 200, np.random.default_rng(1))
    # The rows differ much; what was done to them makes no difference, and that has no interval.
    assert same["accuracy_difference"] == same["macro_f1_difference"] == 0.0
    assert "accuracy_difference_ci95_low" not in same
    after = before.copy()
    after[:8] = 1 - after[:8]
    # Of the first eight rows, four were right and now are wrong, and four the other way round.
    moved = compare_scores(targets, before, after, np.arange(200), 200, np.random.default_rng(1))
    assert moved["accuracy_difference"] == pytest.approx(0)
    assert moved["accuracy_difference_ci95_low"] == pytest.approx(-2 * np.sqrt(8) / 200, abs=0.012)
    assert moved["accuracy_difference_ci95_high"] == pytest.approx(2 * np.sqrt(8) / 200, abs=0.012)
