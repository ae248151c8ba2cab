from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from assay.statistics.classification import bootstrap_scores, compare_scores, macro_f1, score_classes, weighted_scores

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


def test_counts_are_repetitions(case: Case) -> None:
    truth, probabilities = case
    counts = np.random.default_rng(0).integers(0, 3, (300, 2)).astype(np.float64)
    scores = weighted_scores(truth, probabilities, counts, 10)
    for sample in range(2):
        repeat = np.repeat(np.arange(300), counts[:, sample].astype(int))
        predicted = probabilities[repeat].argmax(axis=1)
        assert scores["accuracy"][sample] == pytest.approx(accuracy_score(truth[repeat], predicted))
        assert scores["macro_f1"][sample] == pytest.approx(f1_score(truth[repeat], predicted, average="macro"))


def test_calibration_error_of_a_hand_worked_case() -> None:
    # Two bins: [0.5, 1) holds all. Confidences 0.9, 0.8, 0.7, 0.6 (mean 0.75), two of four correct (0.5): gap 0.25.
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    scores = weighted_scores(np.array([0, 0, 1, 1]), probabilities, np.ones((4, 1)), 2)
    assert scores["expected_calibration_error"][0] == pytest.approx(0.25)
    # Five bins split them: 0.9 and 0.8 (right, gaps 0.1 and 0.2), 0.7 and 0.6 (wrong, gaps 0.7 and 0.6).
    scores = weighted_scores(np.array([0, 0, 1, 1]), probabilities, np.ones((4, 1)), 5)
    assert scores["expected_calibration_error"][0] == pytest.approx((0.3 + 1.3) / 4)


def test_a_sure_and_right_model_has_no_calibration_error() -> None:
    scores = weighted_scores(np.array([0, 1]), np.eye(2), np.ones((2, 1)), 15)
    assert scores["expected_calibration_error"][0] == 0


def test_the_interval_of_accuracy_is_the_binomial_one(case: Case) -> None:
    truth, probabilities = case
    interval = bootstrap_scores(truth, probabilities[None], 4000, 10, np.random.default_rng(0))["accuracy"]
    half_width = 1.96 * (interval.value * (1 - interval.value) / 300) ** 0.5
    assert interval.low == pytest.approx(interval.value - half_width, abs=0.008)
    assert interval.high == pytest.approx(interval.value + half_width, abs=0.008)


def test_chunks_do_not_change_the_interval(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, probabilities = case
    models = np.stack([probabilities, probabilities[::-1]])
    whole = bootstrap_scores(truth, models, 100, 10, np.random.default_rng(0))
    monkeypatch.setattr("assay.statistics.bootstrap.CHUNK_CELLS", 300 * 7)
    assert bootstrap_scores(truth, models, 100, 10, np.random.default_rng(0)) == whole


def test_seeds_that_agree_change_nothing_and_those_that_do_not_widen_the_interval(case: Case) -> None:
    truth, probabilities = case
    alone = bootstrap_scores(truth, probabilities[None], 400, 10, np.random.default_rng(0))
    same = bootstrap_scores(truth, np.stack([probabilities] * 3), 400, 10, np.random.default_rng(0))
    assert [asdict(same[name]) for name in alone] == [pytest.approx(asdict(alone[name])) for name in alone]
    worse = np.full_like(probabilities, 1 / 5)
    apart = bootstrap_scores(truth, np.stack([probabilities, worse]), 400, 10, np.random.default_rng(0))["accuracy"]
    accuracies = [float((each.argmax(axis=1) == truth).mean()) for each in (probabilities, worse)]
    assert apart.value == pytest.approx(np.mean(accuracies))
    # Both models of a sample are the same one in half of the samples.
    assert apart.low is not None
    assert apart.high is not None
    assert apart.low < accuracies[1] + 0.02
    assert apart.high > accuracies[0] - 0.02


def test_differences_are_paired() -> None:
    targets = np.arange(200) % 2
    before = np.where(np.arange(200)[:, None] % 4 < 2, np.eye(2)[targets], 0.5 + 0.1 * np.eye(2)[1 - targets])
    same = compare_scores(targets, before, before, 200, np.random.default_rng(1))
    # The rows differ much; what was done to them makes no difference.
    assert same["accuracy_difference_ci95_low"] == same["accuracy_difference_ci95_high"] == 0.0
    after = before.copy()
    after[:8] = after[:8, ::-1]
    # Of the first eight rows, four were right and now are wrong, and four the other way round.
    moved = compare_scores(targets, before, after, 200, np.random.default_rng(1))
    assert moved["accuracy_difference"] == pytest.approx(0)
    assert moved["accuracy_difference_ci95_low"] == pytest.approx(-2 * np.sqrt(8) / 200, abs=0.012)
    assert moved["accuracy_difference_ci95_high"] == pytest.approx(2 * np.sqrt(8) / 200, abs=0.012)
