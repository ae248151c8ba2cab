import math

import numpy as np
import polars as pl
import pytest

from assay.generation_metrics.tasks import MEANS, for_each_task, mean, perplexity, task_differences, task_scores


def answers(rewards: list[float], losses: list[float], chrf: list[float | None], prefix: str = "It is") -> pl.DataFrame:
    rows = len(rewards)
    nothing = {name: [None] * rows for name in MEANS["answer"]}
    numbers = pl.int_range(rows)
    return pl.DataFrame(nothing | {"reward": rewards, "chrf": chrf, "negative_log_likelihood": losses}).with_columns(
        id=pl.format("q{}", numbers),
        task=pl.lit("answer"),
        answer=pl.format(prefix + " {}", numbers),
        reference_tokens=numbers + 1,
    )


def test_perplexity_weighs_tokens() -> None:
    ones = np.ones((2, 1))
    # Nine nats on three tokens and one on one: 10 / 4.
    assert perplexity(ones, np.array([9.0, 1.0]), np.array([3.0, 1.0])).tolist() == pytest.approx([math.exp(2.5)])


def test_means_leave_rows_without_a_value_out() -> None:
    counts = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 1.0]])
    assert mean(counts, np.array([1.0, np.nan, 4.0])).tolist() == pytest.approx([2.5, 2.0])


def test_scores_have_intervals_around_them() -> None:
    table = answers([1.0, 2.0, 3.0], [1.0, 4.0, 9.0], [0.2, None, 0.4])
    scores = task_scores(table, "answer", 500, np.random.default_rng(1))
    assert scores["rows"] == 3
    assert scores["perplexity"] == pytest.approx(math.exp(14 / 6))
    assert scores["chrf"] == pytest.approx(0.3)
    assert scores["chrf_ci95_low"] <= 0.3 <= scores["chrf_ci95_high"]
    assert scores["reward"] == pytest.approx(2.0)
    assert "repetition" not in scores  # no row has one


def test_a_model_beside_itself_differs_by_nothing() -> None:
    table = answers([1.0, 2.0, 3.0], [1.0, 4.0, 9.0], [0.2, 0.3, 0.4])
    found = task_differences(table, table, "answer", 200, np.random.default_rng(1))
    assert found["perplexity_ratio"] == found["perplexity_ratio_ci95_low"] == found["perplexity_ratio_ci95_high"] == 1.0
    assert found["chrf_difference"] == 0.0
    assert found["reward_win_rate"] == 0.5


def test_differences_are_paired() -> None:
    one = answers([2.0, 3.0, 4.0], [1.0, 2.0, 3.0], [0.3, 0.6, 0.9])
    # Each row is 0.1 worse, and each token twice as surprising: the interval has no width.
    other = answers([1.0, 2.0, 5.0], [2.0, 4.0, 6.0], [0.2, 0.5, 0.8], prefix="No, it is")
    found = task_differences(one, other.reverse(), "answer", 200, np.random.default_rng(1))
    assert found["chrf_difference"] == pytest.approx(0.1)
    assert found["chrf_difference_ci95_low"] == pytest.approx(0.1)
    assert found["chrf_difference_ci95_high"] == pytest.approx(0.1)
    assert found["perplexity_ratio"] == pytest.approx(math.exp(-1))
    assert found["perplexity_ratio_ci95_high"] == pytest.approx(math.exp(-1))
    assert found["reward_win_rate"] == pytest.approx(2 / 3)


def test_the_same_answer_is_a_tie_whatever_its_rewards_were_rounded_to() -> None:
    one = answers([2.0, 3.0], [1.0, 2.0], [0.3, 0.6])
    other = answers([1.99, 2.99], [1.0, 2.0], [0.3, 0.6])
    assert task_differences(one, other, "answer", 200, np.random.default_rng(1))["reward_win_rate"] == 0.5


def test_tasks_that_are_not_there_have_no_scores() -> None:
    scores = for_each_task(lambda task: {"rows": len(task)}, {"label", "answer"})
    assert scores == {"answer": {"rows": 6}, "label": {"rows": 5}}
