import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from assay.generation_metrics.tasks import (
    MEANS,
    MIN_ROWS,
    baseline_answers,
    beside_copying,
    mean,
    perplexity,
    score_modes,
    task_differences,
    task_scores,
)


def answers(rewards: list[float], losses: list[float], chrf: list[float | None], prefix: str = "It is") -> pl.DataFrame:
    rows = len(rewards)
    nothing = {name: [None] * rows for name in MEANS["open"]}
    numbers = pl.int_range(rows)
    return pl.DataFrame(nothing | {"reward": rewards, "chrf": chrf, "negative_log_likelihood": losses}).with_columns(
        id=pl.format("q{}", numbers),
        group=pl.format("q{}", numbers),
        mode=pl.lit("open"),
        answer=pl.format(prefix + " {}", numbers),
        answer_in_context=pl.lit(True),
        reference_tokens=numbers % 5 + 1,
    )


def many(rows: int, seed: int = 1) -> pl.DataFrame:
    """So many rows whose figures differ."""
    one, two, three = np.random.default_rng(seed).random((3, rows))
    return answers(one.tolist(), (two + 1).tolist(), three.tolist())


def random(mode: str) -> np.random.Generator:
    return np.random.default_rng(len(mode))


def test_perplexity_weighs_tokens() -> None:
    ones = np.ones((2, 1))
    # Nine nats on three tokens and one on one: 10 / 4.
    assert perplexity(ones, np.array([9.0, 1.0]), np.array([3.0, 1.0])).tolist() == pytest.approx([math.exp(2.5)])


def test_means_leave_rows_without_a_value_out() -> None:
    counts = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 1.0]])
    assert mean(counts, np.array([1.0, np.nan, 4.0])).tolist() == pytest.approx([2.5, 2.0])


def test_scores_of_few_rows_have_no_interval() -> None:
    table = answers([1.0, 2.0, 3.0], [1.0, 4.0, 9.0], [0.2, None, 0.4])
    found = score_modes(table.with_columns(refused=pl.Series([True, False, None])), 500, random)
    assert list(found) == ["open"]  # no row has another mode
    scores = found["open"]
    assert scores["perplexity"] == pytest.approx(math.exp(14 / 6))
    assert scores["chrf"] == pytest.approx(0.3)
    assert (scores["refused_count"], scores["refused_rows"], scores["refused"]) == (1, 2, 0.5)
    assert "tokens" not in scores  # no row has one
    assert not [name for name in scores if "ci95" in name]


def test_intervals_have_a_width_and_are_of_groups() -> None:
    table = many(MIN_ROWS * 2).with_columns(refused=pl.lit(False), tokens=pl.lit(5))
    scores = task_scores(table, "open", 500, random("open"))
    assert scores["chrf_ci95_low"] < scores["chrf"] < scores["chrf_ci95_high"]
    # Wilson's of none in 60; and no interval of what is the same in every row.
    assert (scores["refused_ci95_low"], scores["refused_ci95_high"]) == (0.0, pytest.approx(0.0602, abs=1e-4))
    assert "tokens_ci95_low" not in scores
    # Each question three times tells no more than once, and its interval is no narrower.
    thrice = pl.concat([table] * 3)
    of_groups = task_scores(thrice, "open", 500, random("open"))
    names = [f"{score}_ci95_{end}" for score in ("chrf", "perplexity", "refused") for end in ("low", "high")]
    assert [of_groups[name] for name in names] == pytest.approx([scores[name] for name in names])


def test_a_model_beside_itself_differs_by_nothing() -> None:
    table = many(MIN_ROWS)
    found = task_differences(table, table, "open", 200, random("open"))
    assert (found["perplexity_ratio"], found["chrf_difference"], found["reward_win_rate"]) == (1.0, 0.0, 0.5)
    assert not [name for name in found if "ci95" in name]
    # The same answer is a tie whatever its reward was rounded to.
    other = table.with_columns(pl.col("reward") - 0.01)
    assert task_differences(other, table, "open", 200, random("open"))["reward_win_rate"] == 0.5


def test_differences_are_paired() -> None:
    one = many(MIN_ROWS)
    # Each token is twice as surprising, and each row 0.1 worse or a little more: far less than rows differ.
    more = pl.Series(np.linspace(0.1, 0.11, MIN_ROWS))
    other = one.with_columns(pl.col("chrf") - more, pl.col("negative_log_likelihood") * 2, answer=pl.lit("No"))
    found = task_differences(one, other.reverse(), "open", 200, random("open"))
    assert found["chrf_difference"] == pytest.approx(0.105)
    assert 0.1 < found["chrf_difference_ci95_low"] < found["chrf_difference_ci95_high"] < 0.11
    scores = task_scores(one, "open", 200, random("open"))
    assert found["perplexity_ratio"] == pytest.approx(1 / scores["perplexity"])
    assert found["reward_win_rate"] == 0.5


def test_words_beside_copying_come_from_the_paired_interval() -> None:
    copied = many(MIN_ROWS)
    models = {
        "better": copied.with_columns(pl.col("chrf") + pl.Series(np.linspace(0.1, 0.2, MIN_ROWS))),
        "worse": copied.with_columns(pl.col("chrf") - pl.Series(np.linspace(0.1, 0.2, MIN_ROWS))),
        "not decided": copied.with_columns(pl.col("chrf") + pl.Series(np.linspace(-0.1, 0.1, MIN_ROWS))),
        "few": copied.head(MIN_ROWS - 1),
    }
    found = beside_copying(models, copied, 500, random)
    assert {name: one["word"] for name, one in found["open"].items()} == {word: word for word in [*models][:3]}
    assert found["open"]["better"]["adjusted_p"] == pytest.approx(3 * found["open"]["better"]["p"])
    assert list(found) == ["open"]


def test_baselines_say_what_needs_no_model() -> None:
    nothing: dict[str, Any] = {"context": [], "nearest": None}
    shown = {"context": ["In May.", "Ten weeks."], "nearest": 1}
    rows = [
        {"task": "answer", "mode": "open", "reference": "Ten weeks."} | shown,
        {"task": "answer", "mode": "closed", "reference": "Ten weeks."} | nothing,
        {"task": "unanswerable", "mode": "unanswerable", "reference": "No idea.", "context": ["In May."], "nearest": 0},
        {"task": "label", "mode": "label", "reference": "good"} | nothing,
    ]
    table = pl.DataFrame([{"id": "q", "question": "How long?", "answer": "x", "chrf": 0.1} | row for row in rows])
    labels = pl.Series("labels", [[], [], [], ["bad", "good"]], dtype=pl.List(pl.String))
    found = baseline_answers(table.with_columns(labels))
    assert {name: one["answer"].to_list() for name, one in found.items()} == {
        "copy_nearest": ["Ten weeks.", None, "In May.", None],
        "copy_first": ["In May.", None, "In May.", None],
        "always_refuse": ["No idea.", "No idea.", "No idea.", None],
        "majority_label": [None, None, None, "bad"],
    }
    assert found["copy_nearest"]["chrf"].to_list() == [pytest.approx(1.0), None, None, None]
    assert found["always_refuse"]["refused"].to_list() == [True, True, True, None]
    assert found["majority_label"]["exact_match"].to_list() == [None, None, None, False]
