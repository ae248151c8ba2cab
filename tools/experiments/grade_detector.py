"""Grade the detector of label errors on a data set whose labels are good, by putting errors in.

`python -m tools.experiments.grade_detector FOLDER` reads `FOLDER/train.csv` and `FOLDER/test.csv`, and the `embed`,
`semantic_duplicates` and `label_errors` sections of `params.yaml`. Three kinds of errors are put into the train labels:
uniform ones, and confusable ones, drawn from the probabilities of a model of another family (TF-IDF with logistic
regression, out of fold) or always its likeliest wrong label. The detector's fine-tuning is off unless `--finetuned` is
given. What acting on its findings is worth is the accuracy of a probe on the frozen embeddings, retrained after
`drop` and after `weight`, beside that without exactly the wrong rows. docs/label_errors.md has the figures.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.compute.device import Compute, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_json
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.seeds import derived_seed, generator
from assay.duplicates.semantic_groups import semantic_groups
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.label_errors.detector import Detection, Detector, DetectorOfLabelErrors, Rows, detect
from assay.label_errors.noise import add_confusable_noise, add_uniform_noise
from assay.probes import grouped_folds, number_values, out_of_fold_probabilities, weighted_probe, words_model
from assay.statistics.detection import grade_score

PROBE_C = 10.0
KINDS = ("uniform", "confusable_drawn", "confusable_likeliest")


def read_folder(arguments: argparse.Namespace) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Train and test rows; an `InputError` if a test row has a label that no train row has."""
    columns = (arguments.text_column, arguments.label_column)
    train, test = (_read(arguments.folder / f"{name}.csv", *columns) for name in ("train", "test"))
    if unknown := set(test["label"]) - set(train["label"]):
        raise InputError(f"{arguments.folder}/test.csv: label {min(unknown)!r} has no train row")
    return train, test


def _read(path: Path, text_column: str, label_column: str) -> pl.DataFrame:
    """`text` and `label` of a CSV file; an `InputError` if there is no such file or column."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; the folder must hold train.csv and test.csv")
    table = pl.read_csv(path, infer_schema=False)
    for option, column in (("--text-column", text_column), ("--label-column", label_column)):
        if column not in table.columns:
            raise InputError(f"{path}: no column {column!r}, but {table.columns}; name it by {option}")
    return table.select(text=text_column, label=label_column).drop_nulls()


def noisy(
    kind: str, labels: NDArray[np.int64], confused: NDArray[np.float64], share: float, seed: int
) -> NDArray[np.int64]:
    """The labels with a share of errors of one kind in them, shape `(n,)`."""
    random = generator(seed, "grade_detector", kind)
    if kind == "uniform":
        return add_uniform_noise(labels, confused, share, random)
    if kind == "confusable_likeliest":
        # All the probability to the likeliest of the other labels.
        others = confused.copy()
        others[np.arange(len(labels)), labels] = -1
        confused = np.eye(confused.shape[1])[others.argmax(axis=1)]
    return add_confusable_noise(labels, confused, share, random)


def grade(
    found: Detection, is_wrong: NDArray[np.bool_], probe: Callable[[NDArray[np.float64]], float]
) -> dict[str, Any]:
    """How well the scores find the wrong rows, and the test accuracy after acting on them, by row weights `(n,)`."""
    flagged, known = found.is_label_error, ~np.isnan(found.quality)
    # As the actions of `label_errors` go: `drop` and `weight`.
    weights = np.where(known, found.scores["pairwise_confidence"], 1.0)
    return {
        "noise_rate": float(is_wrong.mean()),
        **{
            name: grade_score(is_wrong[known], values[known])
            for name, values in {"label_quality": found.quality, **found.scores}.items()
        },
        "flagged": int(flagged.sum()),
        "precision": float(is_wrong[flagged].mean()) if flagged.any() else 0.0,
        "recall": float(flagged[is_wrong].mean()),
        "accuracy_noisy": probe(np.ones(len(flagged))),
        "accuracy_after_drop": probe((~flagged).astype(np.float64)),
        "accuracy_after_weight": probe(weights / weights.mean()),
        "accuracy_exactly_the_wrong_rows_removed": probe((~is_wrong).astype(np.float64)),
    }


def main() -> None:
    """Grade the detector on the folder named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.grade_detector", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="holds train.csv and test.csv")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="category")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    parser.add_argument("--share", type=float, default=0.1, help="of the train rows that get a wrong label (0.1)")
    parser.add_argument("--finetuned", action="store_true", help="fine-tune for each fold, as params.yaml says: slow")
    arguments = parser.parse_args()
    seed = load_params("seed", int)
    device = prepare_device(load_params("compute", Compute))
    quiet_libraries()
    params: Detector = load_params("label_errors", DetectorOfLabelErrors)
    params = params if arguments.finetuned else params.without_finetuning()
    train, test = read_folder(arguments)
    everything = number_values(pl.concat([train["label"], test["label"]]))
    labels, truth = everything[: train.height], everything[train.height :]

    embed = load_params("embed", EmbedParams)
    exact = prepare_device(load_params("compute", Compute), exact=True)
    texts = train["text"].to_list()
    of_train, of_test = (embedded_texts(table["text"].to_list(), embed, exact)[0] for table in (train, test))
    min_cosine = load_params("semantic_duplicates.min_cosine", float)
    groups = semantic_groups(of_train.embeddings, min_cosine, device.device).first
    figures: dict[str, Any] = {"rows_train": train.height, "rows_test": test.height, "share": arguments.share}

    def probe(rows: NDArray[np.int64], weights: NDArray[np.float64]) -> float:
        classes = list(range(int(everything.max()) + 1))
        said = weighted_probe(of_train.embeddings, rows, weights, of_test.embeddings, classes, PROBE_C)
        return float((said.argmax(axis=1) == truth).mean())

    with threadpool_limits(limits=1, user_api="blas"):
        folds = grouped_folds(labels, groups, params.folds, derived_seed(seed, "grade_detector"))
        confused = np.nan_to_num(out_of_fold_probabilities(words_model(texts, [10.0]), labels, folds)[0], nan=0.0)
        figures["accuracy_clean"] = probe(labels, np.ones(len(labels)))
        for kind in KINDS:
            given = noisy(kind, labels, confused, arguments.share, seed)
            started = time.perf_counter()
            rows = Rows(texts, of_train.layers, given, groups, np.full(len(given), -1))
            found = detect(rows, params, device, (seed, "label_errors"))
            seconds = time.perf_counter() - started
            figures[kind] = {"detect_seconds": seconds, **grade(found, given != labels, partial(probe, given))}
            print(describe(kind, figures[kind]), flush=True)
    if arguments.output:
        write_json(arguments.output, figures)


def describe(kind: str, graded: dict[str, Any]) -> str:
    """The grades of one kind of errors in a line."""
    quality = graded["label_quality"]
    return (
        f"{kind:22} average precision {quality['average_precision']:.3f}, AUROC {quality['auroc']:.3f};"
        f" probe: {graded['accuracy_noisy']:.4f} noisy, {graded['accuracy_after_drop']:.4f} after `drop`,"
        f" {graded['accuracy_after_weight']:.4f} after `weight`,"
        f" {graded['accuracy_exactly_the_wrong_rows_removed']:.4f} without exactly the wrong rows"
        f" ({graded['detect_seconds']:.0f} s)"
    )


if __name__ == "__main__":
    run_stage(main)
