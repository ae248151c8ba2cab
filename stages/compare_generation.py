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
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field

from assay.core.errors import InputError, run_stage
from assay.core.params import Params, load_params
from assay.core.results import NOT_RUN, read_own, write_metrics
from assay.core.seeds import generator
from assay.generation_metrics.tasks import (
    COPY_NEAREST,
    MODES,
    baseline_answers,
    beside_copying,
    for_each_mode,
    score_modes,
    task_differences,
    told,
)
from assay.human_review.preference_judgements import Preference, check_prompt_ids, read_preferences
from assay.statistics.bootstrap import cluster_means
from assay.statistics.metrics_dict import metrics_of

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
        if pair.model == pair.against:
            raise InputError(f"params.yaml: `compare_generation.pairs.{number}` compares {pair.model!r} with itself")
        for name in (pair.model, pair.against):
            # One that a stage makes and that is not evaluated was switched off, and is no mistake.
            if name not in models and not re.fullmatch(r"base|sft-\w+|dpo|rloo|ppo", name):
                place = f"`compare_generation.pairs.{number}` names {name!r}"
                raise InputError(f"params.yaml: {place}; `generation_models` has {', '.join(models)}")
    missing = {pair.name: [name for name in (pair.model, pair.against) if name not in models] for pair in pairs}
    return {name: f"{' and '.join(of_pair)} not in generation_models" for name, of_pair in missing.items() if of_pair}


def read_judgements(preferences: list[Preference], pair: Pair, prompts: Collection[str]) -> pl.DataFrame:
    """A row for each judgement of test prompts: `prompt_id`, and `won` (1: `pair.model` was preferred; 0.5: a tie)."""
    rows = []
    for line in preferences:
        if line.prompt_id in prompts and {line.model_a, line.model_b} == {pair.model, pair.against}:
            preferred = {"a": line.model_a, "b": line.model_b}.get(line.preferred)
            rows.append((line.prompt_id, 0.5 if preferred is None else float(preferred == pair.model)))
    return pl.DataFrame(rows, {"prompt_id": pl.String, "won": pl.Float64}, orient="row")


def people_win_rate(judgements: pl.DataFrame, samples: int, seed: int) -> dict[str, float]:
    """Share of judgements that the one model won, ties as half, and its interval over prompts, if there are enough.

    Empty without judgements.
    """
    if judgements.is_empty():
        return {}
    random, prompts = generator(seed, "compare_generation", "people"), judgements["prompt_id"].to_list()
    (found,) = cluster_means({"won": judgements["won"].to_numpy()}, prompts, samples, random).values()
    return {"people_judgements": judgements.height, **metrics_of({"people_win_rate": told(found, len({*prompts}))})}


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

    def random(mode: str) -> np.random.Generator:
        return generator(seed, "compare_generation", mode)

    baselines = baseline_answers(next(iter(answers.values()))) if answers else {}
    baseline_scores = {
        name: score_modes(said, params.bootstrap_samples, random)
        for name, table in baselines.items()
        if (said := table.filter(pl.col("answer").is_not_null())).height
    }
    copied = baselines.get(COPY_NEAREST)
    copying = {} if copied is None else beside_copying(answers, copied, params.bootstrap_samples, random)
    with_base = [Pair(model=name, against=BASE) for name in answers if name != BASE and BASE in answers]
    compared: dict[str, Any] = {}
    for pair in [*params.pairs, *(pair for pair in with_base if pair not in params.pairs)]:
        if not {pair.model, pair.against} <= answers.keys():
            continue
        one, other = answers[pair.model], answers[pair.against]

        def differences(mode: str, one: pl.DataFrame = one, other: pl.DataFrame = other) -> dict[str, Any]:
            return task_differences(one, other, mode, params.bootstrap_samples, random(mode))

        check_prompt_ids(preferences, one["id"], JUDGEMENTS)
        found = read_judgements(preferences, pair, set(one["id"]))
        by_mode = for_each_mode(differences, set(one["mode"]))
        compared[pair.name] = by_mode | people_win_rate(found, params.bootstrap_samples, seed)
    summary = {
        "models": {name: {mode: scores[name][mode] for mode in MODES if mode in scores[name]} for name in answers},
        "baselines": baseline_scores,
        "beside_copying": copying,
        "left_out": left_out,
        "pairs": compared,
        "pairs_skipped": skipped,
        "judgements_prompt_changed": changed,
    }
    write_metrics(METRICS, summary, "pairs.*.open.perplexity_ratio")


if __name__ == "__main__":
    run_stage(main)
