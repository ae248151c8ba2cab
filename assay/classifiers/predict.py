"""Run inference with a model that `finetune` saved, of whatever kind, and score it."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from assay.classifiers.baselines import MODEL_FILE, baseline_probabilities, load_baseline
from assay.compute.device import Device
from assay.core.outputs import read_json

SEEDS_FILE = "seeds.json"
FROZEN_FILE = "frozen.json"
Predictor = Callable[[list[str], int, str | None], NDArray[np.float64]]
"""Texts, texts in a forward pass, and the name of the work for the progress report (None: no report) → probabilities,
shape `(texts, k)`. There has to be a text."""


@dataclass(frozen=True)
class Predicted:
    """Probabilities for `n` texts, shape `(n, k)`, the labels of the columns, and the seconds without the loading."""

    probabilities: NDArray[np.float64]
    labels: list[str]
    seconds: float

    def predicted_labels(self) -> list[str]:
        """The most probable label of each text."""
        return [self.labels[index] for index in self.probabilities.argmax(axis=1)]


def seed_folders(folder: Path) -> dict[str, Path]:
    """The models of an approach by seed: the first lies in its folder itself, the others in folders there."""
    seeds: list[int] = read_json(folder / SEEDS_FILE)["seeds"]
    return {str(seed): folder / f"seed_{seed}" if number else folder for number, seed in enumerate(seeds)}


def needs_no_device(folder: Path) -> bool:
    """Whether the model in a folder is a baseline of scikit-learn, which needs no device and no PyTorch."""
    return (folder / MODEL_FILE).is_file()


def load_predictor(folder: Path, device: Device | None) -> tuple[Predictor, list[str]]:
    """The model in a folder (of a baseline, a classifier or an adapter), loaded once, and the labels of its columns.

    Without a device, the model has to be one that needs none.
    """
    if device is None or needs_no_device(folder):
        baseline = load_baseline(folder)
        labels = [str(label) for label in baseline.classes_]
        return lambda texts, batch_size, what: baseline_probabilities(baseline, texts, labels), labels

    # Imported here, as the others: it takes seconds.
    if (folder / FROZEN_FILE).is_file():
        from assay.classifiers.frozen import load_frozen

        return load_frozen(folder, device)
    from assay.classifiers.checkpoint import load_classifier, predict_logits
    from assay.compute.token_batches import tokenise

    model, tokenizer, labels = load_classifier(folder, device.device)

    def run_classifier(texts: list[str], batch_size: int, what: str | None) -> NDArray[np.float64]:
        rows = tokenise(tokenizer, texts, tokenizer.model_max_length)
        logits = predict_logits(model, rows, len(labels), batch_size, device, what)
        # In float64, in which the rows sum to 1.
        return np.asarray(softmax(logits.astype(np.float64), axis=1))

    return run_classifier, labels


def predict(folder: Path, texts: list[str], batch_size: int, device: Device | None, what: str) -> Predicted:
    """Load the model in a folder (as `load_predictor`) and run inference on texts, timed without the loading."""
    predictor, labels = load_predictor(folder, device)
    started = time.perf_counter()
    probabilities = predictor(texts, batch_size, what)
    return Predicted(probabilities, labels, time.perf_counter() - started)


def mean_inference_ms_per_row(predicted: Iterable[Predicted]) -> float:
    """Milliseconds that inference on one row took, in the mean over the models."""
    return float(np.mean([one.seconds * 1000 / len(one.probabilities) for one in predicted]))
