"""Score the models of one approach, one for each seed, on the test split.

`python -m stages.evaluate <approach>`. The label of a test row is its `reference_label` (the consensus of many raters)
where there is one, and the given label otherwise.

Scores are means over the seeds (docs/statistics.md), tables of rows and classes the first seed's. An approach that was
skipped has no scores: the reason is written instead.

Reads `models/finetuned/<approach>/` and `data/split/test.parquet`; writes the scores with their 95% intervals, the
predicted labels of all seeds for git (`assay/statistics/predictions.py`),
`data/predictions/<approach>/predictions.parquet` (`id`, `text`, `label`, `reference_label`, `target_label`,
`predicted_label`, `confidence`, one `probability_<label>` each) and the confusion matrix as plot data.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.classifiers.predict import Predicted, mean_inference_ms_per_row, needs_no_device, predict, seed_folders
from assay.compute.device import Compute, prepare_device
from assay.core.errors import run_stage
from assay.core.outputs import write_json, write_tables, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import RUN_ID, run_id_now, write_metrics
from assay.core.seeds import generator
from assay.core.skipped import leave_out, why_left_out
from assay.splitting.target_labels import group_numbers, read_test_rows, target_numbers
from assay.statistics.calibration import calibration_metrics
from assay.statistics.classification import EvaluateParams, score_classes, score_predictions, score_probabilities
from assay.statistics.metrics_dict import metrics_of
from assay.statistics.predictions import format_predictions, predictions_file
from assay.statistics.verdicts import MIN_LABEL_ROWS

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


def count_few(targets: NDArray[np.int64], labels: list[str]) -> dict[str, int]:
    """Test rows of the labels that have under `MIN_LABEL_ROWS`, the fewest first."""
    counts = np.bincount(targets, minlength=len(labels)).tolist()
    few = {label: count for label, count in zip(labels, counts, strict=True) if count < MIN_LABEL_ROWS}
    return dict(sorted(few.items(), key=lambda item: (item[1], item[0])))


def score_models(
    predicted: dict[str, Predicted],
    targets: NDArray[np.int64],
    groups: NDArray[np.int64],
    params: EvaluateParams,
    random: np.random.Generator,
) -> dict[str, Any]:
    """The scores of an approach, the first seed's model class by class."""
    probabilities = np.stack([of_seed.probabilities for of_seed in predicted.values()])
    classes = probabilities.argmax(axis=2)
    first = next(iter(predicted.values()))
    scores = score_predictions(targets, classes, groups) | score_probabilities(targets, probabilities, groups)
    few = count_few(targets, first.labels)
    metrics: dict[str, Any] = metrics_of(scores)
    reasons = {"macro_f1": f"labels with under {MIN_LABEL_ROWS} test rows: {len(few)}"} if few else {}
    for name in (name for name, estimate in scores.items() if estimate.low is None):
        metrics[f"{name}_without_ci95"] = reasons.get(name, "no row differs")
    confidence, right = probabilities.max(axis=2), (classes == targets).astype(np.float64)
    metrics |= calibration_metrics(confidence, right, params.calibration_bins, params.simulations, random)
    metrics |= {"few_test_rows": few, "seeds": len(predicted)}
    metrics["per_seed"] = {
        name: {score: one.value for score, one in score_predictions(targets, of_seed[None], groups).items()}
        for name, of_seed in zip(predicted, classes, strict=True)
    }
    metrics["per_class"] = score_classes(targets, classes[0], first.labels)
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
        file = predictions_file(approach)
        write_json(file, {RUN_ID: run_id_now(file), "left_out": reason})
        return
    compute = load_params("compute", Compute)
    device = None if needs_no_device(MODELS / approach) else prepare_device(compute)
    if device is not None:
        quiet_libraries()
    test = read_test_rows()
    texts = test["text"].to_list()
    predicted = {
        model: predict(folder, texts, params.batch_size, device, "evaluate")
        for model, folder in seed_folders(MODELS / approach).items()
    }
    first = next(iter(predicted.values()))
    targets = target_numbers(test, first.labels)
    random = generator(seed, "evaluate", "calibration")
    metrics = score_models(predicted, targets, group_numbers(test), params, random)
    if few := metrics["few_test_rows"]:
        shown = ", ".join(f"{label!r} {rows}" for label, rows in list(few.items())[:3])
        decides = "; macro-F1 has no interval, and accuracy decides" if "macro_f1_without_ci95" in metrics else ""
        print(
            f"evaluate@{approach}: warning: {len(few)} of {len(first.labels)} labels have under {MIN_LABEL_ROWS} test"
            f" rows ({shown}){decides}; add data, or raise `split.test_fraction` (not with `split.given_column`)",
            file=sys.stderr,
        )
    write_tables(OUTPUT / approach, {"predictions": list_predictions(test, first)})
    confusion = pl.DataFrame({"actual": test["target_label"], "predicted": first.predicted_labels()})
    write_text(CONFUSION / f"{approach}.csv", confusion.write_csv())
    file = predictions_file(approach)
    ids, groups, sources = (test[name].to_list() for name in ("id", "split_group", "source"))
    classes = np.stack([of_seed.probabilities.argmax(axis=1) for of_seed in predicted.values()])
    write_text(
        file, format_predictions(ids, groups, sources, first.labels, targets, classes, {RUN_ID: run_id_now(file)})
    )
    write_metrics(METRICS / name, {"rows": test.height, **metrics}, "rows", "macro_f1", "accuracy")
    write_json(COSTS / name, {"inference_ms_per_row": mean_inference_ms_per_row(predicted.values())})


if __name__ == "__main__":
    run_stage(main)
