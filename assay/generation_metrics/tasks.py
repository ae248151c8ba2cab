"""Scores of a language model over test questions, and differences of two models on the same questions, with intervals.

Legend: `n` test rows, `b` bootstrap samples. Scores are means over the rows that have them, but perplexity:
that is exp of the mean negative log-likelihood of a token of the reference answers, so that long answers count more.
"""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.statistics.bootstrap import Floats, bootstrap_figures
from assay.statistics.metrics_dict import metrics_of

MEANS: Mapping[str, tuple[str, ...]] = {
    "answer": ("chrf", "cosine", "uses_context", "refused", "repetition", "tokens", "ended", "reward"),
    "unanswerable": ("refused", "repetition", "tokens", "ended", "reward"),
    "label": ("exact_match", "tokens", "ended"),
}
"""The scores of each task that are means over rows; a row where a score is null does not count for it. Without a reward
model there is no column `reward`."""

TASKS = tuple(MEANS)


def perplexity(counts: Floats, negative_log_likelihood: Floats, tokens: Floats) -> Floats:
    """Perplexity under given counts of the rows, shape `(n, b)` → `(b,)`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value: Floats = np.exp(negative_log_likelihood @ counts / (tokens @ counts))
    return value


def mean(counts: Floats, values: Floats) -> Floats:
    """Mean under given counts of the rows that have a value, shape `(n, b)` → `(b,)`."""
    has = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        value: Floats = np.where(has, values, 0.0) @ counts / (has.astype(np.float64) @ counts)
    return value


def column(table: pl.DataFrame, name: str) -> NDArray[np.float64]:
    """A column of numbers or truth values, null as NaN."""
    return table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def task_scores(answers: pl.DataFrame, task: str, samples: int, random: np.random.Generator) -> dict[str, float]:
    """Scores of one task with their 95% intervals, from `samples` bootstrap samples.

    Answers have `task`, `negative_log_likelihood`, `reference_tokens`, and a column for each score. With a generator in
    the same state for every model, all see the same resampled rows.
    """
    rows = answers.filter(pl.col("task") == task)
    losses, tokens = column(rows, "negative_log_likelihood"), column(rows, "reference_tokens")
    means = {name: column(rows, name) for name in MEANS[task] if name in rows.columns}

    def measure(counts: Floats) -> dict[str, Floats]:
        return {"perplexity": perplexity(counts, losses, tokens)} | {
            name: mean(counts, values) for name, values in means.items()
        }

    return {"rows": rows.height, **metrics_of(bootstrap_figures(measure, rows.height, samples, random))}


def task_differences(
    answers: pl.DataFrame, others: pl.DataFrame, task: str, samples: int, random: np.random.Generator
) -> dict[str, float]:
    """What one model's scores are above another's on the same rows of a task, with paired 95% intervals.

    `<score>_difference`, and `perplexity_ratio` (below 1: the one is less surprised); `reward_win_rate`: the share of
    rows on which the reward model prefers the one; ties count as half, the same answer from both among them. Arguments
    as of `task_scores`; both tables have `id` and `answer` too.
    """
    names = [name for name in MEANS[task] if name in answers.columns and name in others.columns]
    pairs = answers.filter(pl.col("task") == task).join(others, on="id", suffix="_other", maintain_order="left")
    losses, tokens = column(pairs, "negative_log_likelihood"), column(pairs, "reference_tokens")
    other_losses = column(pairs, "negative_log_likelihood_other")
    values = {name: column(pairs, name) for name in names}
    other_values = {name: column(pairs, f"{name}_other") for name in names}
    wins = {}
    if "reward" in names:
        # In a batch with other rows the same answer gets a reward that differs in its last digits.
        same = (pairs["answer"] == pairs["answer_other"]).to_numpy()
        wins["reward_win_rate"] = np.where(same, 0.5, (np.sign(values["reward"] - other_values["reward"]) + 1) / 2)

    def measure(counts: Floats) -> dict[str, Floats]:
        one, other = perplexity(counts, losses, tokens), perplexity(counts, other_losses, tokens)
        differences = {
            f"{name}_difference": mean(counts, values[name]) - mean(counts, other_values[name]) for name in names
        }
        won = {name: mean(counts, of_row) for name, of_row in wins.items()}
        return {"perplexity_ratio": one / other, "perplexity_difference": one - other} | differences | won

    return {"rows": pairs.height, **metrics_of(bootstrap_figures(measure, pairs.height, samples, random))}


def for_each_task(scores: Callable[[str], dict[str, float]], present: set[str]) -> dict[str, dict[str, float]]:
    """Scores by task, of the tasks that the rows have."""
    return {task: scores(task) for task in TASKS if task in present}
