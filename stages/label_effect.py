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

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.core.errors import run_stage
from assay.core.outputs import write_json
from assay.core.params import Params, load_params
from assay.core.progress import progress
from assay.core.seeds import generator
from assay.embeddings.table import EMBEDDINGS, embeddings_of
from assay.probes import weighted_probe
from assay.statistics.bootstrap import average_drawn_models, draw_counts
from assay.statistics.classification import weighted_scores
from assay.statistics.intervals import percentile_estimate
from assay.statistics.metrics_dict import interval_metrics

SPLIT = Path("data/split")
UNCORRECTED = Path("data/clean/records.parquet")
ACTED_ON = Path("data/label_errors/train.parquet")
METRICS = Path("metrics/optional/label_effect.json")

CALIBRATION_BINS = 15


class LabelEffectParams(Params):
    """The `label_effect` section of `params.yaml`."""

    seeds: int = Field(ge=2, le=1000)
    C: float = Field(gt=0)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)


def label_variants(
    split_train: pl.DataFrame, acted_on: pl.DataFrame, uncorrected: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """The train rows as given, as people corrected them, and after the detector's action: `id`, `label`, `weight`.

    Corrections are skipped where they changed no train row's label.

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
    found = {"detector_off": given, "detector_on": acted_on.select("id", "label", weight="label_weight")}
    return found if before.equals(given) else {"uncorrected": before, **found}


def summarise_scores(scores: dict[str, NDArray[np.float64]], seeds: NDArray[np.int64]) -> dict[str, object]:
    """Mean over the seeds with its interval, for each variant and for each step from one to the next.

    Args:
        scores: of each variant, shape `(seeds, 1 + samples)`; the first column is that on the test rows as they are.
        seeds: the seeds drawn for each bootstrap sample, shape `(samples, seeds)`.
    """
    point = {name: float(values[:, 0].mean()) for name, values in scores.items()}
    drawn = {name: average_drawn_models(values[:, 1:], seeds) for name, values in scores.items()}
    found: dict[str, object] = {}
    for name in scores:
        found[name] = {
            **interval_metrics("macro_f1", percentile_estimate(point[name], drawn[name])),
            "macro_f1_sd_of_seeds": float(scores[name][:, 0].std(ddof=1)),
        }
    for before, after in pairwise(scores):
        difference = percentile_estimate(point[after] - point[before], drawn[after] - drawn[before])
        found[f"{after}_minus_{before}"] = interval_metrics("macro_f1", difference)
    return found


def main() -> None:
    """Score the probe on every variant of the train rows."""
    params = load_params("label_effect", LabelEffectParams)
    seed = load_params("seed", int)
    train = pl.read_parquet(SPLIT / "train.parquet")
    test = pl.read_parquet(SPLIT / "test.parquet").with_columns(target=pl.coalesce("reference_label", "label"))
    embeddings = pl.read_parquet(EMBEDDINGS)
    compared = label_variants(train, pl.read_parquet(ACTED_ON), pl.read_parquet(UNCORRECTED, columns=["id", "label"]))
    features = embeddings_of(train["id"], embeddings, SPLIT / "train.parquet")
    test_features = embeddings_of(test["id"], embeddings, SPLIT / "test.parquet")
    classes = sorted({*train["label"], *test["target"], *next(iter(compared.values()))["label"]})
    truth = np.array([classes.index(label) for label in test["target"]])

    random = generator(seed, "label_effect", "bootstrap")
    counts = draw_counts(test.height, params.bootstrap_samples, random)
    scores = {name: np.empty((params.seeds, counts.shape[1])) for name in compared}
    place = {id_: row for row, id_ in enumerate(train["id"])}
    # Several threads add up in another order, and the last bits of the scores would depend on the machine.
    with threadpool_limits(limits=1, user_api="blas"):
        for number in progress(range(params.seeds), "label effect", total=params.seeds, unit="seed"):
            drawn = generator(seed, "label_effect", str(number)).multinomial(
                train.height, np.full(train.height, 1 / train.height)
            )
            for name, table in compared.items():
                rows = np.array([place[id_] for id_ in table["id"]])
                labels, weights = table["label"].to_numpy(), table["weight"].to_numpy() * drawn[rows]
                probabilities = weighted_probe(features[rows], labels, weights, test_features, classes, params.C)
                scored = weighted_scores(truth, probabilities, counts, CALIBRATION_BINS)
                scores[name][number] = scored["macro_f1"]
    seeds = random.integers(0, params.seeds, size=(params.bootstrap_samples, params.seeds))
    write_json(
        METRICS,
        {
            "rows_train": {name: table.height for name, table in compared.items()},
            "rows_test": test.height,
            "seeds": params.seeds,
            **summarise_scores(scores, seeds),
        },
    )


if __name__ == "__main__":
    run_stage(main)
