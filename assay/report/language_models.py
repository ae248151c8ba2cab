"""What the report says of language models: scores side by side, how training went, and their answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from assay.core.results import read_own
from assay.report.examples import cut
from assay.report.numbers import number
from assay.report.plots import Curve, curves
from assay.statistics.metrics_dict import Estimate, estimate_of

METRICS = Path("metrics")
ANSWERS = Path("data/generations")

NAMES: Mapping[str, str] = {"open": "open book", "retrieved": "retrieved", "closed": "closed book"}
ROWS: Mapping[str, str] = {**NAMES, "unanswerable": "without an answer", "label": "labels"}
"""Modes in which a question is asked: beside its true passage and others; as `make ask` asks it; without passages."""
LOWER, LETTERS = "of reference answers; lower is better", "overlap of letters with the reference answer (Popović 2015)"
SCORES: Sequence[tuple[str, str, str, str]] = (
    *((mode, "perplexity", f"perplexity, {name}", LOWER) for mode, name in NAMES.items()),
    *((mode, "chrf", f"chrF, {name}", LETTERS) for mode, name in NAMES.items()),
    ("open", "refused", "refuses wrongly", "open book, answerable questions that are refused"),
    ("unanswerable", "refused", "refuses rightly", "unanswerable questions that are refused"),
    ("label", "exact_match", "label right", "the likeliest of the labels is the right one"),
    ("open", "tokens", "tokens", "open book, mean length of an answer"),
    ("open", "ended", "ends", "open book, answers that end by themselves"),
)
"""Mode, key, name and meaning of each column."""

DIFFERENCES: Sequence[tuple[str, str, str]] = (
    ("open", "perplexity_ratio", "ratio of perplexities, open book"),
    ("closed", "perplexity_ratio", "closed book"),
    ("open", "chrf_difference", "chrF, open book"),
    ("retrieved", "chrf_difference", "retrieved"),
    ("label", "exact_match_difference", "label right"),
    ("open", "reward_difference", "judge: reward"),
    ("open", "reward_win_rate", "judge: wins"),
)
"""Mode, key and name of what is said of a pair of models."""
QUESTIONS_SHOWN: Mapping[str, int] = {"open": 8, "retrieved": 4, "unanswerable": 4, "label": 4}


@dataclass(frozen=True)
class Question:
    """A test question, as asked in a mode, with the answer of every model; `answers` by model."""

    id: str
    mode: str
    question: str
    passages: list[str]
    reference: str
    answers: dict[str, str]


@dataclass(frozen=True)
class Generation:
    """What the section shows; all of it is empty for what is switched off.

    Of `models`, in the order of `generation_models`, and of `baselines`, scores stand by column, as text. Of `pairs`,
    `(one, against, differences)`, the differences are those of `DIFFERENCES`, and last the wins by people. `people`
    counts their judgements. `left_out` has the reason why this machine could not make a model. Plots are by caption.
    """

    rows: dict[str, int]
    held: int | None
    models: list[tuple[str, list[str]]]
    baselines: list[tuple[str, list[str]]]
    beside_copying: dict[str, Any]
    columns: list[tuple[str, str]]
    pairs: list[tuple[str, str, list[Estimate | None]]]
    people: int
    left_out: dict[str, str]
    courses: dict[str, Markup]
    reward: dict[str, Any]
    questions: list[Question]


def course(file: Path, y: str, name: str) -> Curve:
    """A column of a file of steps as a curve; without a point where there is no value, or no file."""
    if not file.is_file():
        return Curve(name, [])
    rows = pl.read_csv(file, infer_schema_length=None, columns=["step", y]).cast(pl.Float64, strict=False).drop_nulls()
    return Curve(name, list(rows.filter(pl.col(y).is_finite()).iter_rows()))


def training_plots(approaches: Sequence[str]) -> dict[str, Markup]:
    """The course of the trainings that ran on these data and params, by caption; those without a step are not drawn."""
    plots = METRICS / "plots"

    def steps(y: str, *names: str) -> list[Curve]:
        ran = [name for name in names if read_own(METRICS / "optional" / f"{name}.json") is not None]
        return [course(plots / name / "steps.csv", y, name) for name in ran]

    trained = [name for name in approaches if read_own(METRICS / "sft" / f"{name}.json") is not None]
    sft = [course(plots / "sft_loss" / f"{name}.csv", "validation_loss", name) for name in trained]
    drawn = {
        "SFT: loss on validation answers": (sft, "validation loss, nats a token"),
        "DPO: margin of the better answers": (steps("margin", "dpo"), "margin"),
        "Reward of sampled answers, by step of the policy": (steps("score", "ppo", "rloo"), "reward less the penalty"),
        "PPO: divergence from the reference": (steps("kl", "ppo"), "nats an answer"),
    }
    return {
        caption: curves(lines, "step", y_label, caption)
        for caption, (lines, y_label) in drawn.items()
        if any(line.points for line in lines)
    }


def show_score(scores: Mapping[str, Any], key: str) -> str:
    """A score of a mode with its interval, as far as it has one, and a share as a count; `–` where there is none."""
    one, count = estimate_of(scores, key), f"{key}_count"
    if one is None and count not in scores:
        return "–"
    text = f"{scores[count]} of {scores[f'{key}_rows']}" if count in scores else number(one.value if one else 0.0)
    return text + (
        f" [{number(one.low)}, {number(one.high)}]" if one and one.low is not None and one.high is not None else ""
    )


def show_scores(modes: Mapping[str, Any]) -> list[str]:
    """The scores of a model or a baseline in the columns of `SCORES`."""
    return [show_score(modes.get(mode, {}), key) for mode, key, *_ in SCORES]


def questions(answers: Mapping[str, pl.DataFrame]) -> list[Question]:
    """Some test questions of each mode, the first of the drawn ones, with every model's answer.

    The tables of the models have the same rows.
    """
    said = {
        name: {row[:2]: row[2] for row in table.select("id", "mode", "answer").iter_rows()}
        for name, table in answers.items()
    }
    shown = [
        table.filter(mode=mode).head(n) for table in [*answers.values()][:1] for mode, n in QUESTIONS_SHOWN.items()
    ]
    return [
        Question(
            row["id"],
            row["mode"],
            cut(row["question"]),
            [cut(passage) for passage in row["context"] or []],
            cut(row["reference"]),
            {name: cut(texts[row["id"], row["mode"]] or "") for name, texts in said.items()},
        )
        for table in shown
        for row in table.iter_rows(named=True)
    ]


def read_generation(models: Collection[str], approaches: Sequence[str]) -> Generation | None:
    """Read what the generative track measured on these data and params; None where nothing of it is there."""
    summary, reward = (read_own(METRICS / f"optional/{name}.json") or {} for name in ("generation_summary", "reward"))
    scores: dict[str, Any] = {name: one for name in models if (one := summary.get("models", {}).get(name)) is not None}
    courses = training_plots(approaches)
    if not scores and not courses and not reward:
        return None
    pairs = {tuple(name.split("_against_")): one for name, one in summary.get("pairs", {}).items()}
    pairs = {names: one for names, one in pairs.items() if set(names) <= set(models)}
    answered: dict[str, Any] = next(iter(scores.values()), {})
    files = {name: ANSWERS / name / "answers.parquet" for name in scores}
    return Generation(
        rows={name: int(answered[mode]["rows"]) for mode, name in ROWS.items() if mode in answered},
        held=answered.get("retrieved", {}).get("held"),
        models=[(name, show_scores(one)) for name, one in scores.items()],
        baselines=[(name.replace("_", " "), show_scores(one)) for name, one in summary.get("baselines", {}).items()],
        beside_copying=summary.get("beside_copying", {}),
        columns=[(name, means) for _, _, name, means in SCORES],
        pairs=[
            (
                *names,
                [
                    *(estimate_of(one.get(mode, {}), key) for mode, key, _ in DIFFERENCES),
                    estimate_of(one, "people_win_rate"),
                ],
            )
            for names, one in pairs.items()
        ],
        people=sum(int(one.get("people_judgements", 0)) for one in pairs.values()),
        left_out={name: reason for name, reason in summary.get("left_out", {}).items() if name in models},
        courses=courses,
        reward=reward,
        questions=questions({name: pl.read_parquet(file) for name, file in files.items() if file.is_file()}),
    )
