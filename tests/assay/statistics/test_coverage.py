"""Intervals cover and tests err as often as they say: in the simulations that were kept, and in a few new ones."""

from pathlib import Path

import numpy as np
import pytest

from assay.core.outputs import read_json
from tests.interval_coverage import CASES, RESULTS, Case, simulate

KEPT = read_json(Path(__file__).parents[3] / RESULTS)
MOST_FOUND = 0.05 + 2 * (0.05 * 0.95 / 2000) ** 0.5


def test_each_case_was_simulated() -> None:
    assert KEPT["simulations"] == 2000
    assert list(KEPT["cases"]) == [case.name() for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=Case.name)
def test_intervals_cover_and_tests_of_equal_models_find_little(case: Case) -> None:
    found = KEPT["cases"][case.name()]
    covered = {name: share for name, share in found.items() if name.endswith("_covered")}
    assert {name: share for name, share in covered.items() if not 0.93 <= share <= 0.97} == {}
    assert ("macro_f1_covered" in covered) == (case.labels == 3)
    if not case.gain:
        assert found["mcnemar_found"] <= MOST_FOUND
        families = KEPT["simulations"] // 10
        assert found["holm_family_found"] <= 0.05 + 2 * (0.05 * 0.95 / families) ** 0.5
        # Where rows come in groups the bootstrap draws them; McNemar's test counts rows.
        assert 0.035 <= found["decided_found"] <= 0.065


@pytest.mark.slow
def test_a_few_new_simulations_agree() -> None:
    found = simulate(Case(200, 3, 1.8), 300, np.random.default_rng(99))
    assert {name: share for name, share in found.items() if name.endswith("_covered") and not 0.9 < share < 0.99} == {}
    assert found["decided_found"] <= 0.09
    assert found["mcnemar_found"] <= 0.08
    assert found["calibration_below_95pct"] > 0.9
