from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from assay.statistics.classification import bootstrap_scores, class_scores, macro_f1, weighted_scores


@pytest.fixture
def case() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    random = np.random.default_rng(3)
    truth = random.integers(0, 4, 300)
    logits = random.normal(size=(300, 5))
    logits[np.arange(300), truth] += 1.5
    probabilities = np.exp(logits)
    # Class 4 is neither true nor predicted, class 3 is predicted by chance.
    probabilities[:, 4] = 0
    return truth, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_class_scores_are_those_of_scikit_learn(case: tuple[NDArray[np.int64], NDArray[np.float64]]) -> None:
    truth, probabilities = case
    predicted = probabilities.argmax(axis=1)
    expected = precision_recall_fscore_support(truth, predicted, labels=range(5), zero_division=0)
    scores = class_scores(truth, predicted, 5)
    for seen, wanted in zip((scores.precision, scores.recall, scores.f1, scores.support), expected, strict=True):
        np.testing.assert_allclose(seen, wanted)
    assert macro_f1(truth, predicted, 5) == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_weights_are_repetitions(case: tuple[NDArray[np.int64], NDArray[np.float64]]) -> None:
    truth, probabilities = case
    weights = np.random.default_rng(0).integers(0, 3, (2, 300)).astype(np.float64)
    scores = weighted_scores(truth, probabilities, weights, 10)
    for row in range(2):
        repeat = np.repeat(np.arange(300), weights[row].astype(int))
        predicted = probabilities[repeat].argmax(axis=1)
        assert scores["accuracy"][row] == pytest.approx(accuracy_score(truth[repeat], predicted))
        assert scores["macro_f1"][row] == pytest.approx(f1_score(truth[repeat], predicted, average="macro"))


def test_calibration_error_of_a_hand_worked_case() -> None:
    # Two bins: [0.5, 1) holds all. Confidences 0.9, 0.8, 0.7, 0.6 (mean 0.75), two of four correct (0.5): gap 0.25.
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    scores = weighted_scores(np.array([0, 0, 1, 1]), probabilities, np.ones((1, 4)), 2)
    assert scores["expected_calibration_error"][0] == pytest.approx(0.25)
    # Five bins split them: 0.9 and 0.8 (right, gaps 0.1 and 0.2), 0.7 and 0.6 (wrong, gaps 0.7 and 0.6).
    scores = weighted_scores(np.array([0, 0, 1, 1]), probabilities, np.ones((1, 4)), 5)
    assert scores["expected_calibration_error"][0] == pytest.approx((0.3 + 1.3) / 4)


def test_a_sure_and_right_model_has_no_calibration_error() -> None:
    scores = weighted_scores(np.array([0, 1]), np.eye(2), np.ones((1, 2)), 15)
    assert scores["expected_calibration_error"][0] == 0


def test_the_interval_of_accuracy_is_the_binomial_one(case: tuple[NDArray[np.int64], NDArray[np.float64]]) -> None:
    truth, probabilities = case
    interval = bootstrap_scores(truth, probabilities[None], 4000, 10, np.random.default_rng(0))["accuracy"]
    half_width = 1.96 * (interval.value * (1 - interval.value) / 300) ** 0.5
    assert interval.low == pytest.approx(interval.value - half_width, abs=0.008)
    assert interval.high == pytest.approx(interval.value + half_width, abs=0.008)


def test_chunks_do_not_change_the_interval(
    case: tuple[NDArray[np.int64], NDArray[np.float64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, probabilities = case
    models = np.stack([probabilities, probabilities[::-1]])
    whole = bootstrap_scores(truth, models, 100, 10, np.random.default_rng(0))
    monkeypatch.setattr("assay.statistics.classification.CHUNK_CELLS", 300 * 7)
    assert bootstrap_scores(truth, models, 100, 10, np.random.default_rng(0)) == whole


def test_seeds_that_agree_change_nothing_and_those_that_do_not_widen_the_interval(
    case: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    truth, probabilities = case
    alone = bootstrap_scores(truth, probabilities[None], 400, 10, np.random.default_rng(0))
    same = bootstrap_scores(truth, np.stack([probabilities] * 3), 400, 10, np.random.default_rng(0))
    assert [asdict(same[name]) for name in alone] == [pytest.approx(asdict(alone[name])) for name in alone]
    worse = np.full_like(probabilities, 1 / 5)
    apart = bootstrap_scores(truth, np.stack([probabilities, worse]), 400, 10, np.random.default_rng(0))["accuracy"]
    accuracies = [float((each.argmax(axis=1) == truth).mean()) for each in (probabilities, worse)]
    assert apart.value == pytest.approx(np.mean(accuracies))
    # Both models of a sample are the same one in half of the samples.
    assert apart.low < accuracies[1] + 0.02
    assert apart.high > accuracies[0] - 0.02
