"""What the report says of language models: scores side by side, how training went, and their answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from assay.core.outputs import read_json
from assay.report.examples import cut
from assay.report.plots import Curve, Interval, curves, dot_and_interval

METRICS = Path("metrics")
ANSWERS = Path("data/generations")

SCORES: Sequence[tuple[str, str, str, str]] = (
    ("answer", "perplexity", "perplexity", "of the reference answers; lower is better"),
    ("answer", "chrf", "chrF", "overlap of letters with the reference answer, 0 to 1 (Popović 2015)"),
    ("answer", "rouge_l", "ROUGE-L", "longest common word sequence with the reference answer (Lin 2004)"),
    ("answer", "cosine", "cosine", "likeness in meaning to the reference answer, by the frozen encoder"),
    ("answer", "uses_context", "uses passages", "share of answers that take up what the passages say"),
    ("answer", "refused", "refuses wrongly", "share of answerable questions that are refused; lower is better"),
    ("unanswerable", "refused", "refuses rightly", "share of unanswerable questions that are refused"),
    ("label", "exact_match", "label right", "exact match on the label task"),
    ("answer", "reward", "reward", "mean by the reward model, which is no neutral judge of what was trained on it"),
    ("answer", "repetition", "repetition", "share of repeated four-word runs; lower is better"),
    ("answer", "tokens", "tokens", "mean length of an answer"),
    ("answer", "ended", "ends", "share of answers that end by themselves"),
    ("general_text", "perplexity", "general perplexity", "of text that has nothing to do with the task: forgetting"),
)
"""Task, key, name and meaning of each column."""

DIFFERENCES: Sequence[tuple[str, str, str]] = (
    ("answer", "perplexity_ratio", "ratio of perplexities"),
    ("answer", "chrf_difference", "chrF"),
    ("label", "exact_match_difference", "label right"),
    ("answer", "reward_difference", "reward"),
    ("answer", "reward_win_rate", "wins by the reward model"),
)
"""Task, key and name of what is said of a pair of models."""

QUESTIONS_SHOWN: Mapping[str, int] = {"answer": 12, "unanswerable": 4, "label": 4}


@dataclass(frozen=True)
class Question:
    """A test question with what every model said; `answers` by model."""

    id: str
    task: str
    question: str
    passages: list[str]
    reference: str
    answers: dict[str, str]


@dataclass(frozen=True)
class Generation:
    """What the chapter shows.

    Attributes:
        rows: test rows that every model was asked.
        models: `(name, figures)` in the order of `generation_models`; figures by column, with their intervals.
        columns: name and meaning of each of them.
        pairs: `(one, against, figures)`; figures by `DIFFERENCES`, None where the models were not asked.
        people: judgements by people there are, over all pairs.
        left_out: models that this machine could not make, with the reason.
        plots: by name.
        reward: metrics of the reward model.
        questions: some, with every model's answer.
    """

    rows: int
    models: list[tuple[str, list[dict[str, float] | None]]]
    columns: list[tuple[str, str]]
    pairs: list[tuple[str, str, list[dict[str, float] | None], dict[str, float] | None]]
    people: int
    left_out: dict[str, str]
    plots: dict[str, Markup]
    reward: dict[str, Any]
    questions: list[Question]


def figure(scores: Mapping[str, Any], key: str) -> dict[str, float] | None:
    """A score as `value`, `low` and `high`, None where it is not there; the ends may be missing."""
    value = scores.get(key)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    found = {"value": float(value)}
    if f"{key}_ci95_low" in scores:
        found |= {"low": float(scores[f"{key}_ci95_low"]), "high": float(scores[f"{key}_ci95_high"])}
    return found


def intervals(models: Mapping[str, Mapping[str, Any]], task: str, key: str, muted: str) -> list[Interval]:
    """One score of every model that has it with its interval."""
    found = {name: figure(scores.get(task, {}), key) for name, scores in models.items()}
    return [
        Interval(name, one["value"], one["low"], one["high"], name == muted)
        for name, one in found.items()
        if one is not None and "low" in one
    ]


def course(file: Path, y: str, name: str) -> Curve:
    """A column of a file of steps as a curve; without a point where there is no value."""
    rows = pl.read_csv(file, infer_schema_length=None, columns=["step", y]).cast(pl.Float64, strict=False).drop_nulls()
    return Curve(name, list(rows.filter(pl.col(y).is_finite()).iter_rows()))


def score_plots(models: Mapping[str, Mapping[str, Any]], reward: Mapping[str, Any]) -> dict[str, Markup]:
    """Scores of the models with their intervals, and how far the reward model is right."""
    first = next(iter(models), "")
    sources = {"all pairs": reward} | reward["by_source"]
    right = [
        Interval(name, one["accuracy"], one["accuracy_ci95_low"], one["accuracy_ci95_high"], name == "all pairs")
        for name, one in sources.items()
        if "accuracy_ci95_low" in one
    ]
    free = (-math.inf, math.inf)
    drawn = {
        "perplexity": ("answer", "perplexity", "Perplexity of the reference answers", (0.0, math.inf)),
        "chrf": ("answer", "chrf", "chrF", (0.0, 1.0)),
        "exact_match": ("label", "exact_match", "Labels that are right", (0.0, 1.0)),
        "reward": ("answer", "reward", "Mean reward", free),
    }
    plots = {
        name: dot_and_interval(intervals(models, task, key, first), title, bounds=bounds, as_given=True)
        for name, (task, key, title, bounds) in drawn.items()
    }
    return plots | {"reward_model": dot_and_interval(right, "Held-out pairs that are right", as_given=True)}


def training_plots(approaches: Sequence[str]) -> dict[str, Markup]:
    """How the losses of SFT, the margin of DPO, and reward and divergence of PPO and RLOO went."""
    plots = METRICS / "plots"
    sft = [course(plots / "sft_loss" / f"{name}.csv", "validation_loss", name) for name in approaches]
    return {
        "sft": curves(sft, "step", "validation loss, nats a token", "Validation loss of SFT"),
        "dpo": curves([course(plots / "dpo/steps.csv", "margin", "dpo")], "step", "margin", "Margin of DPO"),
        "reinforced": curves(
            [course(plots / "ppo/steps.csv", "score", "ppo"), course(plots / "rloo/steps.csv", "score", "rloo")],
            "step", "reward less the penalty", "Reward of sampled answers",
        ),
        "kl": curves([course(plots / "ppo/steps.csv", "kl", "ppo")], "step", "nats an answer", "Divergence of PPO"),
    }  # fmt: skip


def questions(answers: Mapping[str, pl.DataFrame]) -> list[Question]:
    """Some test questions of each task, the first of the drawn ones, with every model's answer.

    Args:
        answers: by model: `id`, `task`, `question`, `context`, `reference`, `answer`; the same rows for each.
    """
    if not answers:
        return []
    said = {name: dict(table.select("id", "answer").iter_rows()) for name, table in answers.items()}
    rows = next(iter(answers.values()))
    shown = pl.concat([rows.filter(pl.col("task") == task).head(count) for task, count in QUESTIONS_SHOWN.items()])
    return [
        Question(
            row["id"],
            row["task"],
            cut(row["question"]),
            [cut(passage) for passage in row["context"] or []],
            cut(row["reference"]),
            {name: cut(texts[row["id"]]) for name, texts in said.items()},
        )
        for row in shown.iter_rows(named=True)
    ]


def read_generation(models: Mapping[str, str], approaches: Sequence[str]) -> Generation:
    """Read what the generative track measured.

    Args:
        models: `generation_models`.
        approaches: `sft_approaches`.
    """
    summary = read_json(METRICS / "optional/generation_summary.json")
    reward = read_json(METRICS / "optional/reward.json")
    scores = {name: summary["models"][name] for name in models if name in summary["models"]}
    pairs = []
    for name, found in summary["pairs"].items():
        one, against = name.split("_against_")
        figures = [figure(found.get(task, {}), key) for task, key, _ in DIFFERENCES]
        pairs.append((one, against, figures, figure(found, "people_win_rate")))
    asked: dict[str, Any] = next(iter(scores.values()), {})
    return Generation(
        rows=sum(int(asked[task]["rows"]) for task in QUESTIONS_SHOWN if task in asked),
        models=[(name, [figure(one.get(task, {}), key) for task, key, _, _ in SCORES]) for name, one in scores.items()],
        columns=[(name, means) for _, _, name, means in SCORES],
        pairs=pairs,
        people=sum(int(found.get("people_judgements", 0)) for found in summary["pairs"].values()),
        left_out=summary["left_out"],
        plots=score_plots(scores, reward) | training_plots(approaches),
        reward=reward,
        questions=questions({name: pl.read_parquet(ANSWERS / name / "answers.parquet") for name in scores}),
    )
