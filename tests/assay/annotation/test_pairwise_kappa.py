"""Cohen's kappa equals published examples and scikit-learn, for the items as they are and for resampled ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from assay.annotation import pairwise_kappa
from assay.annotation.pairwise_kappa import Pairs, annotator_pairs, mean_pairwise_kappas, pair_kappas

WEIGHTS = {"plain": None, "quadratic": "quadratic"}


def pair_of(table: list[list[int]]) -> Pairs:
    """Two annotators from their table of labels."""
    counts = np.array(table)
    first, second = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    items = np.arange(len(first))
    return annotator_pairs(
        np.tile(items, 2),
        np.repeat([0, 1], len(items)),
        np.concatenate([first, second]),
        min_common_items=2,
        max_pairs=9,
    )


def kappas_of(table: list[list[int]]) -> dict[str, float]:
    pairs = pair_of(table)
    found = pair_kappas(pairs, np.ones((pairs.tables.shape[1], 1)), ordered=True)
    return {name: float(values[0, 0]) for name, values in found.items()}


def drawn(seed: int, annotators: int, items: int, labels: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, labels, items)
    noise = random.integers(0, labels, (annotators, items))
    return np.where(random.random((annotators, items)) < 0.6, truth, noise), random.random((annotators, items)) < 0.7


def test_radiologists_of_boyd_1982() -> None:
    # 85 xeromammograms read by two radiologists (Boyd et al. 1982), as in Altman (1991) and in Stata's manual of `kap`:
    # kappa .4728, with quadratic weights .6714.
    assert kappas_of([[21, 12, 0, 0], [4, 17, 1, 0], [3, 9, 15, 2], [0, 0, 0, 1]]) == pytest.approx(
        {"plain": 0.4728, "quadratic": 0.6714}, abs=5e-5
    )


def test_psychiatrists_of_cohen_1968() -> None:
    # Cohen (1968), table 1: 200 patients, three diagnoses; unweighted kappa .492.
    assert kappas_of([[88, 10, 2], [14, 40, 6], [18, 10, 12]])["plain"] == pytest.approx(0.492, abs=5e-4)


@pytest.mark.parametrize("labels", [2, 3, 7])
def test_every_pair_equals_scikit_learn(labels: int) -> None:
    table, rated = drawn(5, 5, 60, labels)
    annotators, items = np.nonzero(rated)
    pairs = annotator_pairs(items, annotators, table[annotators, items], 1, 100)
    assert len(pairs.first) == 10
    found = pair_kappas(pairs, np.ones((60, 1)), ordered=True)
    for position, (i, j) in enumerate(zip(pairs.first, pairs.second, strict=True)):
        both = rated[i] & rated[j]
        for name, weights in WEIGHTS.items():
            expected = cohen_kappa_score(table[i, both], table[j, both], weights=weights, labels=range(labels))
            assert found[name][position, 0] == pytest.approx(expected)


def test_resampled_items_equal_scikit_learn_with_rows_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairwise_kappa, "CHUNK_CELLS", 30)  # several chunks of pairs
    table, rated = drawn(6, 4, 30, 3)
    annotators, items = np.nonzero(rated)
    pairs = annotator_pairs(items, annotators, table[annotators, items], 1, 100)
    weights = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=4).T.astype(np.float64)
    found = pair_kappas(pairs, weights, ordered=True)
    means = mean_pairwise_kappas(pairs, weights, ordered=True)
    for sample in range(4):
        repeated = np.repeat(np.arange(30), weights[:, sample].astype(int))
        expected: dict[str, list[float]] = {name: [] for name in WEIGHTS}
        for position, (i, j) in enumerate(zip(pairs.first, pairs.second, strict=True)):
            both = repeated[rated[i][repeated] & rated[j][repeated]]
            for name, kind in WEIGHTS.items():
                kappa = cohen_kappa_score(table[i, both], table[j, both], weights=kind, labels=range(3))
                assert found[name][position, sample] == pytest.approx(kappa)
                expected[name].append(float(kappa))
        assert means["mean_pairwise_cohen_kappa"][sample] == pytest.approx(np.mean(expected["plain"]))
        assert means["mean_pairwise_cohen_kappa_quadratic"][sample] == pytest.approx(np.mean(expected["quadratic"]))


def test_pairs_need_enough_items_and_those_with_the_most_come_first() -> None:
    table, rated = drawn(7, 4, 60, 3)
    annotators, items = np.nonzero(rated)
    labels = table[annotators, items]
    common = {(i, j): int((rated[i] & rated[j]).sum()) for i in range(4) for j in range(i + 1, 4)}
    enough = sorted(common.values())[2]
    some = annotator_pairs(items, annotators, labels, enough, 100)
    assert set(zip(some.first.tolist(), some.second.tolist(), strict=True)) == {
        pair for pair, number in common.items() if number >= enough
    }
    capped = annotator_pairs(items, annotators, labels, 1, 2)
    expected = sorted(common, key=lambda pair: (-common[pair], pair))[:2]
    assert list(zip(capped.first.tolist(), capped.second.tolist(), strict=True)) == expected


def test_pairs_are_taken_while_their_common_ratings_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = drawn(8, 4, 20, 3)
    items, annotators = np.tile(np.arange(20), 4), np.repeat(np.arange(4), 20)
    monkeypatch.setattr(pairwise_kappa, "MAX_COMMON_RATINGS", 45)
    assert len(annotator_pairs(items, annotators, table.ravel(), 1, 100).first) == 2


def test_pairs_that_chance_explains_have_no_kappa() -> None:
    pairs = annotator_pairs(np.tile(np.arange(5), 2), np.repeat([0, 1], 5), np.zeros(10, dtype=int), 2, 10)
    assert np.isnan(mean_pairwise_kappas(pairs, np.ones((5, 1)), ordered=True)["mean_pairwise_cohen_kappa"]).all()


@pytest.mark.parametrize("ratings", [0, 2])
def test_no_pair_has_enough_items(ratings: int) -> None:
    numbers = np.arange(ratings)
    pairs = annotator_pairs(numbers, numbers, numbers, 1, 10)
    assert len(pairs.first) == 0
    means = mean_pairwise_kappas(pairs, np.ones((ratings, 3)), ordered=True)
    assert set(means) == {f"mean_pairwise_cohen_kappa{suffix}" for suffix in ("", "_quadratic")}
    assert all(np.isnan(values).all() and values.shape == (3,) for values in means.values())


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(2, 4))
def test_kappa_is_at_most_one_and_does_not_mind_who_is_first(seed: int, labels: int, annotators: int) -> None:
    table, rated = drawn(seed, annotators, 12, labels)
    who, items = np.nonzero(rated)
    order = np.random.default_rng(seed).permutation(len(who))
    pairs = annotator_pairs(items, who, table[who, items], 1, 100)
    turned = annotator_pairs(items[order], annotators - 1 - who[order], table[who, items][order], 1, 100)
    ones = np.ones((pairs.tables.shape[1], 1))
    one = mean_pairwise_kappas(pairs, ones, ordered=True)
    other = mean_pairwise_kappas(turned, ones, ordered=True)
    for name, value in one.items():
        assert np.isnan(value[0]) or value[0] <= 1 + 1e-12
        assert other[name] == pytest.approx(value, nan_ok=True)
