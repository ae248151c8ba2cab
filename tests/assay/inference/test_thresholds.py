import numpy as np
import pytest
from scipy.stats import binomtest

from assay.inference.thresholds import ERROR_PROBABILITY, TESTS, choose_threshold


def test_the_precision_above_the_threshold_is_the_wanted_one_in_nearly_all_samples() -> None:
    random = np.random.default_rng(1)
    missed, shares = 0, []
    for _ in range(200):
        probabilities = random.uniform(0.34, 1, 800)
        found = choose_threshold(probabilities.tolist(), (random.random(800) < probabilities).tolist(), 0.8)
        assert found.probability is not None
        # Of uniform and calibrated probabilities, the precision above one of them is halfway to 1.
        missed += (found.probability + 1) / 2 < 0.8
        shares.append(found.coverage)
    assert missed / 200 <= ERROR_PROBABILITY
    assert np.mean(shares) > 0.4  # 0.6 would be right if the probabilities were known to be calibrated


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    # All rows are above one threshold, so each test is of all.
    for right, rows in ((95, 100), (99, 100), (790, 800)):
        level = 1 - 2 * ERROR_PROBABILITY / TESTS
        bound = binomtest(right, rows).proportion_ci(level, method="exact").low
        for wanted, is_reached in ((bound - 1e-6, True), (bound + 1e-6, False)):
            found = choose_threshold([0.7] * rows, [True] * right + [False] * (rows - right), wanted)
            assert found.probability == (0.7 if is_reached else None)


@pytest.mark.parametrize("right", [[True], [False], [True, False] * 50])
def test_where_no_threshold_reaches_the_precision_it_is_said(right: list[bool]) -> None:
    found = choose_threshold([0.9] * len(right), right, 0.9)
    assert (found.probability, found.coverage) == (None, 0.0)
    assert str(found).startswith(
        "no threshold reaches a precision of 90%, so no label is sure; of all validation rows "
    )
