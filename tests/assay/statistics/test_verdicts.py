"""Verdicts say better or worse where a paired test does, and agree with worked examples."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score
from statsmodels.stats.multitest import multipletests

from assay.statistics.predictions import format_predictions, hash_name, predictions_file, read_predictions
from assay.statistics.verdicts import best_group, compare, compare_all, holm, score_decided_on, score_samples

ROWS = 400
TRUTH = np.arange(ROWS) % 3
ALONE = np.arange(ROWS)


def predict(accuracy: float, seed: int, truth: np.ndarray = TRUTH) -> np.ndarray:
    """One seed's predictions, right on a share of the rows."""
    random = np.random.default_rng(seed)
    return np.where(random.random(len(truth)) < accuracy, truth, (truth + 1) % 3)[None]


def test_counts_are_repetitions() -> None:
    counts = np.random.default_rng(0).integers(0, 3, (ROWS, 2)).astype(np.float64)
    predicted = np.concatenate([predict(0.6, 1), predict(0.8, 2)])
    macro_f1, accuracy = score_samples(TRUTH, predicted, counts)
    for sample in range(2):
        repeat = np.repeat(ALONE, counts[:, sample].astype(int))
        f1 = [f1_score(TRUTH[repeat], one[repeat], average="macro") for one in predicted]
        assert macro_f1[sample] == pytest.approx(np.mean(f1))
        assert accuracy[sample] == pytest.approx((TRUTH[repeat] == predicted[:, repeat]).mean())


def test_a_worked_example_of_holm() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))
    assert holm([]) == []


def test_a_much_worse_approach_is_worse_and_the_same_is_not_decided() -> None:
    predicted = {"bad": predict(0.6, 1), "also_good": predict(0.81, 2), "good": predict(0.8, 3)}
    found = compare_all(TRUTH, predicted, ALONE, 2000, np.random.default_rng(1))
    assert found["bad", "good"].word == "worse"
    assert found["bad", "also_good"].word == "worse"
    assert found["also_good", "good"].word == "not decided"
    assert best_group(found, "good") == ["also_good", "good"]
    difference = found["bad", "good"].comparison.decisive()
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < difference.value < difference.high < 0
    # Sure that it is at least so far, and found by four of five tests.
    assert difference.minimum_detectable == pytest.approx(2.8 / 3.92 * (difference.high - difference.low), rel=0.05)
    backwards = compare(TRUTH, predicted["good"], predicted["bad"], ALONE, 2000, np.random.default_rng(1))
    assert backwards.macro_f1.value == -found["bad", "good"].comparison.macro_f1.value


def test_identical_predictions_have_no_interval_and_p_1_and_p_is_never_0() -> None:
    found = compare(TRUTH, predict(0.7, 1), predict(0.7, 1), ALONE, 200, np.random.default_rng(1))
    assert (found.accuracy.low, found.accuracy.p, found.accuracy.minimum_detectable) == (None, 1.0, None)
    found = compare(TRUTH, predict(1.0, 1), predict(0.1, 2), ALONE, 200, np.random.default_rng(1))
    assert found.macro_f1.p == pytest.approx(2 / 201)


def test_rows_of_a_group_count_once() -> None:
    few, groups = TRUTH[:40], np.repeat(np.arange(40), 10)
    many = np.repeat(few, 10)
    one, other = (np.repeat(predict(accuracy, 5, few), 10, axis=1) for accuracy in (0.9, 0.8))
    grouped, rows_apart = (compare(many, one, other, each, 1000, np.random.default_rng(1)) for each in (groups, ALONE))
    small = compare(few, one[:, ::10], other[:, ::10], np.arange(40), 1000, np.random.default_rng(1))
    assert grouped.accuracy == small.accuracy
    assert (rows_apart.accuracy.minimum_detectable or 1) < 0.5 * (grouped.accuracy.minimum_detectable or 0)


def test_accuracy_decides_where_a_label_has_few_rows() -> None:
    assert score_decided_on(np.repeat([0, 1], 20)) == "macro_f1"
    assert score_decided_on(np.repeat([0, 1], [40, 19])) == "accuracy"
    assert score_decided_on(np.repeat([0, 1], 20), np.full(40, 2)) == "accuracy"


def test_predictions_are_read_as_written_and_name_no_row() -> None:
    ids = ["web:1", "web:2", "app:3"]
    label, predicted = np.array([0, 1, 1]), np.array([[0, 1, 0], [1, 1, 1]])
    text = format_predictions(ids, ["a", "a", "b"], ["web", "web", "app"], ["bäd", "good"], label, predicted, {"a": 1})
    assert "web:1" not in text
    found = read_predictions(text)
    assert found is not None
    order = [found.rows.index(hash_name(id_)) for id_ in ids]
    assert (found.labels, found.sources) == (["bäd", "good"], ["app", "web"])
    assert found.label[order].tolist() == [0, 1, 1]
    assert found.predicted[:, order].tolist() == predicted.tolist()
    assert found.source[order].tolist() == [1, 1, 0]
    clusters = found.clusters()[order]
    assert clusters[0] == clusters[1] != clusters[2]
    assert read_predictions('{"left_out": "no 4-bit arithmetic"}') is None
    assert predictions_file("lora") == Path("metrics/predictions/lora.json")


def test_predictions_of_many_rows_and_labels_stay_small() -> None:
    rows, k = 3080, 77
    names = [f"row {number}" for number in range(rows)]
    labels = [f"a label of some twenty letters {number}" for number in range(k)]
    label = np.arange(rows) % k
    text = format_predictions(names, names, ["a source"] * rows, labels, label, np.stack([label] * 3), {})
    assert len(text.encode()) < 200_000
    assert len(text.splitlines()) == rows + 7
