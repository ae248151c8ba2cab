import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats import inter_rater

from stages.lib.agreement import (
    fleiss_kappa,
    krippendorff_alpha_interval,
    krippendorff_alpha_nominal,
    mean_pairwise_cohen_kappa,
)

# Fleiss (1971), table 1: 30 psychiatric patients, 6 diagnoses each, in 5 categories; kappa = .430.
FLEISS_1971_COUNTS = np.array(
    [
        [0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0], [2, 0, 4, 0, 0],
        [0, 0, 4, 0, 2], [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6], [1, 0, 0, 5, 0], [1, 1, 0, 4, 0],
        [0, 3, 3, 0, 0], [1, 0, 0, 5, 0], [0, 2, 0, 3, 1], [0, 0, 5, 0, 1], [3, 0, 0, 1, 2], [5, 1, 0, 0, 0],
        [0, 2, 0, 4, 0], [1, 0, 2, 0, 3], [0, 0, 0, 0, 6], [0, 1, 0, 5, 0], [0, 2, 0, 1, 3], [2, 0, 0, 4, 0],
        [1, 0, 0, 4, 1], [0, 5, 0, 1, 0], [4, 0, 0, 0, 2], [0, 2, 0, 4, 0], [1, 0, 5, 0, 0], [0, 0, 0, 0, 6],
    ]
)  # fmt: skip

# Krippendorff (2011), section E: 4 observers, 12 units, missing values; nominal .743, interval .849.
MISSING = np.nan
KRIPPENDORFF_2011 = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, MISSING, MISSING, MISSING],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, MISSING, 3],
        [MISSING, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, MISSING],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, MISSING],
    ]
)

Ratings = tuple[NDArray[np.int64], NDArray[np.int64]]


def from_counts(counts: NDArray[np.int64]) -> Ratings:
    """One entry per rating, from a table of items by labels."""
    items, labels = np.nonzero(counts)
    times = counts[items, labels]
    return np.repeat(items, times), np.repeat(labels, times)


def from_reliability_data(data: NDArray[np.float64]) -> Ratings:
    """One entry per rating, from a table of annotators by items with missing values."""
    annotators, items = np.nonzero(~np.isnan(data))
    return items, data[annotators, items].astype(np.int64)


counts_tables = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 4), min_size=width, max_size=width), min_size=1, max_size=12)
)


def test_fleiss_kappa_of_the_worked_example() -> None:
    kappa = fleiss_kappa(*from_counts(FLEISS_1971_COUNTS))
    assert kappa == pytest.approx(0.4302445, abs=1e-6)


def test_fleiss_kappa_equals_statsmodels_where_counts_are_equal() -> None:
    drawn = np.random.default_rng(3).multinomial(7, [0.5, 0.3, 0.2], size=40)
    assert fleiss_kappa(*from_counts(drawn)) == pytest.approx(inter_rater.fleiss_kappa(drawn), abs=1e-12)


def test_fleiss_kappa_of_unequal_counts_by_hand() -> None:
    # Agreement within the items: 1, and (0 + 2) / (3 · 2). Shares of the labels: (1 + 1/3) / 2, and the rest.
    kappa = fleiss_kappa(*from_counts(np.array([[2, 0], [1, 2]])))
    observed, expected = (1 + 1 / 3) / 2, (2 / 3) ** 2 + (1 / 3) ** 2
    assert kappa == pytest.approx((observed - expected) / (1 - expected))


def test_items_with_one_rating_do_not_count() -> None:
    counts = np.array([[2, 0], [1, 2], [0, 3]])
    lonely = np.vstack([counts, [[1, 0]] * 5])
    assert fleiss_kappa(*from_counts(lonely)) == fleiss_kappa(*from_counts(counts))
    assert krippendorff_alpha_nominal(*from_counts(lonely)) == krippendorff_alpha_nominal(*from_counts(counts))


def test_krippendorff_alpha_of_the_worked_example() -> None:
    items, values = from_reliability_data(KRIPPENDORFF_2011)
    assert krippendorff_alpha_nominal(items, values) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha_interval(items, values.astype(float)) == pytest.approx(0.849, abs=5e-4)


@given(counts_tables)
def test_krippendorff_alpha_equals_the_krippendorff_package(table: list[list[int]]) -> None:
    counts = np.array(table)
    items, labels = from_counts(counts)
    alphas = krippendorff_alpha_nominal(items, labels), krippendorff_alpha_interval(items, labels.astype(float))
    pairable = counts[counts.sum(axis=1) >= 2]
    if (pairable.sum(axis=0) > 0).sum() < 2:
        assert alphas == (None, None)
        return
    expected = [
        krippendorff.alpha(value_counts=counts, level_of_measurement=level) for level in ("nominal", "interval")
    ]
    assert alphas == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "counts", [np.zeros((0, 2), dtype=int), np.array([[1, 0], [0, 1]]), np.array([[3, 0], [2, 0]])]
)
def test_no_chance_correction_without_pairs_or_with_one_label(counts: NDArray[np.int64]) -> None:
    items, labels = from_counts(counts)
    assert fleiss_kappa(items, labels) is None
    assert krippendorff_alpha_nominal(items, labels) is None
    assert krippendorff_alpha_interval(items, labels.astype(float)) is None


def test_cohen_kappa_of_a_worked_example() -> None:
    # 50 grant proposals, two readers: 20 both yes, 5 and 10 split, 15 both no: 0.4 (Wikipedia, "Cohen's kappa").
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    kappa = mean_pairwise_cohen_kappa(
        np.tile(np.arange(50), 2), np.repeat([0, 1], 50), np.concatenate([first, second]), 30, 10
    )
    assert kappa.mean == pytest.approx(0.4)
    assert (kappa.pairs, kappa.undefined_pairs) == (1, 0)


def test_mean_cohen_kappa_equals_scikit_learn_over_the_same_pairs() -> None:
    random = np.random.default_rng(5)
    table = random.integers(0, 3, size=(4, 60))
    rated = random.random((4, 60)) < 0.7
    annotators, items = np.nonzero(rated)
    expected = {}
    for i in range(4):
        for j in range(i + 1, 4):
            both = rated[i] & rated[j]
            expected[i, j] = (both.sum(), cohen_kappa_score(table[i, both], table[j, both]))

    everything = mean_pairwise_cohen_kappa(items, annotators, table[annotators, items], 1, 100)
    assert everything.mean == pytest.approx(np.mean([kappa for _, kappa in expected.values()]))

    enough = sorted(common for common, _ in expected.values())[2]
    chosen = [kappa for common, kappa in expected.values() if common >= enough]
    some = mean_pairwise_cohen_kappa(items, annotators, table[annotators, items], int(enough), 100)
    assert some.pairs == len(chosen)
    assert some.mean == pytest.approx(np.mean(chosen))

    most_common = sorted(expected, key=lambda pair: (-expected[pair][0], pair))[:2]
    capped = mean_pairwise_cohen_kappa(items, annotators, table[annotators, items], 1, 2)
    assert capped.pairs == 2
    assert capped.mean == pytest.approx(np.mean([expected[pair][1] for pair in most_common]))


def test_pairs_that_chance_explains_are_counted_apart() -> None:
    items, annotators = np.tile(np.arange(5), 2), np.repeat([0, 1], 5)
    kappa = mean_pairwise_cohen_kappa(items, annotators, np.zeros(10, dtype=int), 2, 10)
    assert (kappa.mean, kappa.pairs, kappa.undefined_pairs) == (None, 0, 1)


def test_no_pair_has_enough_items() -> None:
    kappa = mean_pairwise_cohen_kappa(np.array([0, 1]), np.array([0, 1]), np.array([0, 1]), 1, 10)
    assert (kappa.mean, kappa.pairs) == (None, 0)
