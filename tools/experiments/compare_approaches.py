"""Compare approaches on a data set with an official test set, outside the pipeline.

`python -m tools.experiments.compare_approaches FOLDER --params FILE` reads `FOLDER/train.csv` and `FOLDER/test.csv`,
and the approaches and blocks of a file in the form of `params.yaml` (`seed`, `approaches`, `compute`, `finetune`,
`evaluate`). Some of the train rows, of every label, are held out to choose by; nothing is cleaned, and no label is
doubted.

Prints a table as it goes, and writes all figures as JSON where `--output` says so, again after each approach; what
others that file holds stays.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from assay.classifiers.baselines import fit_baseline
from assay.classifiers.fit import fit_seed
from assay.classifiers.fits import Data, Fit, model_seed, read_rows, summarise_cost, summarise_fit
from assay.classifiers.predict import Predicted, mean_inference_ms_per_row, predict, score_seed
from assay.compute.cost import folder_mib
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import run_stage
from assay.core.outputs import read_json, write_json
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.seeds import derived_seed, generator, seed_32
from assay.fine_tuning.params import Approach, Majority, Tfidf, Training
from assay.statistics.classification import EvaluateParams, bootstrap_scores
from assay.statistics.metrics_dict import metrics_of
from tools.experiments.grade_detector import folder_parser, read_folder


def fit_and_predict(
    name: str, params: Approach, data: Data, test: list[str], device: Device, seed: int, batch_size: int
) -> tuple[list[Predicted], list[Fit], float]:
    """Predictions of the model of each seed for the test texts, its fit, and the size of a model."""
    predicted, fits = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if isinstance(params, Majority | Tfidf):
            fits.append(fit_baseline(params, data, folder))
            predicted.append(predict(folder, test, batch_size, device, "test"))
        else:
            for value in params.seeds:
                own = folder / str(value)
                own_seed = derived_seed(model_seed(seed, value), "finetune", name)
                fits.append(fit_seed(params, data, device, own_seed, own))
                predicted.append(predict(own, test, batch_size, device, "test"))
        return predicted, fits, folder_mib(folder) / len(fits)


def score(
    predicted: list[Predicted], fits: list[Fit], rows: int, truth: NDArray[np.int64], params: EvaluateParams, seed: int
) -> dict[str, Any]:
    """Scores and costs (of `rows` train rows) in the mean over the seeds, with intervals over test rows and seeds."""
    random = generator(seed, "evaluate", "bootstrap")
    of_all = np.stack([of_seed.probabilities for of_seed in predicted])
    headline = bootstrap_scores(truth, of_all, params.bootstrap_samples, params.calibration_bins, random)
    figures: dict[str, Any] = {"seeds": len(predicted), **metrics_of(headline)}
    of_seeds = [
        {**score_seed(truth, one, params.calibration_bins), **summarise_cost(fit, rows), **summarise_fit(fit)}
        for one, fit in zip(predicted, fits, strict=True)
    ]
    for name in ("train_seconds", "samples_per_second", "peak_memory_mib", "epochs"):
        figures[name] = float(np.mean([one[name] for one in of_seeds]))
    return figures | {"inference_ms_per_row": mean_inference_ms_per_row(predicted), "per_seed": of_seeds}


def main() -> None:
    """Compare the approaches of a params file on the folder named on the command line."""
    parser = folder_parser("tools.experiments.compare_approaches", __doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="file with the blocks (params.yaml)")
    parser.add_argument("--validation-share", type=float, default=0.05, help="of the train rows, held out (0.05)")
    parser.add_argument("--approaches", help="some of those in the file, with commas between them")
    arguments = parser.parse_args()
    seed = load_params("seed", int, arguments.params)
    compute = load_params("compute", Compute, arguments.params)
    evaluation = load_params("evaluate", EvaluateParams, arguments.params)
    names = arguments.approaches.split(",") if arguments.approaches else None
    names = names or load_params("approaches", list[str], arguments.params)
    kind: Any = Approach
    blocks: dict[str, Approach] = {name: load_params(f"finetune.{name}", kind, arguments.params) for name in names}
    device = prepare_device(compute)
    quiet_libraries()

    everything, test = read_folder(arguments)
    classes = everything["label"].unique().sort().to_list()
    kept, held_out = train_test_split(
        np.arange(everything.height),
        test_size=arguments.validation_share,
        stratify=everything["label"].to_numpy(),
        random_state=seed_32(derived_seed(seed, "compare_approaches")),
    )
    everything, test = (table.with_row_index("id").cast({"id": pl.String}) for table in (everything, test))
    train_file = arguments.folder / "train.csv"
    train, validation = (read_rows(everything[rows], classes, train_file) for rows in (kept, held_out))
    data = Data(train, validation, classes)
    truth = read_rows(test, classes, arguments.folder / "test.csv").targets

    figures: dict[str, Any] = {}
    if arguments.output is not None and arguments.output.is_file():
        figures = read_json(arguments.output)
    figures |= {"rows_train": len(kept), "rows_validation": len(held_out), "rows_test": test.height}
    figures |= {"device": str(device.device), "precision": str(device.precision).removeprefix("torch.")}
    figures |= {"threads": compute.threads, "approaches": figures.get("approaches", {})}
    for name, params in blocks.items():
        texts, batch_size = test["text"].to_list(), evaluation.batch_size
        predicted, fits, artefact_mib = fit_and_predict(name, params, data, texts, device, seed, batch_size)
        found = score(predicted, fits, len(kept), truth, evaluation, seed) | {
            "trainable_parameters": fits[-1].trainable_parameters,
            "total_parameters": fits[-1].total_parameters,
            "artefact_mib": artefact_mib,
        }
        if isinstance(params, Training):
            accuracies = [summarise_fit(fit)["validation_accuracy"] for fit in fits]
            found |= {"validation_accuracy": float(np.mean(accuracies))}
        figures["approaches"][name] = found
        print(
            f"{name:16} accuracy {found['accuracy']:.4f} [{found['accuracy_ci95_low']:.4f},"
            f" {found['accuracy_ci95_high']:.4f}], macro-F1 {found['macro_f1']:.4f}; {found['train_seconds']:.0f} s,"
            f" {found['samples_per_second']:.0f} samples/s, {found['trainable_parameters']:,} parameters trained",
            flush=True,
        )
        if arguments.output:
            write_json(arguments.output, figures)


if __name__ == "__main__":
    run_stage(main)
