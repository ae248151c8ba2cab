"""What a model that `finetune` saved, of whatever kind, says of texts."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assay.classifiers.baselines import MODEL_FILE, baseline_probabilities, load_baseline
from assay.classifiers.checkpoint import load_classifier, predict_logits
from assay.compute.device import Device
from assay.compute.token_batches import tokenise
from assay.core.outputs import read_json
from assay.fine_tuning.quantization import QUANTISATION_FILE

SEEDS_FILE = "seeds.json"
Predictor = Callable[[list[str], int, str | None], NDArray[np.float64]]
"""Texts, texts in a forward pass, and the name of the work for the progress report (None: no report) → probabilities,
shape `(texts, k)`. There has to be a text."""


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities from logits, shape `(rows, k)`, rows summing to 1 in float64."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities


@dataclass(frozen=True)
class Predicted:
    """What a model says of `n` texts.

    Attributes:
        probabilities: shape `(n, k)`.
        labels: of the `k` columns.
        seconds: that it took, without loading the model.
    """

    probabilities: NDArray[np.float64]
    labels: list[str]
    seconds: float


def seed_folders(folder: Path) -> dict[str, Path]:
    """The models of an approach by seed: the first lies in the approach's folder itself, the others in folders there.

    Args:
        folder: of the approach, as `finetune` writes it.
    """
    seeds: list[int] = read_json(folder / SEEDS_FILE)["seeds"]
    return {str(seed): folder / f"seed_{seed}" if number else folder for number, seed in enumerate(seeds)}


def load_predictor(folder: Path, device: Device) -> tuple[Predictor, list[str]]:
    """The model in a folder, ready to be asked again and again, and the labels of its columns.

    Args:
        folder: of a baseline, a classifier or an adapter.
        device: where and in which precision to run.
    """
    if (folder / MODEL_FILE).is_file():
        baseline = load_baseline(folder)
        labels = [str(label) for label in baseline.classes_]

        def said_by_baseline(texts: list[str], batch_size: int, what: str | None) -> NDArray[np.float64]:
            return baseline_probabilities(baseline, texts, labels)

        return said_by_baseline, labels

    model, tokenizer, labels = load_classifier(folder, device.device)
    if not (folder / QUANTISATION_FILE).is_file():
        model = model.to(device.device)

    def said_by_classifier(texts: list[str], batch_size: int, what: str | None) -> NDArray[np.float64]:
        rows = tokenise(tokenizer, texts, tokenizer.model_max_length)
        return softmax(predict_logits(model, rows, len(labels), batch_size, device, what))

    return said_by_classifier, labels


def predict(folder: Path, texts: list[str], batch_size: int, device: Device, what: str) -> Predicted:
    """What the model in a folder says.

    Args:
        folder: of a baseline, a classifier or an adapter.
        texts: to be classified.
        batch_size: texts in a forward pass.
        device: where and in which precision to run.
        what: name of the work, for the progress report.
    """
    predictor, labels = load_predictor(folder, device)
    started = time.perf_counter()
    probabilities = predictor(texts, batch_size, what)
    return Predicted(probabilities, labels, time.perf_counter() - started)
