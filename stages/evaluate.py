"""Score one model on the test split, the only stage that reads its labels.

`python -m stages.evaluate <approach>`. The label of a test row is its `reference_label` (the consensus of many raters)
where there is one, and the given label otherwise.

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

from stages.lib.artifacts import output_folder, write_json, write_parquet, write_text
from stages.lib.device import Compute, prepare_device
from stages.lib.errors import InputError, run_stage
from stages.lib.params import Params, load_params
from stages.lib.predictions import predict
from stages.lib.progress import quiet_libraries
from stages.lib.randomness import generator
from stages.lib.statistics import bootstrap_scores, class_scores

TEST = Path("data/split/test.parquet")
MODELS = Path("models/finetuned")
OUTPUT = Path("data/predictions")
METRICS = Path("metrics/evaluate")
CONFUSION = Path("metrics/plots/confusion")


class EvaluateParams(Params):
    """The `evaluate` section of `params.yaml`."""

    batch_size: int = Field(ge=1, le=4096)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)
    calibration_bins: int = Field(ge=2, le=1000)


def target_numbers(test: pl.DataFrame, labels: list[str]) -> NDArray[np.int64]:
    """The class of each test row, shape `(rows,)`.

    Raises:
        InputError: the table is empty, or a label is not one that the model knows.
    """
    if test.is_empty():
        raise InputError(f"{TEST}: no rows; raise `split.test_fraction` or add data")
    unknown = test.filter(~pl.col("target_label").is_in(labels))
    if unknown.height:
        row = unknown.row(0, named=True)
        raise InputError(
            f"{TEST}: row {row['id']} has the label {row['target_label']!r}, which the model does not know; "
            f"it knows {', '.join(labels)}"
        )
    number = {label: index for index, label in enumerate(labels)}
    return np.array([number[label] for label in test["target_label"]], dtype=np.int64)


def main() -> None:
    """Evaluate the approach named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("approach", help="name of a folder under models/finetuned, such as lora")
    approach = parser.parse_args().approach
    params = load_params("evaluate", EvaluateParams)
    seed = load_params("seed", int)
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()

    test = pl.read_parquet(TEST).with_columns(target_label=pl.coalesce("reference_label", "label"))
    probabilities, labels, seconds = predict(
        MODELS / approach, test["text"].to_list(), params.batch_size, device, "evaluate"
    )
    targets = target_numbers(test, labels)
    predicted = probabilities.argmax(axis=1)
    predicted_labels = [labels[index] for index in predicted]

    # Not keyed by approach: every model is scored on the same resampled rows.
    random = generator(seed, "evaluate", "bootstrap")
    headline = bootstrap_scores(targets, probabilities, params.bootstrap_samples, params.calibration_bins, random)
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
    metrics["inference_ms_per_row"] = seconds * 1000 / test.height
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
