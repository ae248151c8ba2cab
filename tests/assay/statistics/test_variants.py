import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from assay.statistics.variants import score_variants


def test_scores_are_those_of_scikit_learn_and_differences_are_paired() -> None:
    random = np.random.default_rng(5)
    truth = random.integers(0, 3, 300)
    better, worse = (np.where(random.random(300) < share, truth, (truth + 1) % 3) for share in (0.8, 0.6))
    groups = np.repeat(np.arange(100), 3)
    predicted = {"off": worse, "on": better, "same": worse}
    found = score_variants(truth, predicted, [("on", "off"), ("same", "off")], groups, 500, random)
    for name, one in predicted.items():
        assert found[name]["macro_f1"] == pytest.approx(f1_score(truth, one, average="macro"))
        assert found[name]["accuracy"] == pytest.approx(accuracy_score(truth, one))
    for score in ("macro_f1", "accuracy"):
        difference = found["on_minus_off"]
        assert difference[score] == pytest.approx(found["on"][score] - found["off"][score])
        assert 0 < difference[f"{score}_ci95_low"] < difference[score] < difference[f"{score}_ci95_high"]
    # No interval of width 0.
    assert found["same_minus_off"] == {"macro_f1": 0.0, "accuracy": 0.0}


def test_macro_f1_of_rare_labels_has_no_interval() -> None:
    truth = np.array([0] * 50 + [1] * 19)
    found = score_variants(truth, {"one": np.roll(truth, 1)}, [], np.arange(69), 100, np.random.default_rng(1))["one"]
    assert set(found) == {"macro_f1", "accuracy", "accuracy_ci95_low", "accuracy_ci95_high"}
