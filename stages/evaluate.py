"""Score the models of one approach, one for each seed, on the test split.

`python -m stages.evaluate <approach>`. The label of a test row is its `reference_label` (the consensus of many raters)
where there is one, and the given label otherwise.

Scores are means over the seeds, and their intervals cover rows and seeds; `per_seed` has those of each. What is listed
row by row is the first seed's. An approach that was skipped has no scores: the reason is written instead.

Reads `models/finetuned/<approach>/` and `data/split/test.parquet`; writes the scores with their 95% intervals,
`data/predictions/<approach>/predictions.parquet` (`id`, `text`, `label`, `reference_label`, `target_label`,
`predicted_label`, `confidence`, one `probability_<label>` each) and the confusion matrix as plot data.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.classifiers.predict import (
    Predicted,
    is_baseline,
    mean_inference_ms_per_row,
    predict,
    score_seed,
    seed_folders,
)
from assay.compute.device import Compute, prepare_device
from assay.core.errors import run_stage
from assay.core.outputs import output_folder, write_json, write_parquet, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import generator
from assay.core.skipped import leave_out, why_left_out
from assay.splitting.target_labels import read_test_rows, target_numbers
from assay.statistics.classification import EvaluateParams, bootstrap_scores, score_classes
from assay.statistics.metrics_dict import interval_metrics

MODELS = Path("models/finetuned")
OUTPUT = Path("data/predictions")
METRICS = Path("metrics/evaluate")
COSTS = Path("metrics/cost/evaluate")
CONFUSION = Path("metrics/plots/confusion")


def list_predictions(test: pl.DataFrame, predicted: Predicted) -> pl.DataFrame:
    """Every test row with its predicted label and probabilities, the table of `predictions.parquet`."""
    return test.select("id", "text", "label", "reference_label", "target_label").with_columns(
        pl.Series("predicted_label", predicted.predicted_labels(), dtype=pl.String),
        pl.Series("confidence", predicted.probabilities.max(axis=1)),
        *(pl.Series(f"probability_{name}", predicted.probabilities[:, i]) for i, name in enumerate(predicted.labels)),
    )


def score_models(
    predicted: dict[str, Predicted], targets: NDArray[np.int64], params: EvaluateParams, seed: int
) -> dict[str, Any]:
    """The scores of an approach, the first seed's model class by class."""
    # Not keyed by approach: every approach is scored on the same resampled rows.
    random = generator(seed, "evaluate", "bootstrap")
    of_all = np.stack([of_seed.probabilities for of_seed in predicted.values()])
    headline = bootstrap_scores(targets, of_all, params.bootstrap_samples, params.calibration_bins, random)
    per_seed = {name: score_seed(targets, one, params.calibration_bins) for name, one in predicted.items()}
    metrics: dict[str, Any] = {}
    for name, estimate in headline.items():
        metrics |= interval_metrics(name, estimate)
        if len(predicted) > 1:
            metrics[f"{name}_sd_of_seeds"] = float(np.std([of_seed[name] for of_seed in per_seed.values()], ddof=1))
    metrics["seeds"] = len(predicted)
    metrics["per_seed"] = per_seed
    first = next(iter(predicted.values()))
    metrics["per_class"] = score_classes(targets, first.probabilities.argmax(axis=1), first.labels)
    return metrics


def main() -> None:
    """Evaluate the approach named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("approach", help="name of a folder under models/finetuned, such as lora")
    approach = parser.parse_args().approach
    name = f"{approach}.json"
    params = load_params("evaluate", EvaluateParams)
    seed = load_params("seed", int)
    if reason := why_left_out(MODELS / approach):
        plots = {CONFUSION / f"{approach}.csv": "actual,predicted"}
        leave_out(f"evaluate@{approach}", reason, OUTPUT / approach, METRICS / name, plots, COSTS / name)
        return
    compute = load_params("compute", Compute)
    device = None if is_baseline(MODELS / approach) else prepare_device(compute)
    if device is not None:
        quiet_libraries()
    test = read_test_rows()
    texts = test["text"].to_list()
    predicted = {
        model: predict(folder, texts, params.batch_size, device, "evaluate")
        for model, folder in seed_folders(MODELS / approach).items()
    }
    first = next(iter(predicted.values()))
    metrics = score_models(predicted, target_numbers(test, first.labels), params, seed)
    with output_folder(OUTPUT / approach) as folder:
        write_parquet(list_predictions(test, first), folder / "predictions.parquet")
    confusion = pl.DataFrame({"actual": test["target_label"], "predicted": first.predicted_labels()})
    write_text(CONFUSION / f"{approach}.csv", confusion.write_csv())
    write_metrics(METRICS / name, {"rows": test.height, **metrics}, "rows", "macro_f1", "accuracy")
    write_json(COSTS / name, {"inference_ms_per_row": mean_inference_ms_per_row(predicted.values())})


if __name__ == "__main__":
    run_stage(main)
