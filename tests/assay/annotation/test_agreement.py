"""Agreement equals published examples and independent packages, for the items as they are and for resampled ones."""

import tracemalloc
from functools import partial

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats import inter_rater

from assay.annotation import agreement
from assay.annotation.agreement import label_agreement, label_counts, number_sums
from assay.statistics.bootstrap import bootstrap_figures

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

# Krippendorff (2011), section E: 4 observers, 12 units, missing values; nominal .743, ordinal .815,
# interval .849.
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


def figures(items: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, float]:
    """All figures of labels, which stand for the numbers, too; NaN where undefined."""
    counts, sums = label_counts(items, labels), number_sums(items, labels.astype(np.float64))
    ones = np.ones((len(counts.ratings), 1))
    values = label_agreement(counts, ones, ordered=True)
    values["krippendorff_alpha_interval"] = agreement.krippendorff_alpha_interval(sums, ones)
    return {name: float(value[0]) for name, value in values.items()}


def alphas(items: NDArray[np.int64], labels: NDArray[np.int64]) -> list[float]:
    found = figures(items, labels)
    return [found[f"krippendorff_alpha_{level}"] for level in ("nominal", "ordinal", "interval")]


def test_fleiss_kappa_of_the_worked_example() -> None:
    assert figures(*from_counts(FLEISS_1971_COUNTS))["fleiss_kappa"] == pytest.approx(0.430, abs=5e-4)


def test_fleiss_kappa_of_unequal_counts_by_hand() -> None:
    # Agreement within the items: 1, and (0 + 2) / (3 · 2). Shares of the labels: (1 + 1/3) / 2, and the rest.
    kappa = figures(*from_counts(np.array([[2, 0], [1, 2]])))["fleiss_kappa"]
    observed, expected = (1 + 1 / 3) / 2, (2 / 3) ** 2 + (1 / 3) ** 2
    assert kappa == pytest.approx((observed - expected) / (1 - expected))


def test_items_with_one_rating_do_not_count() -> None:
    counts = np.array([[2, 0], [1, 2], [0, 3]])
    lonely = np.vstack([[[0, 1]] * 3, counts, [[1, 0]] * 5])
    assert figures(*from_counts(lonely)) == figures(*from_counts(counts))


def test_krippendorff_alphas_of_the_worked_example() -> None:
    assert alphas(*from_reliability_data(KRIPPENDORFF_2011)) == pytest.approx([0.743, 0.815, 0.849], abs=5e-4)


@given(counts_tables)
def test_krippendorff_alphas_equal_the_krippendorff_package(table: list[list[int]]) -> None:
    counts = np.array(table)
    found = alphas(*from_counts(counts))
    pairable = counts[counts.sum(axis=1) >= 2]
    if (pairable.sum(axis=0) > 0).sum() < 2:
        assert np.isnan(found).all()
        return
    expected = [
        krippendorff.alpha(value_counts=counts, level_of_measurement=level)
        for level in ("nominal", "ordinal", "interval")
    ]
    assert found == pytest.approx(expected, abs=1e-9)


def test_resampled_items_equal_the_packages_with_rows_repeated() -> None:
    random = np.random.default_rng(4)
    table = random.multinomial(5, [0.5, 0.3, 0.2], size=25)
    counts = label_counts(*from_counts(table))
    sums = number_sums(from_counts(table)[0], from_counts(table)[1].astype(np.float64))
    weights = random.multinomial(25, np.full(25, 1 / 25), size=5).T
    found = label_agreement(counts, weights.astype(np.float64), ordered=True)
    found["krippendorff_alpha_interval"] = agreement.krippendorff_alpha_interval(sums, weights.astype(np.float64))
    for sample in range(5):
        repeated = np.repeat(table, weights[:, sample], axis=0)
        assert found["fleiss_kappa"][sample] == pytest.approx(inter_rater.fleiss_kappa(repeated))
        for level in ("nominal", "ordinal", "interval"):
            expected = krippendorff.alpha(value_counts=repeated, level_of_measurement=level)
            assert found[f"krippendorff_alpha_{level}"][sample] == pytest.approx(expected)


@pytest.mark.parametrize(
    "counts", [np.zeros((0, 2), dtype=int), np.array([[1, 0], [0, 1]]), np.array([[3, 0], [2, 0]])]
)
def test_no_chance_correction_without_pairs_or_with_one_label(counts: NDArray[np.int64]) -> None:
    assert np.isnan(list(figures(*from_counts(counts)).values())).all()


@given(counts_tables, st.integers(0, 1000))
def test_figures_do_not_mind_the_order_of_ratings_or_the_names_of_items(table: list[list[int]], seed: int) -> None:
    items, labels = from_counts(np.array(table))
    order = np.random.default_rng(seed).permutation(len(items))
    names = np.random.default_rng(seed).permutation(len(table))
    assert figures(names[items][order], labels[order]) == pytest.approx(figures(items, labels), nan_ok=True)


@given(counts_tables)
def test_figures_are_at_most_one_and_one_where_all_agree(table: list[list[int]]) -> None:
    found = figures(*from_counts(np.array(table)))
    assert all(np.isnan(value) or value <= 1 + 1e-12 for value in found.values())
    whole = figures(*from_counts(np.diag([3, *(2 for _ in table)])))
    assert list(whole.values()) == pytest.approx([1.0] * 4)


@given(counts_tables)
def test_the_order_of_labels_matters_to_the_ordinal_alpha_alone_and_its_direction_to_none(
    table: list[list[int]],
) -> None:
    counts = np.array(table)
    straight, turned = figures(*from_counts(counts)), figures(*from_counts(counts[:, ::-1]))
    assert turned == pytest.approx(straight, nan_ok=True, abs=1e-9)
    rotated = figures(*from_counts(np.roll(counts, 1, axis=1)))
    for name in ("fleiss_kappa", "krippendorff_alpha_nominal"):
        assert rotated[name] == pytest.approx(straight[name], nan_ok=True, abs=1e-9)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e150, 1e307])
def test_interval_alpha_does_not_mind_the_scale_of_the_numbers(scale: float) -> None:
    items, values = from_reliability_data(KRIPPENDORFF_2011)
    sums = number_sums(items, (values * scale).astype(np.float64))
    alpha = agreement.krippendorff_alpha_interval(sums, np.ones((len(sums.ratings), 1)))[0]
    assert alpha == pytest.approx(0.849, abs=5e-4)


def test_intervals_hold_the_figure_and_narrow_with_more_items() -> None:
    widths = []
    for rows in (50, 800):
        table = np.random.default_rng(1).multinomial(1, [0.6, 0.4], size=rows) * 5 + 1
        counts = label_counts(*from_counts(table))
        measure = partial(label_agreement, counts, ordered=True)
        for estimate in bootstrap_figures(measure, rows, 400, np.random.default_rng(2)).values():
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low <= estimate.value <= estimate.high
            widths.append(estimate.high - estimate.low)
    assert max(widths[3:]) < min(widths[:3])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_million_ratings_fit_and_take_seconds() -> None:
    random = np.random.default_rng(1)
    items = np.repeat(np.arange(100_000), 20)
    labels = random.integers(0, 20, len(items))
    tracemalloc.start()
    counts = label_counts(items, labels)
    found = bootstrap_figures(partial(label_agreement, counts, ordered=True), 100_000, 100, random)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(found["fleiss_kappa"].value) < 0.01
    assert peak < 2 * 2**30
