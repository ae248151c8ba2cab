"""Which language model answers better, and whether that can be told: models side by side on the same test questions.

Compares the answers that `evaluate_generation` wrote, pair by pair as `compare_generation.pairs` says and each model
with `base`, and adds what people judged of them (`data/preferences.csv`, lines on test prompts). Writes
`metrics/optional/generation_summary.json`: the scores of each model and of baselines that need none, by mode; how each
model's chrF stands beside copying the nearest passage; and for each pair the differences with paired 95% bootstrap
intervals, the ratio of perplexities, and win rates by the reward model, if there is one, and by people. A pair with a
model that is not in `generation_models` is skipped and named.
"""

import re
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field

from assay.core.errors import InputError, run_stage
from assay.core.params import Params, load_params
from assay.core.results import NOT_RUN, read_own, write_metrics
from assay.core.seeds import generator
from assay.generation_metrics import tasks
from assay.generation_metrics.tasks import COPY_NEAREST, MODES
from assay.human_review.preference_judgements import Preference, check_prompt_ids, read_preferences
from assay.statistics.bootstrap import cluster_means
from assay.statistics.metrics_dict import interval_metrics

BASE = "base"
ANSWERS = Path("data/generations")
SCORES = Path("metrics/evaluate_generation")
JUDGEMENTS = Path("data/preferences.csv")
METRICS = Path("metrics/optional/generation_summary.json")


class Pair(Params):
    """Two models of `generation_models`: what is `model` worth beside `against`?"""

    model: str
    against: str

    @property
    def name(self) -> str:
        """As metrics have it."""
        return f"{self.model}_against_{self.against}"


class CompareGenerationParams(Params):
    """Section `compare_generation`."""

    pairs: Annotated[list[Pair], Field(min_length=1)]
    bootstrap_samples: int = Field(ge=100, le=1_000_000)


def find_skipped(pairs: list[Pair], models: list[str]) -> dict[str, str]:
    """Pairs with a model that is off, with the reason; an `InputError` for an unknown model, or one against itself."""
    for number, pair in enumerate(pairs):
        place = f"params.yaml: `compare_generation.pairs.{number}`"
        if pair.model == pair.against:
            raise InputError(f"{place} compares {pair.model!r} with itself")
        for name in (pair.model, pair.against):
            # One that a stage makes and that is not evaluated was switched off, and is no mistake.
            if name not in models and not re.fullmatch(r"base|sft-\w+|dpo|rloo|ppo", name):
                raise InputError(f"{place} names {name!r}; `generation_models` has {', '.join(models)}")
    missing = {pair.name: [name for name in (pair.model, pair.against) if name not in models] for pair in pairs}
    return {name: f"{' and '.join(of_pair)} not in generation_models" for name, of_pair in missing.items() if of_pair}


def judge_pair(
    preferences: list[Preference], pair: Pair, prompts: Collection[str], samples: int, random: np.random.Generator
) -> dict[str, float]:
    """Share of the judgements of test prompts that `pair.model` won, ties as half, and how many there are.

    Its interval is over prompts, if there are enough. Empty without judgements.
    """
    models = {pair.model, pair.against}
    lines = [line for line in preferences if line.prompt_id in prompts and {line.model_a, line.model_b} == models]
    if not lines:
        return {}
    favourites = [{"a": line.model_a, "b": line.model_b}.get(line.preferred) for line in lines]
    won = np.array([0.5 if name is None else float(name == pair.model) for name in favourites])
    judged = [line.prompt_id for line in lines]
    found = cluster_means({"people_win_rate": won}, judged, samples, random)["people_win_rate"]
    return {"people_judgements": len(lines), **interval_metrics("people_win_rate", tasks.told(found, len({*judged})))}


def main() -> None:
    """Compare the models."""
    params = load_params("compare_generation", CompareGenerationParams)
    models = list(load_params("generation_models", dict[str, str]))
    seed = load_params("seed", int)
    skipped = find_skipped(params.pairs, models)
    for name, reason in skipped.items():
        print(f"compare_generation: {name} skipped: {reason}", file=sys.stderr)
    scores: dict[str, Any] = {name: read_own(SCORES / f"{name}.json") or {"left_out": NOT_RUN} for name in models}
    left_out = {name: one["left_out"] for name, one in scores.items() if "left_out" in one}
    answers = {name: pl.read_parquet(ANSWERS / name / "answers.parquet") for name in models if name not in left_out}
    asked = dict(row for table in answers.values() for row in table.select("id", "question").iter_rows())
    judged = read_preferences(JUDGEMENTS)
    preferences = [line for line in judged if line.prompt_id not in asked or line.is_of(asked[line.prompt_id])]
    if changed := len(judged) - len(preferences):
        print(f"compare_generation: {changed} judgements left out, whose questions have changed", file=sys.stderr)
    check_prompt_ids(preferences, asked, JUDGEMENTS)
    samples, random = params.bootstrap_samples, partial(generator, seed, "compare_generation")
    baselines = tasks.baseline_answers(next(iter(answers.values()))) if answers else {}
    spoken = {name: table.drop_nulls("answer") for name, table in baselines.items()}
    with_base = [Pair(model=name, against=BASE) for name in answers if name != BASE and BASE in answers]
    compared: dict[str, Any] = {}
    for pair in dict.fromkeys([*params.pairs, *with_base]):
        if {pair.model, pair.against} <= answers.keys():
            one, other = answers[pair.model], answers[pair.against]
            compared[pair.name] = {
                mode: tasks.task_differences(one, other, mode, samples, random(mode))
                for mode in MODES
                if mode in one["mode"]
            } | judge_pair(preferences, pair, asked, samples, random("people"))
    summary = {
        "models": {name: {mode: scores[name][mode] for mode in MODES if mode in scores[name]} for name in answers},
        "baselines": {
            name: tasks.score_modes(table, samples, random) for name, table in spoken.items() if table.height
        },
        "beside_copying": tasks.beside_copying(answers, baselines[COPY_NEAREST], samples, random) if answers else {},
        "left_out": left_out,
        "pairs": compared,
        "pairs_skipped": skipped,
        "judgements_prompt_changed": changed,
    }
    write_metrics(METRICS, summary, "pairs.*.open.perplexity_ratio")


if __name__ == "__main__":
    run_stage(main)
