"""Whether what an approach learnt still holds for a test row in other words, or mistyped.

`python -m stages.robustness <approach>`. Decides nothing. Perturbs all test rows by recipes, at least one word of each
row, and lets TextAttack attack `attacked_rows` of them, with at most `query_budget` texts for the first seed's model
each; rows that it gets wrong as they are count as `skipped` (docs/augmentation.md).

An approach that was skipped has no metrics: the reason is written instead.

Reads `models/finetuned/<approach>/`, `data/split/test.parquet` and WordNet; writes the metrics and
`data/robustness/<approach>/attacks.parquet`: `id`, `attack`, `label`, `before`, `after` (the text that the search ended
with), `result`, `queries` (texts that the model was given), `alterable` (whether there was a word that the attack
could change), `changed_words` (their share). For a row that was skipped, `after` and the last two are null.
"""

import argparse
import tempfile
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from assay.augmentation.apply import augment_texts, hide_tokens, show_tokens
from assay.augmentation.recipes import AnyRecipe, Recipes
from assay.augmentation.textattack_import import import_textattack, readable_wordnet, write_textattack_data
from assay.classifiers.predict import SEEDS_FILE, Predictor, load_predictor
from assay.compute.device import Compute, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_tables
from assay.core.params import Params, load_params
from assay.core.progress import progress, quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator, keyed_uniform
from assay.core.skipped import leave_out, why_left_out
from assay.splitting.target_labels import group_numbers, read_test_rows, target_numbers
from assay.statistics.classification import compare_scores
from assay.statistics.intervals import wilson_estimate
from assay.statistics.metrics_dict import interval_metrics

MODELS = Path("models/finetuned")
OUTPUT = Path("data/robustness")
METRICS = Path("metrics/robustness")

ATTACKS_SCHEMA = pl.Schema(
    dict.fromkeys(("id", "attack", "label", "before", "after", "result"), pl.String)
    | {"queries": pl.Int64, "alterable": pl.Boolean, "changed_words": pl.Float64}
)


class RobustnessParams(Params):
    """The `robustness` section of `params.yaml`."""

    recipes: Recipes
    attacked_rows: int = Field(ge=1, le=1_000_000)
    query_budget: int = Field(ge=2, le=1_000_000)
    batch_size: int = Field(ge=1, le=4096)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)


def alter_texts(rows: pl.DataFrame, recipe: AnyRecipe, seed: int, scratch: Path) -> list[str]:
    """The text of each row as a recipe alters it, whatever the other rows are and whatever its share of rows."""
    seeds = [derived_seed(seed, "robustness", recipe.name, id_) for id_ in rows["id"]]
    return augment_texts(rows["text"].to_list(), seeds, recipe, scratch, 1)


def perturb(
    test: pl.DataFrame, labels: list[str], predictor: Predictor, params: RobustnessParams, seed: int, scratch: Path
) -> dict[str, dict[str, float]]:
    """Scores before and after each recipe, by its name."""
    targets, texts, groups = target_numbers(test, labels), test["text"].to_list(), group_numbers(test)
    before = predictor(texts, params.batch_size, "as they are")
    perturbations: dict[str, dict[str, float]] = {}
    for recipe in params.recipes:
        altered = alter_texts(test, recipe, seed, scratch)
        changed = [index for index, (old, new) in enumerate(zip(texts, altered, strict=True)) if old != new]
        after = before.copy()
        if changed:
            after[changed] = predictor([altered[index] for index in changed], params.batch_size, "altered")
        # Keyed by nothing else: the same resampled rows for every recipe and approach.
        random = generator(seed, "robustness", "bootstrap")
        perturbations[recipe.name] = {
            "rows_changed_share": len(changed) / test.height,
            **compare_scores(
                targets, before.argmax(axis=1), after.argmax(axis=1), groups, params.bootstrap_samples, random
            ),
        }
    return perturbations


def sample_rows(test: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """The rows that are attacked, in their order: sampled by hash, the same for every approach."""
    draws = keyed_uniform(test["id"], seed, "robustness", "attacked_rows")
    return test.filter(draws.rank("ordinal") <= count)


def attack_rows(
    rows: pl.DataFrame,
    targets: NDArray[np.int64],
    predictor: Predictor,
    params: RobustnessParams,
    seed: int,
    scratch: Path,
) -> pl.DataFrame:
    """How each attack on each row, of the classes `targets` `(rows,)`, ends: a table of ATTACKS_SCHEMA."""
    import_textattack(scratch)
    # Its classes are TextAttack's, which can be imported from here on.
    from assay.augmentation.attacks import attack_text, build_attacks

    size, wordnet = params.batch_size, readable_wordnet(scratch)
    attacks = build_attacks(lambda texts: predictor(texts, size, None), params.query_budget, size, wordnet)
    ended = []
    for name, attack in attacks.items():
        records = zip(rows.select("id", "text", "target_label").iter_rows(), targets.tolist(), strict=True)
        for (id_, text, label), target in progress(records, f"attack {name}", total=rows.height, unit="row"):
            one = attack_text(attack, text, target, derived_seed(seed, "robustness", name, id_))
            ended.append((id_, name, label, text, *astuple(one)))
    return pl.DataFrame(ended, schema=ATTACKS_SCHEMA, orient="row")


def attack_scores(ended: pl.DataFrame) -> dict[str, Any]:
    """The metrics of one attack from its rows of ATTACKS_SCHEMA; those that no row defines are None."""
    attacked = ended.filter(pl.col("result") != "skipped")
    succeeded = attacked.filter(pl.col("result") == "succeeded")
    rate: dict[str, float | None] = dict.fromkeys(("success_rate", "success_rate_ci95_low", "success_rate_ci95_high"))
    if attacked.height:
        rate |= interval_metrics("success_rate", wilson_estimate(succeeded.height, attacked.height))
    return {
        "rows": ended.height,
        "attacked": attacked.height,
        "alterable": int(attacked["alterable"].sum()),
        "succeeded": succeeded.height,
        **rate,
        "queries_per_attack": attacked["queries"].mean(),
        "changed_words_share": succeeded["changed_words"].mean(),
        "accuracy_under_attack": (attacked.height - succeeded.height) / ended.height,
    }


def require_model(approach: str) -> None:
    """Raise an `InputError` if there is no model of the approach."""
    if not (MODELS / approach / SEEDS_FILE).is_file():
        there = sorted(path.name for path in MODELS.glob("*") if path.is_dir())
        raise InputError(
            f"{MODELS / approach}: no model there; there are {', '.join(there) or 'none'}. Name one of these, or add "
            f"{approach!r} to `approaches` in params.yaml and run `dvc repro finetune@{approach}`"
        )


def main() -> None:
    """Perturb and attack what the approach named on the command line learnt."""
    parser = argparse.ArgumentParser(prog="python -m stages.robustness", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("approach", help="name of a folder under models/finetuned, such as lora")
    approach = parser.parse_args().approach
    params = load_params("robustness", RobustnessParams)
    wordnet, own_tokens = load_params("augment.wordnet", str), load_params("augment.own_tokens", list[str])
    seed = load_params("seed", int)
    if reason := why_left_out(MODELS / approach):
        leave_out(f"robustness@{approach}", reason, OUTPUT / approach, METRICS / f"{approach}.json", {})
        return
    require_model(approach)
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()

    # Recipes and attacks see own tokens as placeholders, which they leave alone; the model sees them as they are.
    test = read_test_rows()
    test = test.with_columns(pl.Series("text", [hide_tokens(text, own_tokens) for text in test["text"]]))
    predict, labels = load_predictor(MODELS / approach, device)

    def predictor(texts: list[str], batch_size: int, what: str | None) -> NDArray[np.float64]:
        return predict([show_tokens(text, own_tokens) for text in texts], batch_size, what)

    with tempfile.TemporaryDirectory(prefix="assay-robustness-") as scratch:
        write_textattack_data(Path(wordnet), Path(scratch))
        perturbations = perturb(test, labels, predictor, params, seed, Path(scratch))
        sampled = sample_rows(test, params.attacked_rows, seed)
        ended = attack_rows(sampled, target_numbers(sampled, labels), predictor, params, seed, Path(scratch))

    shown = pl.col("before", "after").map_elements(lambda text: show_tokens(text, own_tokens), pl.String)
    ended = ended.with_columns(shown)
    write_tables(OUTPUT / approach, {"attacks": ended})
    attacks = {str(name): attack_scores(of_one) for (name,), of_one in ended.group_by("attack", maintain_order=True)}
    metrics = {"rows": test.height, "perturbations": perturbations, "attacks": attacks}
    write_metrics(
        METRICS / f"{approach}.json", metrics, "rows", "perturbations.*.accuracy_difference", "attacks.*.success_rate"
    )


if __name__ == "__main__":
    run_stage(main)
