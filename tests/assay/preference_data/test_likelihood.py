import numpy as np
import polars as pl
import pytest

from assay.preference_data.likelihood import Likelihoods, summarise_pairs


def test_metrics_of_pairs_by_hand() -> None:
    before = Likelihoods(np.array([-10.0, -10.0, -9.0]), np.array([-12.0, -6.0, -9.0]))
    after = Likelihoods(np.array([-8.0, -10.0, -9.0]), np.array([-14.0, -7.0, -8.0]))
    table = pl.DataFrame({"pair_source": ["a", "b", "b"], "prompt_id": ["p", "p", "q"]})
    metrics = summarise_pairs(before, after, 0.5, table, 100, np.random.default_rng(0))
    # Margins 0.5 (2 + 2) = 2, 0.5 (0 + 1) = 0.5 and 0.5 (0 - 1) = -0.5.
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["margin"] == pytest.approx(2 / 3)
    by_source = metrics["by_source"]
    assert isinstance(by_source, dict)
    assert by_source["a"] == {"pairs": 1, "accuracy": 1.0, "margin": 2.0}
    assert by_source["b"]["accuracy"] == 0.5
