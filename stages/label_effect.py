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
from assay.core.params import Params, load_params
from assay.core.progress import progress
from assay.core.results import write_metrics
from assay.core.seeds import generator
from assay.embeddings.table import EMBEDDINGS, embeddings_of
from assay.probes import weighted_probe
from assay.statistics.bootstrap import draw_counts, estimate_models
from assay.statistics.metrics_dict import interval_metrics
from assay.statistics.verdicts import score_samples

SPLIT = Path("data/split")
UNCORRECTED = Path("data/clean/records.parquet")
ACTED_ON = Path("data/label_errors/train.parquet")
METRICS = Path("metrics/optional/label_effect.json")


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
    """
    given = split_train.select("id", "label", weight=pl.lit(1.0))
    joined = given.join(uncorrected.select("id", given="label"), on="id", how="left", maintain_order="left")
    before = joined.select("id", pl.coalesce("given", "label").alias("label"), "weight")
    found = {"detector_off": given, "detector_on": acted_on.select("id", "label", weight="label_weight")}
    return found if before.equals(given) else {"uncorrected": before, **found}


def summarise_scores(scores: dict[str, NDArray[np.float64]], seeds: NDArray[np.int64]) -> dict[str, object]:
    """Mean over the seeds with its interval, for each variant and each step to the next (see `estimate_models`)."""
    found: dict[str, object] = {
        name: interval_metrics("macro_f1", estimate_models(of_one, seeds))
        | {"macro_f1_sd_of_seeds": float(of_one[:, 0].std(ddof=1))}
        for name, of_one in scores.items()
    }
    for before, after in pairwise(scores):
        difference = estimate_models(scores[after], seeds, scores[before])
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
                scores[name][number] = score_samples(truth, probabilities.argmax(axis=1)[None], counts)[0]
    seeds = random.integers(0, params.seeds, size=(params.bootstrap_samples, params.seeds))
    rows_train = {name: table.height for name, table in compared.items()}
    metrics = {"rows_train": rows_train, "rows_test": test.height, "seeds": params.seeds}
    write_metrics(
        METRICS,
        metrics | summarise_scores(scores, seeds),
        "detector_off.macro_f1",
        "detector_on_minus_detector_off.macro_f1",
    )


if __name__ == "__main__":
    run_stage(main)
