"""The bootstrap resamples items, and says nothing where there is nothing to say."""

import numpy as np
import pytest

from assay.statistics.bootstrap import Measure, bootstrap_figures, item_counts
from assay.statistics.intervals import Floats


def mean_of(values: Floats) -> Measure:
    return lambda weights: {"mean": (values @ weights) / weights.sum(axis=0)}


def test_counts_are_multinomial() -> None:
    parts = list(item_counts(40, 300, np.random.default_rng(1)))
    counts = np.concatenate(parts, axis=1)
    assert counts.shape == (40, 300)
    assert counts.sum(axis=0).tolist() == [40] * 300
    assert counts.mean() == 1
    assert counts.var() == pytest.approx(1 - 1 / 40, abs=0.05)


def test_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(2).normal(3, 2, 400)
    estimate = bootstrap_figures(mean_of(values), 400, 4000, np.random.default_rng(3))["mean"]
    error = values.std(ddof=1) / 20
    assert estimate.value == pytest.approx(values.mean())
    expected = (values.mean() - 1.96 * error, values.mean() + 1.96 * error)
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=0.1 * error)


def test_the_same_seed_gives_the_same_interval_and_another_another() -> None:
    values = np.random.default_rng(2).normal(size=50)
    measure = mean_of(values)
    first, same, other = (bootstrap_figures(measure, 50, 200, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_without_items_there_is_no_figure_and_of_one_item_no_interval() -> None:
    assert bootstrap_figures(lambda weights: {"a": weights[0]}, 0, 100, np.random.default_rng(1)) == {}
    one = bootstrap_figures(lambda weights: {"a": weights[0]}, 1, 100, np.random.default_rng(1))["a"]
    assert (one.value, one.low, one.high) == (1.0, None, None)


def test_undefined_samples_do_not_count_and_an_undefined_figure_is_left_out() -> None:
    def measure(weights: Floats) -> dict[str, Floats]:
        nothing = np.full(weights.shape[1], np.nan)
        as_it_is = (weights == 1).all(axis=0)
        return {
            "never": nothing,
            "without_the_first": np.where(weights[0] > 0, np.nan, 5.0) if weights.shape[1] > 1 else np.array([7.0]),
            "only_as_it_is": np.where(as_it_is, 2.0, np.nan),
        }

    figures = bootstrap_figures(measure, 9, 200, np.random.default_rng(1))
    assert set(figures) == {"without_the_first", "only_as_it_is"}
    # All samples are the same: no interval of no width.
    assert (figures["without_the_first"].value, figures["without_the_first"].low) == (7.0, None)
    assert figures["only_as_it_is"].low is None
