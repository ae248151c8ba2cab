import numpy as np
import pytest

from assay.compute.cost import Spent, peak_memory_mib, reset_peak_memory


def test_stretches_of_work_add_up() -> None:
    earlier, later = Spent(30.0, 20.0), Spent(12.0, 9.0).since(Spent(8.0, 6.0))
    assert earlier.plus(later) == Spent(34.0, 23.0)


def test_the_peak_of_a_fit_is_not_that_of_a_larger_one_before() -> None:
    large = np.ones(40_000_000)
    before = peak_memory_mib(None)
    del large
    if not reset_peak_memory(None):
        pytest.skip("only Linux can reset the peak of the main memory")
    assert peak_memory_mib(None) < before - 250
