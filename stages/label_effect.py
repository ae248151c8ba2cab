"""What people's corrections and the detector's action are worth: the test scores of a probe with and without them.

Decides: nothing. A logistic regression on the frozen embeddings is fitted on the train rows as they were given, as
people corrected them, and as `label_errors` left them, and scored on the reference labels of the test rows (the given
label where there is none), which this stage, `evaluate` and `report` alone may see.

The fit has no randomness of its own, so each seed draws the train rows anew, with replacement, the same rows for every
variant. The intervals are 95% percentile bootstrap intervals over test rows and seeds together, and paired: every
variant is scored on the same draws. If the interval of a difference holds 0, the data do not say that it helped.

Reads `data/split/`, `data/clean/records.parquet` (labels before corrections), `data/label_errors/train.parquet` and
`data/embeddings/embeddings.parquet`; writes `metrics/optional/label_effect.json`.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.core.errors import run_stage
from assay.core.outputs import write_json
from assay.core.params import Params, load_params
from assay.core.progress import progress
from assay.core.seeds import generator
from assay.embeddings.table import EMBEDDINGS, embeddings_of
from assay.statistics.classification import weighted_scores

SPLIT = Path("data/split")
UNCORRECTED = Path("data/clean/records.parquet")
ACTED_ON = Path("data/label_errors/train.parquet")
METRICS = Path("metrics/optional/label_effect.json")

MAX_ITERATIONS = 1000
CALIBRATION_BINS = 15


class LabelEffectParams(Params):
    """The `label_effect` section of `params.yaml`."""

    seeds: int = Field(ge=2, le=1000)
    C: float = Field(gt=0)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)


@dataclass(frozen=True)
class Variant:
    """Train rows with their labels and weights: `id`, `label`, `weight`."""

    name: str
    rows: pl.DataFrame


def variants(split_train: pl.DataFrame, acted_on: pl.DataFrame, uncorrected: pl.DataFrame) -> list[Variant]:
    """The train rows as given, as people corrected them, and after the detector's action.

    Corrections are left out where they changed no train row's label.

    Args:
        split_train: train rows with the labels after corrections.
        acted_on: what `label_errors` made of them.
        uncorrected: `id` and `label` of all rows before corrections.
    """
    given = split_train.select("id", "label", weight=pl.lit(1.0))
    before = (
        given.join(uncorrected.select("id", given="label"), on="id", how="left", maintain_order="left")
        .with_columns(label=pl.coalesce("given", "label"))
        .drop("given")
    )
    found = [
        Variant("detector_off", given),
        Variant("detector_on", acted_on.select("id", "label", weight="label_weight")),
    ]
    return found if before.equals(given) else [Variant("uncorrected", before), *found]


def probe_probabilities(
    variant: Variant,
    features: dict[str, NDArray[np.float32]],
    draws: dict[str, int],
    test: NDArray[np.float32],
    classes: list[str],
    C: float,
) -> NDArray[np.float64]:
    """Probabilities of the test rows, shape `(n, k)`, by a probe fitted on a draw of the variant's rows.

    Args:
        variant: the train rows.
        features: embedding of each train row, shape `(d,)`.
        draws: how often each train row was drawn.
        test: embeddings of the test rows, shape `(n, d)`.
        classes: labels in the order of the columns.
        C: scikit-learn's `C`.
    """
    ids, labels = variant.rows["id"].to_list(), variant.rows["label"].to_numpy()
    weights = variant.rows["weight"].to_numpy() * np.array([draws[row] for row in ids])
    kept = weights > 0
    matrix = np.stack([features[row] for row in ids])[kept]
    model = LogisticRegression(C=C, max_iter=MAX_ITERATIONS)
    model.fit(matrix, labels[kept], sample_weight=weights[kept])
    probabilities = np.zeros((len(test), len(classes)))
    probabilities[:, [classes.index(label) for label in model.classes_]] = model.predict_proba(test)
    return probabilities


def intervals(scores: dict[str, NDArray[np.float64]], seeds: NDArray[np.int64]) -> dict[str, object]:
    """Mean over the seeds with its interval, for each variant and for each step from one to the next.

    Args:
        scores: of each variant, shape `(seeds, 1 + samples)`; the first column is that on the test rows as they are.
        seeds: the seeds drawn for each bootstrap sample, shape `(samples, seeds)`.
    """
    samples = np.arange(len(seeds))[:, None] + 1
    point = {name: float(values[:, 0].mean()) for name, values in scores.items()}
    drawn = {name: values[seeds, samples].mean(axis=1) for name, values in scores.items()}
    found: dict[str, object] = {}
    for name in scores:
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        found[name] = {
            "macro_f1": point[name],
            "macro_f1_ci95_low": float(low),
            "macro_f1_ci95_high": float(high),
            "macro_f1_sd_of_seeds": float(scores[name][:, 0].std(ddof=1)),
        }
    for before, after in pairwise(scores):
        low, high = np.quantile(drawn[after] - drawn[before], [0.025, 0.975])
        found[f"{after}_minus_{before}"] = {
            "macro_f1": point[after] - point[before],
            "macro_f1_ci95_low": float(low),
            "macro_f1_ci95_high": float(high),
        }
    return found


def main() -> None:
    """Score the probe on every variant of the train rows."""
    params = load_params("label_effect", LabelEffectParams)
    seed = load_params("seed", int)
    train = pl.read_parquet(SPLIT / "train.parquet")
    test = pl.read_parquet(SPLIT / "test.parquet").with_columns(target=pl.coalesce("reference_label", "label"))
    embeddings = pl.read_parquet(EMBEDDINGS)
    compared = variants(train, pl.read_parquet(ACTED_ON), pl.read_parquet(UNCORRECTED, columns=["id", "label"]))
    features = dict(zip(train["id"], embeddings_of(train["id"], embeddings, SPLIT / "train.parquet"), strict=True))
    test_features = embeddings_of(test["id"], embeddings, SPLIT / "test.parquet")
    classes = sorted({*train["label"], *test["target"], *compared[0].rows["label"]})
    truth = np.array([classes.index(label) for label in test["target"]])

    random = generator(seed, "label_effect", "bootstrap")
    drawn_rows = random.multinomial(test.height, np.full(test.height, 1 / test.height), size=params.bootstrap_samples)
    weights = np.concatenate([np.ones((1, test.height)), drawn_rows.astype(np.float64)])
    scores = {variant.name: np.empty((params.seeds, len(weights))) for variant in compared}
    # Several threads add up in another order, and the last bits of the scores would depend on the machine.
    with threadpool_limits(limits=1, user_api="blas"):
        for number in progress(range(params.seeds), "label effect", total=params.seeds, unit="seed"):
            counts = generator(seed, "label_effect", str(number)).multinomial(
                train.height, np.full(train.height, 1 / train.height)
            )
            draws = dict(zip(train["id"], counts.tolist(), strict=True))
            for variant in compared:
                probabilities = probe_probabilities(variant, features, draws, test_features, classes, params.C)
                scored = weighted_scores(truth, probabilities, weights, CALIBRATION_BINS)
                scores[variant.name][number] = scored["macro_f1"]
    seeds = random.integers(0, params.seeds, size=(params.bootstrap_samples, params.seeds))
    write_json(
        METRICS,
        {
            "rows_train": {variant.name: variant.rows.height for variant in compared},
            "rows_test": test.height,
            "seeds": params.seeds,
            **intervals(scores, seeds),
        },
    )


if __name__ == "__main__":
    run_stage(main)
