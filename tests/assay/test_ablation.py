"""Steps against random controls, by the functions that the stage calls."""

import numpy as np
import pytest

from assay.ablation import (
    CONTROL,
    Design,
    Side,
    StepTest,
    compare_steps,
    count_changes,
    deviation_of_controls,
    draw_control,
    predict_variants,
)
from assay.probes import grouped_folds

DATASETS = 100


def test_a_control_changes_as_many_rows_as_the_step_and_others() -> None:
    labels = np.arange(200) % 3
    before = np.eye(3)[labels]
    before[180:] = 0
    after = before.copy()
    after[:30] = 0
    after[30:50] = np.roll(after[30:50], 1, axis=1)
    expected = {"removed": 30, "added": 0, "relabelled": 20, "reweighted": 0}
    assert count_changes(before, after) == expected
    control = draw_control(before, after, np.random.default_rng(1))
    assert count_changes(before, control) == expected
    assert not np.array_equal(control, after)
    np.testing.assert_array_equal(control, draw_control(before, after, np.random.default_rng(1)))
    # Rows that are added are repeated ones; weights go to other rows.
    after = before.copy()
    after[180:] = 1 / 3
    assert draw_control(before, after, np.random.default_rng(1)).sum() == 180 + 20
    weights = np.random.default_rng(2).random(200)[:, None]
    control = draw_control(before, before * weights, np.random.default_rng(1))
    np.testing.assert_allclose(sorted(control.sum(axis=1)[:180]), sorted(weights[:180, 0]))


def test_the_spread_of_controls_is_pooled_over_repeats() -> None:
    truth = np.zeros(10, dtype=np.int64)
    draws = np.array([[0] * right + [1] * (10 - right) for right in (10, 8, 5, 1)])
    assert deviation_of_controls(truth, draws, 2)[1] == pytest.approx(np.sqrt((0.02 + 0.08) / 2))


def compare_removal(seed: int, bad: bool, rows: int = 300) -> StepTest:
    """A step that removes rows against its control: of three classes, 40% of one are labelled as another.

    It removes these rows, or as many at random.
    """
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, rows)
    features = (random.normal(size=(rows, 3)) + 1.5 * np.eye(3)[truth]).astype(np.float32)
    is_wrong = (random.random(rows) < 0.4) & (truth == 0)
    labels = np.where(is_wrong, 1, truth)
    gone = is_wrong if bad else random.permutation(is_wrong)
    base = Side(features, np.eye(3)[labels])
    step = Side(features, base.targets * ~gone[:, None])
    groups = np.arange(rows)
    repeats = [grouped_folds(labels, groups, 5, 10 * seed + repeat) for repeat in range(3)]
    predicted = predict_variants(base, lambda _: {"step": step}, Design((), {"step": 3}, groups, repeats, 3.0), (seed,))
    assert predicted.classes[CONTROL + "step"].shape == (9, rows)
    assert predicted.changes["step"]["removed"] == pytest.approx(0.8 * gone.sum())
    return compare_steps(truth, groups, predicted.classes, (), 1000, random)[1]["step", "control"]


def test_a_step_that_removes_bad_rows_is_better_than_its_control() -> None:
    assert compare_removal(1, bad=True).verdict == "better"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_removal_is_not_told_from_its_control_and_removal_of_bad_rows_is() -> None:
    """docs/ablation.md states both counts."""
    told = {
        bad: sum(compare_removal(s, bad).verdict != "not decided" for s in range(DATASETS)) for bad in (False, True)
    }
    print(told)
    # By chance 5 of 100; more than 10 come with a probability of 1% (binomial).
    assert told[False] <= 10
    assert told[True] >= 80
