import numpy as np
import pytest
from numpy.typing import NDArray

from assay.probes import (
    Model,
    combine_probabilities,
    grouped_folds,
    kernel_model,
    linear_model,
    mean_loss,
    neighbours_model,
    out_of_fold_probabilities,
    scale_temperature,
    words_model,
)

Integers = NDArray[np.int64]


def clusters(rows: int, classes: int) -> tuple[NDArray[np.float32], Integers]:
    """Points about the corners of a cube, and the corner of each."""
    random = np.random.default_rng(1)
    labels = np.arange(rows) % classes
    return (random.normal(size=(rows, 8)) * 0.3 + 3 * np.eye(8)[labels]).astype(np.float32), labels


def models_on(features: NDArray[np.float32], C: float, landmarks: int, neighbours: int) -> dict[str, Model]:
    return {
        "linear": linear_model(features, [C]),
        "kernel": kernel_model(features, [C], landmarks, seed=1),
        "neighbours": neighbours_model(features, neighbours),
    }


def test_a_group_is_in_one_fold_and_every_row_is_judged_once() -> None:
    labels, groups = np.tile([0, 1], 30), np.repeat(np.arange(30), 2)
    folds = grouped_folds(labels, groups, 5, seed=3)
    assert sorted(np.concatenate([fold.predicted for fold in folds])) == list(range(60))
    for fold in folds:
        assert not set(groups[fold.fitted]) & set(groups[fold.predicted])
        assert len(fold.fitted) + len(fold.predicted) == 60


@pytest.mark.parametrize(("rows", "folds"), [(3, 3), (2, 2), (1, 0)])
def test_fewer_folds_where_no_label_has_as_many_groups(rows: int, folds: int) -> None:
    labels = np.repeat([0, 1], rows)
    assert len(grouped_folds(labels, np.arange(2 * rows), 5, seed=3)) == folds


def test_a_label_that_is_one_group_is_not_judged() -> None:
    labels, groups = np.array([0] * 9 + [1] * 9 + [2] * 3), np.array([*range(18), 18, 18, 18])
    features = np.random.default_rng(0).normal(size=(21, 4)).astype(np.float32)
    folds = grouped_folds(labels, groups, 3, seed=1)
    probabilities = out_of_fold_probabilities(linear_model(features, [1.0]), labels, folds)[0]
    assert np.isnan(probabilities[18:]).all()
    assert probabilities[:18].sum(axis=1) == pytest.approx(np.ones(18))


@pytest.mark.parametrize("kind", ["linear", "kernel", "neighbours", "words"])
def test_each_model_tells_clusters_apart(kind: str) -> None:
    features, labels = clusters(90, 3)
    texts = [f"{['red', 'green', 'blue'][label]} thing number {row % 4}" for row, label in enumerate(labels)]
    model = words_model(texts, [10.0]) if kind == "words" else models_on(features, 10.0, 50, 5)[kind]
    probabilities = out_of_fold_probabilities(model, labels, grouped_folds(labels, np.arange(90), 5, seed=1))[0]
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(90))
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.97


@pytest.mark.parametrize("kind", ["linear", "kernel", "neighbours"])
def test_probabilities_are_out_of_fold(kind: str) -> None:
    # Labels without any relation to the features: a model that had seen a row would know its label.
    random = np.random.default_rng(4)
    features, labels = random.normal(size=(60, 100)).astype(np.float32), random.integers(0, 2, size=60)
    model = models_on(features, 100.0, 60, 1)[kind]
    probabilities = out_of_fold_probabilities(model, labels, grouped_folds(labels, np.arange(60), 5, seed=1))[0]
    assert (probabilities.argmax(axis=1) == labels).mean() < 0.7


def test_several_strengths_at_once_give_the_same_bits_as_each_alone() -> None:
    features, labels = clusters(60, 3)
    folds = grouped_folds(labels, np.arange(60), 3, seed=1)
    together = out_of_fold_probabilities(kernel_model(features, [0.1, 10.0], 20, seed=1), labels, folds)
    for C, probabilities in zip([0.1, 10.0], together, strict=True):
        alone = out_of_fold_probabilities(kernel_model(features, [C], 20, seed=1), labels, folds)
        assert (alone[0] == probabilities).all()


def test_texts_without_a_word_in_common_give_the_shares_of_the_labels() -> None:
    labels = np.array([0, 0, 1] * 4)
    folds = grouped_folds(labels, np.arange(12), 2, seed=1)
    probabilities = out_of_fold_probabilities(words_model([f"w{row}" for row in range(12)], [1.0]), labels, folds)[0]
    assert probabilities[:, 0] == pytest.approx(2 / 3, abs=0.1)


def test_neighbours_near_and_far() -> None:
    # Centred at 0: the row judged has two like it and two opposite.
    features = np.array([[1, 0], [1, 0.1], [1, -0.1], [-1.5, 0], [-1.5, 0.01]], dtype=np.float32)
    judge = neighbours_model(features, 3)
    near = judge(np.array([1, 2, 3, 4]), np.array([0, 0, 1, 1]), np.array([0]))[0]
    assert near[0, 0] > 0.999
    assert near.sum() == pytest.approx(1.0)


def test_models_are_combined_by_a_weighted_geometric_mean() -> None:
    one, other = np.array([[0.8, 0.2]]), np.array([[0.5, 0.5]])
    joint = combine_probabilities([one, other], [2.0, 1.0])
    odds = (0.8 / 0.2) ** (2 / 3)
    assert joint[0] == pytest.approx([odds / (1 + odds), 1 / (1 + odds)])
    nothing = np.array([[np.nan, np.nan]])
    assert np.isnan(combine_probabilities([one, nothing], [1.0, 1.0])).all()


def test_calibration_undoes_what_made_the_models_too_sure() -> None:
    random = np.random.default_rng(0)
    honest = random.dirichlet([2, 2, 2], size=20_000)
    labels = (random.random((20_000, 1)) > honest.cumsum(axis=1)).sum(axis=1)
    sure = honest**3 / (honest**3).sum(axis=1, keepdims=True)
    scaled, temperature = scale_temperature(sure, labels)
    assert temperature == pytest.approx(3.0, rel=0.1)
    assert mean_loss(scaled, labels) < mean_loss(sure, labels)
    with_unjudged, same = scale_temperature(np.vstack([sure, [[np.nan] * 3]]), np.append(labels, 0))
    assert same == pytest.approx(temperature, rel=1e-6)
    assert np.isnan(with_unjudged[-1]).all()


def test_nothing_judged_is_left_as_it_is() -> None:
    nothing = np.full((3, 2), np.nan)
    assert mean_loss(nothing, np.zeros(3, dtype=np.int64)) == 0.0
    assert np.isnan(scale_temperature(nothing, np.zeros(3, dtype=np.int64))[0]).all()
