"""How well the detector finds label errors that were put in on purpose, by kind and share of the noise.

Decides: nothing. The detector of `label_errors` is given the reference labels of the train rows with errors in them, so
every error is known; a change to the detector shows here as a change of metrics. Fine-tuning is skipped: it would be
done anew for every kind and share.

`effect` is what dropping the flagged rows is worth to the probe of `label_effect`, beside an oracle, which has the
reference labels back; scored on validation rows with a reference label, as there.

Reads `data/split/{train,validation}.parquet` and `data/embeddings/`; writes the metrics, and precision over recall as
plot data. Where no row has a reference label there is nothing to put errors in, and the metrics say so.

Kinds are those of `assay/label_errors/noise.py`. What is hard or likely there is decided by words (TF-IDF), a model of
another family than most of the detector's.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import run_stage
from assay.core.outputs import write_text
from assay.core.params import Params, load_params
from assay.core.progress import progress
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator
from assay.embeddings.table import EMBEDDINGS, LAYERS, embeddings_of
from assay.label_errors.detector import Detector, DetectorOfLabelErrors, Rows, detect
from assay.label_errors.noise import NOISE
from assay.probes import grouped_folds, number_values, out_of_fold_probabilities, weighted_probe, words_model
from assay.statistics.classification import LabelEffectParams, score_variants
from assay.statistics.detection import grade_score, precision_recall_points

TRAIN = Path("data/split/train.parquet")
VALIDATION = Path("data/split/validation.parquet")
METRICS = Path("metrics/optional/injected_noise.json")
CURVES = Path("metrics/plots/injected_noise/precision_recall.csv")

Kind = Literal["uniform", "instance_dependent", "confusable"]


class InjectedNoiseParams(Params):
    """The `injected_noise` section of `params.yaml`."""

    kinds: Annotated[list[Kind], Field(min_length=1)]
    shares: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]


def grade_detector(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    params: InjectedNoiseParams,
    effect: LabelEffectParams,
    detector: Detector,
    device: Device,
    seed: int,
) -> tuple[dict[str, dict[str, Any]], list[pl.DataFrame]]:
    """The grades by kind and share, and the curve of each case: `noise`, `recall`, `precision`.

    All rows have a reference label, and those of validation rows are among those of train rows.
    """
    labels, groups = number_values(train["reference_label"]), number_values(train["split_group"])
    texts = train["text"].to_list()
    features = embeddings_of(train["id"], pl.read_parquet(LAYERS), TRAIN)
    folds = grouped_folds(labels, groups, detector.folds, derived_seed(seed, "injected_noise"))
    by_words = out_of_fold_probabilities(words_model(texts, [3.0]), labels, folds)[0]
    confused = np.nan_to_num(by_words, nan=1 / (labels.max() + 1))
    embeddings = pl.read_parquet(EMBEDDINGS)
    embedded = embeddings_of(train["id"], embeddings, TRAIN)
    scored = embeddings_of(validation["id"], embeddings, VALIDATION)
    names = train["reference_label"].unique().sort().to_list()
    truth = np.array([names.index(label) for label in validation["reference_label"]], dtype=np.int64)

    def predict(given: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        said = weighted_probe(embedded, given, kept.astype(np.float64), scored, range(len(names)), effect.C)
        return np.asarray(said.argmax(axis=1), dtype=np.int64)

    every = np.ones(len(labels), dtype=np.bool_)
    oracle = predict(labels, every) if len(truth) else truth
    pairs = [(name, "noisy") for name in ("flagged_dropped", "oracle")]
    found: dict[str, dict[str, Any]] = {kind: {} for kind in params.kinds}
    curves = []
    cases = [(kind, share) for kind in params.kinds for share in params.shares]
    for kind, share in progress(cases, "injected noise", total=len(cases), unit="case"):
        noisy = NOISE[kind](labels, confused, share, generator(seed, "injected_noise", kind, str(share)))
        rows = Rows(texts, features, noisy, groups, np.full(len(noisy), -1))
        detection = detect(rows, detector, device, (seed, "label_errors"))
        known = ~np.isnan(detection.quality)
        is_wrong, quality = (noisy != labels)[known], detection.quality[known]
        grade: dict[str, Any] = {**grade_score(is_wrong, quality)}
        if len(truth):
            predicted = {"noisy": predict(noisy, every), "flagged_dropped": predict(noisy, ~detection.is_label_error)}
            # Keyed by nothing else: the same resampled rows for every case.
            random = generator(seed, "injected_noise", "bootstrap")
            groups_scored, samples = number_values(validation["split_group"]), effect.bootstrap_samples
            grade["effect"] = score_variants(
                truth, predicted | {"oracle": oracle}, pairs, groups_scored, samples, random
            )
        found[kind][f"{share * 100:g}pct"] = grade
        points = precision_recall_points(is_wrong, quality)
        curves.append(points.select(pl.lit(f"{kind} {share:.0%}").alias("noise"), pl.all().round(6)))
    return found, curves


def main() -> None:
    """Put errors in, look for them, and grade what was found."""
    params = load_params("injected_noise", InjectedNoiseParams)
    detector: Detector = load_params("label_errors", DetectorOfLabelErrors)
    seed = load_params("seed", int)
    device = prepare_device(load_params("compute", Compute))
    train = pl.read_parquet(TRAIN).filter(pl.col("reference_label").is_not_null())
    validation = pl.read_parquet(VALIDATION).filter(pl.col("reference_label").is_in(train["reference_label"].implode()))
    effect = load_params("label_effect", LabelEffectParams)
    found, curves = dict[str, dict[str, Any]](), list[pl.DataFrame]()
    if train["reference_label"].n_unique() < 2:
        print("injected_noise: no reference labels, so there is no truth to put errors in", file=sys.stderr)
    else:
        # Several threads add up in another order, and the last bits of the scores would depend on the machine.
        with threadpool_limits(limits=1, user_api="blas"):
            found, curves = grade_detector(
                train, validation, params, effect, detector.without_finetuning(), device, seed
            )

    empty = pl.DataFrame(schema={"noise": pl.String, "recall": pl.Float64, "precision": pl.Float64})
    write_text(CURVES, pl.concat([empty, *curves]).write_csv())
    metrics = {"rows": train.height, "rows_validation": validation.height, **found}
    write_metrics(METRICS, metrics, "rows", "uniform.*.average_precision")


if __name__ == "__main__":
    run_stage(main)
