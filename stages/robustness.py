"""Whether what an approach learnt still holds where a test row says the same in other words, or mistyped.

`python -m stages.robustness <approach>`. Asks the first seed's model two questions, and decides nothing:

1. Perturbations: how far do its scores fall when the test rows are altered blindly? A recipe alters `share_of_words` of
   a row's words, at least one; a row without a word that it may alter stays as it is. The altered text depends on the
   row, the recipe and the project seed alone, so every approach is asked about the same texts. Differences are paired,
   row by row; their intervals come from a bootstrap over the rows.
2. Attacks: how often can it be misled on purpose? Of the test rows `attacked_rows` are drawn, the same for every
   approach. For each that the model gets right, TextAttack looks for an alteration that changes the answer, and may ask
   the model about `query_budget` texts; the others are `skipped`. `accuracy_under_attack` is the share of the drawn
   rows that the model gets right and keeps right.

That an attack fails proves nothing: one with a larger budget, or of another kind, may succeed.

An approach that was left out, since this machine cannot fit it, has no figures: the reason stands in their place.

Reads `models/finetuned/<approach>/`, `data/split/test.parquet` and WordNet; writes the figures and
`data/robustness/<approach>/attacks.parquet`: `id`, `attack`, `label`, `before`, `after` (the text that the search ended
with), `result`, `queries` (texts that the model was asked for), `alterable` (whether there was a word that the attack
could change), `changed_words` (their share). Of a row that was skipped, `after` and the last two are null.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import binomtest

from assay.augmentation.apply import copies_of
from assay.augmentation.recipes import AnyRecipe, Recipes, require_models
from assay.augmentation.textattack_import import import_textattack, readable_wordnet, write_textattack_data
from assay.classifiers.predict import SEEDS_FILE, Predictor, load_predictor
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json, write_parquet
from assay.core.params import Params, load_params
from assay.core.progress import progress, quiet_libraries
from assay.core.seeds import derived_seed, generator, keyed_uniform
from assay.core.skipped import leave_out, why_left_out
from assay.splitting.target_labels import read_test_rows, target_numbers
from assay.statistics.bootstrap import bootstrap_figures
from assay.statistics.classification import weighted_scores

MODELS = Path("models/finetuned")
OUTPUT = Path("data/robustness")
METRICS = Path("metrics/robustness")

Floats = NDArray[np.float64]

ATTACKS_SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "attack": pl.String,
        "label": pl.String,
        "before": pl.String,
        "after": pl.String,
        "result": pl.String,
        "queries": pl.Int64,
        "alterable": pl.Boolean,
        "changed_words": pl.Float64,
    }
)


class RobustnessParams(Params):
    """The `robustness` section of `params.yaml`."""

    recipes: Recipes
    attacked_rows: int = Field(ge=1, le=1_000_000)
    query_budget: int = Field(ge=2, le=1_000_000)
    batch_size: int = Field(ge=1, le=4096)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)


def altered_texts(rows: pl.DataFrame, recipe: AnyRecipe, seed: int, scratch: Path, device: Device) -> list[str]:
    """The text of each row as a recipe alters it, whatever the other rows are and whatever its share of rows.

    Args:
        rows: `id`, `text`.
        recipe: what is done.
        seed: the project seed.
        scratch: the folder that `write_textattack_data` has laid out.
        device: for recipes with a model.
    """
    seeds = [derived_seed(seed, "robustness", recipe.name, id_) for id_ in rows["id"]]
    return copies_of(rows["text"].to_list(), seeds, recipe, scratch, 1, device)


def probabilities_after(
    before: Floats, texts: list[str], altered: list[str], predictor: Predictor, batch_size: int
) -> Floats:
    """What the model says of the altered texts; of those that are as they were it is not asked again."""
    changed = [index for index, (old, new) in enumerate(zip(texts, altered, strict=True)) if old != new]
    after = before.copy()
    if changed:
        after[changed] = predictor([altered[index] for index in changed], batch_size, "altered")
    return after


def perturbation_scores(
    targets: NDArray[np.int64], before: Floats, after: Floats, samples: int, random: np.random.Generator
) -> dict[str, float | None]:
    """Scores before and after an alteration, and the differences (after - before) with paired 95% intervals.

    Args:
        targets: class of each of `n` rows, shape `(n,)`.
        before: probabilities for the rows as they are, shape `(n, k)`.
        after: likewise for the altered rows.
        samples: bootstrap samples.
        random: source of the resampling.
    """
    names = ("accuracy", "macro_f1")

    def measure(counts: Floats) -> dict[str, Floats]:
        old, new = (weighted_scores(targets, said, counts.T, 1) for said in (before, after))
        return {name: new[name] - old[name] for name in names}

    once = np.ones((1, len(targets)))
    old, new = (weighted_scores(targets, said, once, 1) for said in (before, after))
    intervals = bootstrap_figures(measure, len(targets), samples, random)
    scores: dict[str, float | None] = {}
    for name in names:
        scores[f"{name}_before"] = float(old[name][0])
        scores[f"{name}_after"] = float(new[name][0])
        scores[f"{name}_difference"] = intervals[name].value
        scores[f"{name}_difference_ci95_low"] = intervals[name].low
        scores[f"{name}_difference_ci95_high"] = intervals[name].high
    return scores


def drawn_rows(test: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """The rows that are attacked, in their order: those of the smallest keyed draws, the same for every approach."""
    draws = keyed_uniform(test["id"], seed, "robustness", "attacked_rows")
    return test.filter(draws.rank("ordinal") <= count)


def attacked_rows(
    rows: pl.DataFrame,
    targets: NDArray[np.int64],
    predictor: Predictor,
    params: RobustnessParams,
    seed: int,
    scratch: Path,
) -> pl.DataFrame:
    """How each attack on each row ends: a table of ATTACKS_SCHEMA, attack by attack.

    Args:
        rows: `id`, `text`, `target_label`.
        targets: class of each row, shape `(rows,)`.
        predictor: the model.
        params: of the stage.
        seed: the project seed.
        scratch: the folder that `write_textattack_data` has laid out.
    """
    import_textattack(scratch)
    # Its classes are TextAttack's, which can be imported from here on.
    from assay.augmentation.attacks import attacked_text, attacks_on

    attacks = attacks_on(
        lambda texts: predictor(texts, params.batch_size, None),
        params.query_budget,
        params.batch_size,
        readable_wordnet(scratch),
    )
    ended = []
    for name, attack in attacks.items():
        records = zip(rows.select("id", "text", "target_label").iter_rows(), targets.tolist(), strict=True)
        for (id_, text, label), target in progress(records, f"attack {name}", total=rows.height, unit="row"):
            one = attacked_text(attack, text, target, derived_seed(seed, "robustness", name, id_))
            ended.append(
                (id_, name, label, text, one.after, one.outcome, one.queries, one.alterable, one.changed_words)
            )
    return pl.DataFrame(ended, schema=ATTACKS_SCHEMA, orient="row")


def attack_scores(ended: pl.DataFrame) -> dict[str, float | None]:
    """The figures of one attack; those that no row defines are None.

    The interval of the success rate is Wilson's (1927).

    Args:
        ended: rows of ATTACKS_SCHEMA, of one attack.
    """
    attacked = ended.filter(pl.col("result") != "skipped")
    succeeded = attacked.filter(pl.col("result") == "succeeded")
    rate = low = high = None
    if attacked.height:
        rate = succeeded.height / attacked.height
        low, high = binomtest(succeeded.height, attacked.height).proportion_ci(method="wilson")
    return {
        "rows": ended.height,
        "attacked": attacked.height,
        "alterable": int(attacked["alterable"].sum()),
        "succeeded": succeeded.height,
        "success_rate": rate,
        "success_rate_ci95_low": low,
        "success_rate_ci95_high": high,
        "queries_per_attack": mean(attacked["queries"]),
        "changed_words_share": mean(succeeded["changed_words"]),
        "accuracy_under_attack": (attacked.height - succeeded.height) / ended.height,
    }


def mean(values: pl.Series) -> float | None:
    """The mean, and None of nothing."""
    return float(values.to_numpy().mean()) if len(values) else None


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
    wordnet = load_params("augment.wordnet", str)
    seed = load_params("seed", int)
    if reason := why_left_out(MODELS / approach):
        leave_out(f"robustness@{approach}", reason, OUTPUT / approach, METRICS / f"{approach}.json", {})
        return
    require_model(approach)
    require_models(params.recipes)
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()

    test = read_test_rows()
    predictor, labels = load_predictor(MODELS / approach, device)
    targets = target_numbers(test, labels)
    texts = test["text"].to_list()
    before = predictor(texts, params.batch_size, "as they are")

    perturbations: dict[str, dict[str, float | None]] = {}
    with tempfile.TemporaryDirectory(prefix="assay-robustness-") as scratch:
        write_textattack_data(Path(wordnet), Path(scratch))
        for recipe in params.recipes:
            altered = altered_texts(test, recipe, seed, Path(scratch), device)
            after = probabilities_after(before, texts, altered, predictor, params.batch_size)
            # Keyed by nothing else: the same resampled rows for every recipe and approach.
            random = generator(seed, "robustness", "bootstrap")
            perturbations[recipe.name] = {
                "rows_changed_share": sum(old != new for old, new in zip(texts, altered, strict=True)) / test.height,
                **perturbation_scores(targets, before, after, params.bootstrap_samples, random),
            }
        drawn = drawn_rows(test, params.attacked_rows, seed)
        drawn_targets = target_numbers(drawn, labels)
        ended = attacked_rows(drawn, drawn_targets, predictor, params, seed, Path(scratch))

    with output_folder(OUTPUT / approach) as folder:
        write_parquet(ended, folder / "attacks.parquet")
    write_json(
        METRICS / f"{approach}.json",
        {
            "rows": test.height,
            "perturbations": perturbations,
            "attacks": {
                str(name): attack_scores(of_one) for (name,), of_one in ended.group_by("attack", maintain_order=True)
            },
        },
    )


if __name__ == "__main__":
    run_stage(main)
