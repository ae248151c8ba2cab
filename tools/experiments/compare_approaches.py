"""Compare approaches on a data set with an official test set, outside the pipeline.

`python -m tools.experiments.compare_approaches FOLDER --params FILE` reads `FOLDER/train.csv` and `FOLDER/test.csv`,
and the approaches and blocks of a file in the form of `params.yaml` (`seed`, `approaches`, `compute`, `finetune`,
`evaluate`). Some of the train rows, of every label, are held out to choose by; nothing is cleaned, and no label is
doubted.

Prints a table as it goes, and writes all figures as JSON where `--output` says so, again after each approach.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from assay.classifiers import baselines
from assay.classifiers.predict import Predicted, predict
from assay.compute.cost import folder_mib
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json, write_json
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.seeds import derived_seed, generator
from assay.fine_tuning.params import Approach, Majority, Tfidf, Training
from assay.statistics.classification import bootstrap_scores
from stages.evaluate import EvaluateParams, seed_scores
from stages.finetune import Rows, fit_baseline, fit_metrics, fit_seed, model_seed, new_baseline
from tools.experiments.grade_detector import read


def numbered_rows(table: pl.DataFrame, classes: list[str]) -> Rows:
    """The rows of `text` and `label` for training, all counting the same."""
    number = {label: index for index, label in enumerate(classes)}
    labels = table["label"].to_list()
    targets = np.array([number[label] for label in labels], dtype=np.int64)
    ids = [str(row) for row in range(table.height)]
    return Rows(ids, table["text"].to_list(), labels, targets, np.ones(table.height))


def fitted(
    name: str,
    params: Approach,
    train: Rows,
    validation: Rows,
    classes: list[str],
    test: list[str],
    device: Device,
    seed: int,
    batch_size: int,
) -> tuple[list[Predicted], list[dict[str, float]], dict[str, float]]:
    """What the model of each seed says of the test texts, what fitting it took, and its size."""
    said, measured = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if isinstance(params, Majority | Tfidf):
            model = new_baseline(params)
            fit = fit_baseline(model, train, validation, classes)
            baselines.save_baseline(model, folder)
            said.append(predict(folder, test, batch_size, device, "test"))
            measured.append(fit_metrics(fit, len(train.texts), device))
        else:
            for value in params.seeds:
                own = folder / str(value)
                own_seed = model_seed(seed, value)
                fit = fit_seed(name, params, train, validation, classes, device, own_seed, None, None, own)
                said.append(predict(own, test, batch_size, device, "test"))
                measured.append(fit_metrics(fit, len(train.texts), device))
        size = {
            "trainable_parameters": fit.trainable_parameters,
            "total_parameters": fit.total_parameters,
            "artefact_mib": folder_mib(folder) / len(said),
        }
    return said, measured, size


def scored(
    said: list[Predicted],
    measured: list[dict[str, float]],
    truth: NDArray[np.int64],
    params: EvaluateParams,
    seed: int,
) -> dict[str, Any]:
    """Scores in the mean over the seeds, with intervals over test rows and seeds, and the costs."""
    random = generator(seed, "evaluate", "bootstrap")
    of_all = np.stack([of_seed.probabilities for of_seed in said])
    headline = bootstrap_scores(truth, of_all, params.bootstrap_samples, params.calibration_bins, random)
    figures: dict[str, Any] = {"seeds": len(said)}
    for name, interval in headline.items():
        figures |= {name: interval.value, f"{name}_ci95_low": interval.low, f"{name}_ci95_high": interval.high}
    of_seeds = [
        {**seed_scores(truth, one, params.calibration_bins), **costs} for one, costs in zip(said, measured, strict=True)
    ]
    for name in ("train_seconds", "samples_per_second", "peak_memory_mib", "inference_ms_per_row", "epochs"):
        figures[name] = float(np.mean([one[name] for one in of_seeds]))
    return figures | {"per_seed": of_seeds}


def main() -> None:
    """Compare the approaches of a params file on the folder named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.compare_approaches", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="holds train.csv and test.csv")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="file with the blocks (params.yaml)")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="category")
    parser.add_argument("--validation-share", type=float, default=0.05, help="of the train rows, held out (0.05)")
    parser.add_argument("--approaches", help="some of those in the file, with commas between them")
    parser.add_argument("--output", type=Path, help="JSON file for all figures; what others it holds stays")
    arguments = parser.parse_args()
    seed = load_params("seed", int, arguments.params)
    compute = load_params("compute", Compute, arguments.params)
    evaluation = load_params("evaluate", EvaluateParams, arguments.params)
    names = arguments.approaches.split(",") if arguments.approaches else None
    names = names or load_params("approaches", list[str], arguments.params)
    blocks: dict[str, Approach] = {
        name: load_params(f"finetune.{name}", Approach, arguments.params)  # type: ignore[arg-type]
        for name in names
    }
    device = prepare_device(compute)
    quiet_libraries()

    columns = (arguments.text_column, arguments.label_column)
    everything, test = (read(arguments.folder / f"{name}.csv", *columns) for name in ("train", "test"))
    classes = everything["label"].unique().sort().to_list()
    if unknown := set(test["label"]) - set(classes):
        raise InputError(f"{arguments.folder}/test.csv: label {min(unknown)!r} has no train row")
    kept, held_out = train_test_split(
        np.arange(everything.height),
        test_size=arguments.validation_share,
        stratify=everything["label"].to_numpy(),
        random_state=derived_seed(seed, "compare_approaches") % 2**32,
    )
    train, validation = numbered_rows(everything[kept], classes), numbered_rows(everything[held_out], classes)
    truth = numbered_rows(test, classes).targets

    figures: dict[str, Any] = {}
    if arguments.output is not None and arguments.output.is_file():
        figures = read_json(arguments.output)
    figures |= {"rows_train": len(kept), "rows_validation": len(held_out), "rows_test": test.height}
    figures |= {"device": str(device.device), "precision": str(device.precision).removeprefix("torch.")}
    figures |= {"threads": compute.threads, "approaches": figures.get("approaches", {})}
    for name, params in blocks.items():
        said, measured, size = fitted(
            name,
            params,
            train,
            validation,
            classes,
            test["text"].to_list(),
            device,
            seed,
            evaluation.batch_size,
        )
        found = scored(said, measured, truth, evaluation, seed) | size
        if isinstance(params, Training):
            found |= {"validation_accuracy": float(np.mean([one["validation_accuracy"] for one in measured]))}
        figures["approaches"][name] = found
        print(
            f"{name:16} accuracy {found['accuracy']:.4f} [{found['accuracy_ci95_low']:.4f},"
            f" {found['accuracy_ci95_high']:.4f}], macro-F1 {found['macro_f1']:.4f}; {found['train_seconds']:.0f} s,"
            f" {found['samples_per_second']:.0f} samples/s, {size['trainable_parameters']:,} parameters trained",
            flush=True,
        )
        if arguments.output:
            write_json(arguments.output, figures)


if __name__ == "__main__":
    run_stage(main)
