import numpy as np
import pytest

from assay.label_errors.scores import average_ranks, flag_label_issues, score_quality, update_by_evidence

PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [np.nan, np.nan]])
LABELS = np.array([0, 0, 1, 1])


def test_scores_by_hand() -> None:
    scores = score_quality(LABELS, PROBABILITIES)
    assert scores["self_confidence"] == pytest.approx([0.9, 0.2, 0.4, np.nan], nan_ok=True)
    # Cleanlab's normalised margin: (p of the given label - best other + 1) / 2.
    assert scores["normalized_margin"] == pytest.approx([0.9, 0.2, 0.4, np.nan], nan_ok=True)
    assert scores["pairwise_confidence"][:3] == pytest.approx([0.9, 0.2, 0.4])
    three = score_quality(np.array([0, 1, 2]), np.array([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6]]))
    assert three["self_confidence"] == pytest.approx([0.5, 0.3, 0.6])
    assert three["normalized_margin"] == pytest.approx([0.6, 0.35, 0.65])
    assert three["pairwise_confidence"] == pytest.approx([0.5 / 0.8, 0.3 / 0.9, 0.6 / 0.9])


def test_average_ranks() -> None:
    average = average_ranks([np.array([0.1, 0.2, np.nan]), np.array([5.0, 5.0, np.nan])])
    # Ranks 1 and 2 in the first, 1.5 for both in the second; of two rows.
    assert average == pytest.approx([1.25 / 2, 1.75 / 2, np.nan], nan_ok=True)


def test_posterior_by_hand() -> None:
    # Evidence 1 goes with texts that speak for label 0, evidence 0 with such as speak for label 1.
    probabilities = np.array([[0.9, 0.1]] * 50 + [[0.1, 0.9]] * 50 + [[0.5, 0.5]])
    evidence = np.array([1] * 50 + [0] * 50 + [1])
    counts = np.array([[50 * 0.1, 50 * 0.9 + 0.5], [50 * 0.9, 50 * 0.1 + 0.5]]) + 0.5
    likelihood = counts / counts.sum(axis=1, keepdims=True)
    expected = np.array([0.5, 0.5]) * likelihood[:, 1]
    assert update_by_evidence(probabilities, evidence)[-1] == pytest.approx(expected / expected.sum())


def test_without_evidence_the_probabilities_stay() -> None:
    assert np.array_equal(update_by_evidence(PROBABILITIES, np.full(4, -1)), PROBABILITIES, equal_nan=True)
    some = update_by_evidence(PROBABILITIES, np.array([0, -1, 1, 1]))
    assert np.array_equal(some[1], PROBABILITIES[1])
    assert np.isnan(some[3]).all()


def test_cleanlab_finds_the_rows_whose_label_speaks_against_them() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(100) % 2
    own = np.where(np.arange(100) < 5, 0.02, random.uniform(0.8, 0.99, 100))
    probabilities = np.where(labels[:, None] == np.arange(2), own[:, None], 1 - own[:, None])
    assert np.flatnonzero(flag_label_issues(labels, probabilities, "low_self_confidence")).tolist() == [0, 1, 2, 3, 4]


def test_one_label_and_nothing_judged_have_no_issues() -> None:
    assert not flag_label_issues(np.zeros(3, dtype=np.int64), np.ones((3, 1)), "both").any()
    nothing = np.full((3, 2), np.nan)
    assert not flag_label_issues(np.array([0, 1, 0]), nothing, "both").any()
    assert np.isnan(score_quality(np.array([0, 1, 0]), nothing)["self_confidence"]).all()
    assert np.isnan(average_ranks([np.full(3, np.nan)])).all()


@pytest.mark.filterwarnings("error")
def test_a_label_of_which_no_row_was_judged_leaves() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1], [0.1, 0.7, 0.2], [np.nan] * 3])
    scores = score_quality(labels, probabilities)["self_confidence"]
    assert scores == pytest.approx([0.8 / 0.9, 0.6 / 0.8, 0.8 / 0.9, 0.7 / 0.8, np.nan], nan_ok=True)
