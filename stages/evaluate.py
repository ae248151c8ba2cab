"""Score the models of one approach, one for each seed, on the test split: the only stage that reads its labels.

`python -m stages.evaluate <approach>`. The label of a test row is its `reference_label` (the consensus of many raters)
where there is one, and the given label otherwise.

Scores are means over the seeds, and their intervals cover rows and seeds; `per_seed` has those of each. What is listed
row by row is the first seed's.

An approach that was left out, since this machine cannot fit it, has no scores: the reason stands in their place.

Reads `models/finetuned/<approach>/` and `data/split/test.parquet`; writes the scores with their 95% intervals,
`data/predictions/<approach>/predictions.parquet` (`id`, `text`, `label`, `reference_label`, `target_label`,
`predicted_label`, `confidence`, one `probability_<label>` each) and the confusion matrix as plot data.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from assay.classifiers.predict import Predicted, predict, seed_folders
from assay.compute.device import Compute, prepare_device
from assay.core.errors import run_stage
from assay.core.outputs import output_folder, write_json, write_parquet, write_text
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.seeds import generator
from assay.core.skipped import leave_out, why_left_out
from assay.splitting.target_labels import read_test_rows, target_numbers
from assay.statistics.classification import bootstrap_scores, class_scores, weighted_scores

MODELS = Path("models/finetuned")
OUTPUT = Path("data/predictions")
METRICS = Path("metrics/evaluate")
CONFUSION = Path("metrics/plots/confusion")


class EvaluateParams(Params):
    """The `evaluate` section of `params.yaml`."""

    batch_size: int = Field(ge=1, le=4096)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)
    calibration_bins: int = Field(ge=2, le=1000)


def seed_scores(targets: NDArray[np.int64], said: Predicted, calibration_bins: int) -> dict[str, float]:
    """The headline scores of one model, without intervals, and its speed."""
    rows = len(targets)
    scores = weighted_scores(targets, said.probabilities, np.ones((1, rows)), calibration_bins)
    return {
        **{name: float(values[0]) for name, values in scores.items()},
        "inference_ms_per_row": said.seconds * 1000 / rows,
    }


def main() -> None:
    """Evaluate the approach named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("approach", help="name of a folder under models/finetuned, such as lora")
    approach = parser.parse_args().approach
    params = load_params("evaluate", EvaluateParams)
    seed = load_params("seed", int)
    if reason := why_left_out(MODELS / approach):
        plots = {CONFUSION / f"{approach}.csv": "actual,predicted"}
        leave_out(f"evaluate@{approach}", reason, OUTPUT / approach, METRICS / f"{approach}.json", plots)
        return
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()

    test = read_test_rows()
    folders = seed_folders(MODELS / approach)
    texts = test["text"].to_list()
    said = [predict(folder, texts, params.batch_size, device, "evaluate") for folder in folders.values()]
    labels = said[0].labels
    targets = target_numbers(test, labels)
    probabilities = said[0].probabilities
    predicted = probabilities.argmax(axis=1)
    predicted_labels = [labels[index] for index in predicted]

    # Not keyed by approach: every approach is scored on the same resampled rows.
    random = generator(seed, "evaluate", "bootstrap")
    of_all = np.stack([of_seed.probabilities for of_seed in said])
    headline = bootstrap_scores(targets, of_all, params.bootstrap_samples, params.calibration_bins, random)
    per_seed = {
        name: seed_scores(targets, of_seed, params.calibration_bins)
        for name, of_seed in zip(folders, said, strict=True)
    }
    scores = class_scores(targets, predicted, len(labels))

    with output_folder(OUTPUT / approach) as folder:
        predictions = test.select("id", "text", "label", "reference_label", "target_label").with_columns(
            pl.Series("predicted_label", predicted_labels, dtype=pl.String),
            pl.Series("confidence", probabilities.max(axis=1)),
            *(pl.Series(f"probability_{label}", probabilities[:, index]) for index, label in enumerate(labels)),
        )
        write_parquet(predictions, folder / "predictions.parquet")
    confusion = pl.DataFrame({"actual": test["target_label"], "predicted": predicted_labels})
    write_text(CONFUSION / f"{approach}.csv", confusion.write_csv())
    metrics: dict[str, object] = {"rows": test.height}
    for name, interval in headline.items():
        metrics[name] = interval.value
        metrics[f"{name}_ci95_low"] = interval.low
        metrics[f"{name}_ci95_high"] = interval.high
        if len(said) > 1:
            metrics[f"{name}_sd_of_seeds"] = float(np.std([of_seed[name] for of_seed in per_seed.values()], ddof=1))
    metrics["seeds"] = len(said)
    metrics["inference_ms_per_row"] = float(np.mean([of_seed["inference_ms_per_row"] for of_seed in per_seed.values()]))
    metrics["per_seed"] = per_seed
    metrics["per_class"] = {
        label: {
            "precision": float(scores.precision[index]),
            "recall": float(scores.recall[index]),
            "f1": float(scores.f1[index]),
            "support": int(scores.support[index]),
        }
        for index, label in enumerate(labels)
    }
    write_json(METRICS / f"{approach}.json", metrics)


if __name__ == "__main__":
    run_stage(main)
