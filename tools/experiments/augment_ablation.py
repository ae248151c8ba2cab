"""Does augmentation help? Train with no recipe, each recipe alone and all, on shares of the train rows.

`make ablation` runs all cells, in `ablation/dvc.yaml`. By hand:

- `python -m tools.experiments.augment_ablation ARM SHARE` runs one: `ARM` is `none`, `all`, or a recipe of
  `augment_ablation.recipes`; `SHARE` a share of the train rows. Writes `data/augment_ablation/<arm>_<share>.json`.
- `python -m tools.experiments.augment_ablation` compares the cells that are there: `metrics/augment_ablation.json`.

Two models are trained in each cell: a logistic regression on the frozen embeddings (`probe`) and full fine-tuning with
the settings of `finetune.full` (`full`).

- Rows are sampled by a hash of their split group, so a smaller share is part of a larger one. Examples are made of
  these rows, and their labels checked by a probe on these rows, alone.
- All arms of a share get the same number of optimizer steps, up to whole epochs: `max_epochs` falls as rows are added.
  With few rows there are more epochs, for `min_steps` steps.
- Of the probe, which has no randomness, a seed draws train rows with replacement, and examples come as often as their
  sources. A seed of fine-tuning is that of the head, the dropout and the order of rows.
- Scores are on the reference labels of the test split. Intervals are 95% percentile bootstrap intervals over test rows
  and seeds, and paired: an arm and `none` are scored on the same draws.
"""

import argparse
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.augmentation.make_examples import (
    HELD_OUT,
    TRAIN,
    AugmentParams,
    append_examples,
    load_around,
    make_examples,
    read_inputs,
    read_train_rows,
)
from assay.augmentation.recipes import AnyRecipe, Recipes, require_models
from assay.classifiers.fit import fit_seed
from assay.classifiers.fits import Data, model_seed, read_rows
from assay.classifiers.predict import predict
from assay.compute.device import prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json, write_json
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.seeds import derived_seed, generator, keyed_uniform
from assay.embeddings.encoder import embedded_texts
from assay.embeddings.table import EMBEDDINGS, embeddings_of
from assay.fine_tuning.params import Full
from assay.probes import weighted_probe
from assay.statistics.bootstrap import draw_counts, estimate_models
from assay.statistics.classification import weighted_scores
from assay.statistics.metrics_dict import interval_metrics

CELLS = Path("data/augment_ablation")
METRICS = Path("metrics/augment_ablation.json")
MODELS = Path("scratch/augment_ablation")
CALIBRATION_BINS = 15

Model = Literal["probe", "full"]


class AblationParams(Params):
    """The `augment_ablation` section of `params.yaml`."""

    arms: list[str]
    recipes: Recipes
    train_shares: list[float]
    seeds: list[int] = Field(min_length=2)
    C: float = Field(gt=0)
    min_steps: int = Field(ge=1)
    bootstrap_samples: int = Field(ge=100)

    @field_validator("train_shares")
    @classmethod
    def _are_shares(cls, shares: list[float]) -> list[float]:
        if any(not 0 < share <= 1 for share in shares):
            raise ValueError("shares of the train rows are above 0 and at most 1")
        return shares


def recipes_of(arm: str, params: AblationParams) -> list[AnyRecipe]:
    """The recipes of an arm; an `InputError` if there is no such arm."""
    if arm in ("none", "all"):
        return params.recipes if arm == "all" else []
    of_arm = [recipe for recipe in params.recipes if recipe.name == arm]
    if not of_arm:
        known = ", ".join(recipe.name for recipe in params.recipes)
        raise InputError(f"params.yaml: `augment_ablation.arms`: no recipe {arm!r}; there are none, all, {known}")
    return of_arm


def epochs_of(params: Full, originals: int, rows: int, min_steps: int) -> int:
    """Epochs with which `rows` rows get as many steps as the original ones alone do."""
    alone = max(params.max_epochs, math.ceil(min_steps * params.batch_size / originals))
    return max(1, round(alone * originals / rows))


def probe_predictions(
    rows: pl.DataFrame,
    features: NDArray[np.float32],
    test: NDArray[np.float32],
    classes: list[str],
    C: float,
    random: np.random.Generator,
) -> list[str]:
    """Labels of the test rows `(n, d)` by a probe on a draw of the originals and their examples, features `(m, d)`."""
    originals = rows.filter(pl.col("parent_id").is_null())["id"].to_list()
    drawn = random.multinomial(len(originals), np.full(len(originals), 1 / len(originals)))
    often = dict(zip(originals, drawn.tolist(), strict=True))
    owners = rows.select(pl.coalesce("parent_id", "id")).to_series()
    weights = rows["label_weight"].to_numpy() * np.array([often[owner] for owner in owners], dtype=np.float64)
    probabilities = weighted_probe(features, rows["label"].to_numpy(), weights, test, classes, C)
    return [classes[index] for index in probabilities.argmax(axis=1)]


def run_cell(arm: str, share: float, params: AblationParams, seed: int) -> dict[str, Any]:
    """Train both models of a cell: predicted labels of the test rows by model and seed, and the rows trained on."""
    augmentation = load_params("augment", AugmentParams).model_copy(update={"recipes": recipes_of(arm, params)})
    require_models(augmentation.recipes)
    around = load_around()
    every = read_train_rows()
    train = every.filter(keyed_uniform(every["split_group"], seed, "augment_ablation") < share)
    validation, test = (pl.read_parquet(path) for path in HELD_OUT)
    inputs = read_inputs(train)
    kept = make_examples(inputs, augmentation, around, (seed, "augment")).filtered.kept
    rows = append_examples(train, kept)
    classes = sorted(every["label"].unique())

    features = inputs.train_vectors
    if kept.height:
        exact = prepare_device(around.compute, exact=True)
        embedded, _ = embedded_texts(kept["text"].to_list(), around.embed, exact)
        features = np.concatenate([features, embedded.embeddings])
    test_features = embeddings_of(test["id"], pl.read_parquet(EMBEDDINGS), HELD_OUT[1])
    predicted: dict[Model, list[list[str]]] = {"probe": [], "full": []}
    with threadpool_limits(limits=1, user_api="blas"):
        for value in params.seeds:
            # The same draw for every arm.
            random = generator(seed, "augment_ablation", str(share), str(value))
            predicted["probe"].append(probe_predictions(rows, features, test_features, classes, params.C, random))
    full = load_params("finetune.full", Full)
    epochs = epochs_of(full, train.height, rows.height, params.min_steps)
    full = full.model_copy(update={"max_epochs": epochs})
    data = Data(read_rows(rows, classes, TRAIN), read_rows(validation, classes, HELD_OUT[0]), classes)
    device = prepare_device(around.compute)
    for value in params.seeds:
        print(f"{arm} {share} seed {value}", flush=True)
        # Trained for its predictions, and not kept.
        fit_seed(full, data, device, derived_seed(model_seed(seed, value), "finetune", "full"), MODELS)
        said = predict(MODELS, test["text"].to_list(), full.batch_size, device, "test")
        predicted["full"].append(said.predicted_labels())
    made = {"arm": arm, "share": share, "rows_original": train.height, "rows": rows.height}
    return made | {"epochs_of_full": epochs, "predicted": predicted}


def scores_of(
    predicted: list[list[str]], truth: NDArray[np.int64], classes: list[str], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Macro-F1 of the model of each seed under each set of row counts, shape `(seeds, b)`."""
    number = {label: index for index, label in enumerate(classes)}
    of_seeds = [np.eye(len(classes))[[number[label] for label in labels]] for labels in predicted]
    return np.stack([weighted_scores(truth, one, counts, CALIBRATION_BINS)["macro_f1"] for one in of_seeds])


def compared(cells: list[dict[str, Any]], test: pl.DataFrame, params: AblationParams, seed: int) -> dict[str, Any]:
    """Macro-F1 of every cell, and what its arm adds to that of `none` at the same share, with 95% intervals."""
    classes = sorted({*test["target"], *(label for cell in cells for label in cell["predicted"]["probe"][0])})
    truth = np.array([classes.index(label) for label in test["target"]])
    random = generator(seed, "augment_ablation", "bootstrap")
    counts = draw_counts(test.height, params.bootstrap_samples, random)
    seeds = random.integers(0, len(params.seeds), size=(params.bootstrap_samples, len(params.seeds)))

    found: dict[str, Any] = {}
    for model in ("probe", "full"):
        scores = {
            (cell["share"], cell["arm"]): scores_of(cell["predicted"][model], truth, classes, counts) for cell in cells
        }
        found[model] = {}
        for cell in sorted(cells, key=lambda cell: (-cell["share"], cell["arm"] != "none", cell["arm"])):
            share, arm = cell["share"], cell["arm"]
            own = scores[share, arm]
            of_cell = {"rows": cell["rows"], **interval_metrics("macro_f1", estimate_models(own, seeds))}
            if arm != "none" and (share, "none") in scores:
                of_cell |= interval_metrics("effect", estimate_models(own, seeds, scores[share, "none"]))
            found[model].setdefault(str(share), {})[arm] = of_cell
    return found


def main() -> None:
    """Run one cell, or compare those that are there."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.augment_ablation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("arm", nargs="?", help="none, all, or a recipe; without it, the cells are compared")
    parser.add_argument("share", nargs="?", type=float, default=1.0, help="of the train rows (1)")
    arguments = parser.parse_args()
    params = load_params("augment_ablation", AblationParams)
    seed = load_params("seed", int)
    if arguments.arm is not None:
        quiet_libraries()
        cell = run_cell(arguments.arm, arguments.share, params, seed)
        write_json(CELLS / f"{arguments.arm}_{arguments.share}.json", cell)  # as in ablation/dvc.yaml
        return
    cells = [read_json(path) for path in sorted(CELLS.glob("*.json"))]
    if not cells:
        raise InputError(f"{CELLS}: no cells to compare; run `make ablation`")
    test = pl.read_parquet(HELD_OUT[1]).with_columns(target=pl.coalesce("reference_label", "label"))
    write_json(METRICS, {"seeds": len(params.seeds), "rows_test": test.height, **compared(cells, test, params, seed)})


if __name__ == "__main__":
    run_stage(main)
