"""What the report says of language models: scores side by side, how training went, and their answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from assay.core.results import read_own
from assay.report.examples import cut
from assay.report.numbers import number
from assay.report.plots import Curve, curves
from assay.report.wording import DIFFERENCES, MODES, QUESTIONS_SHOWN, SCORES
from assay.statistics.metrics_dict import estimate_of

METRICS = Path("metrics")
ANSWERS = Path("data/generations")


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


def questions(answers: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """Some test questions of each mode, the first of the drawn ones, with the `answers` by model.

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
        {"id": row["id"], "mode": row["mode"], "question": cut(row["question"]), "reference": cut(row["reference"])}
        | {"passages": [cut(passage) for passage in row["context"] or []]}
        | {"answers": {name: cut(texts[row["id"], row["mode"]] or "") for name, texts in said.items()}}
        for table in shown
        for row in table.iter_rows(named=True)
    ]


def read_generation(models: Collection[str], approaches: Sequence[str]) -> dict[str, Any] | None:
    """What the section shows of these data and params, empty for what is switched off; None where there is nothing.

    Of `models`, in the order of `generation_models`, and of `baselines`, scores stand by column, as text. Of `pairs`,
    `(one, against, differences)`, the differences are those of `DIFFERENCES`, and last the wins by people. `people`
    counts their judgements. `left_out` has the reason why this machine could not make a model. `courses` are plots by
    caption.
    """
    summary, reward = (read_own(METRICS / f"optional/{name}.json") or {} for name in ("generation_summary", "reward"))
    scores: dict[str, Any] = {name: one for name in models if (one := summary.get("models", {}).get(name)) is not None}
    courses = training_plots(approaches)
    if not scores and not courses and not reward:
        return None
    pairs = {tuple(name.split("_against_")): one for name, one in summary.get("pairs", {}).items()}
    pairs = {names: one for names, one in pairs.items() if set(names) <= set(models)}
    answered: dict[str, Any] = next(iter(scores.values()), {})
    files = {name: ANSWERS / name / "answers.parquet" for name in scores}
    differences = {
        names: [estimate_of(one.get(mode, {}), key) for mode, key, _ in DIFFERENCES] for names, one in pairs.items()
    }
    return {
        "rows": {name: int(answered[mode]["rows"]) for mode, name in MODES.items() if mode in answered},
        "held": answered.get("retrieved", {}).get("held"),
        "models": [(name, show_scores(one)) for name, one in scores.items()],
        "baselines": [(name.replace("_", " "), show_scores(one)) for name, one in summary.get("baselines", {}).items()],
        "beside_copying": summary.get("beside_copying", {}),
        "columns": [(name, means) for _, _, name, means in SCORES],
        "differences": [name for _, _, name in DIFFERENCES],
        "pairs": [(*names, [*differences[names], estimate_of(one, "people_win_rate")]) for names, one in pairs.items()],
        "people": sum(int(one.get("people_judgements", 0)) for one in pairs.values()),
        "left_out": {name: reason for name, reason in summary.get("left_out", {}).items() if name in models},
        "courses": courses,
        "reward": reward,
        "questions": questions({name: pl.read_parquet(file) for name, file in files.items() if file.is_file()}),
    }
