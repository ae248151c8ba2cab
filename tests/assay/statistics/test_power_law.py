from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import binom

from assay.statistics.intervals import Floats
from assay.statistics.power_law import Extrapolation, draw_covariance, extrapolate, fit_power_laws

SIZES = np.array([100.0, 200.0, 400.0, 700.0, 1000.0])
SHAPES: dict[str, Callable[[Floats], Floats]] = {
    "root": lambda n: 0.05 + 0.05 * (n / 1000) ** -0.5,
    "slow, without a floor": lambda n: 0.1 * (n / 1000) ** -0.3,
    "fast": lambda n: 0.2 + 0.02 * (n / 1000) ** -1.0,
    "flat": lambda n: np.full_like(n, 0.2),
    "no power law": lambda n: 0.05 + 0.03 * (n / 1000) ** -0.3 + 0.01 * (n / 1000) ** -1.3,
}


def simulate(
    shape: Callable[[Floats], Floats], draws: int, by_seed: float, random: np.random.Generator
) -> tuple[Extrapolation, float, float]:
    """The band at twice the rows, where errors are means over the train rows; the error there, and the true gain."""
    of_row = 0.005 * np.sqrt(1000) * random.normal(size=2000)
    size = SIZES.astype(int)
    means = [np.cumsum(random.permutation(of_row[:1000]))[size - 1] / size for _ in range(draws)]
    errors = shape(SIZES) + np.array(means) + by_seed * random.normal(size=(draws, 5))
    covariance = 0.007**2 + 0.002**2 * np.eye(5)
    errors += random.multivariate_normal(np.zeros(5), covariance)
    twice = float(shape(np.array([2000.0]))[0] + of_row.mean() + by_seed * random.normal())
    gain = float(shape(SIZES)[-1] + of_row[:1000].mean() - shape(np.array([2000.0]))[0] - of_row.mean())
    return extrapolate(SIZES, errors, covariance, np.array([2000.0]), 400, random), twice, gain


@pytest.mark.slow
@pytest.mark.parametrize(("draws", "by_seed"), [(5, 0.0), (2, 0.004)])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_band_covers_what_comes_in_nine_of_ten(shape: str, draws: int, by_seed: float) -> None:
    runs, covered, of_gain, shown = 200, 0, 0, 0
    for run in range(runs):
        found, twice, gain = simulate(
            SHAPES[shape], draws, by_seed, np.random.default_rng([[*SHAPES].index(shape), draws, run])
        )
        covered += found.errors[1, 0] <= twice <= found.errors[2, 0]
        of_gain += found.gains[1, 0] <= gain <= found.gains[2, 0]
        shown += found.gains[1, 0] > 0
    # Of twenty such checks one fails by chance in one of fifty sets of seeds.
    assert min(covered, of_gain) >= binom.ppf(0.001, runs, 0.9)
    # Where more rows bring nothing, that is not said in more than the one of twenty that a band of 90% is wrong below.
    assert shape != "flat" or shown <= binom.ppf(0.99, runs, 0.05)


@pytest.mark.parametrize("law", [(0.05, 0.05, 0.5), (0.0, 0.1, 0.3), (0.2, 0.02, 1.2)])
def test_the_fit_is_that_of_least_squares(law: tuple[float, float, float]) -> None:
    x = SIZES / 1000
    errors = law[0] + law[1] * x ** -law[2] + np.random.default_rng(2).normal(0, 0.001, 5)
    whitening = np.diag(1 / np.array([3.0, 2.0, 1.0, 1.0, 1.0]))
    expected = least_squares(
        lambda p: whitening @ (p[0] + p[1] * x ** -p[2] - errors), law, bounds=([0, -1, 0.05], [1, 1, 2])
    )
    laws, loss = fit_power_laws(x, errors[None], whitening)
    assert loss[0] == pytest.approx(2 * expected.cost, rel=0.05, abs=1e-8)  # exponents are on a grid
    assert laws[:, 0] == pytest.approx(expected.x, abs=0.03)


def test_draws_of_the_same_rows_share_their_noise() -> None:
    """By simulation of errors that are means over the train rows."""
    random = np.random.default_rng(5)
    rows = random.normal(size=(20_000, 20))
    sizes, targets = np.array([5.0, 10.0]), np.array([20.0])
    orders = [random.permuted(rows[:, :10], axis=1).cumsum(axis=1)[:, [4, 9]] / sizes for _ in range(2)]
    found = np.cov(np.column_stack([np.mean(orders, axis=0), rows.mean(axis=1)]).T)
    # Draws vary by v (1/5 - 1/10), and not at all rows: v is 1.
    errors = np.array([[np.sqrt(0.05), 0.0], [-np.sqrt(0.05), 0.0]])
    assert draw_covariance(sizes, targets, errors) == pytest.approx(found, abs=0.005)


def test_a_curve_without_noise_is_continued() -> None:
    errors = np.tile(SHAPES["root"](SIZES), (2, 1))
    found = extrapolate(SIZES, errors, np.zeros((5, 5)), np.array([2000.0]), 100, np.random.default_rng(1))
    assert found.errors[0, 0] == pytest.approx(0.05 + 0.05 * 0.5**0.5, abs=1e-3)
    assert found.gains[1, 0] > 0.01
