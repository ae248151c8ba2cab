"""What a model that `finetune` saved, of whatever kind, says of texts."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.lib.artifacts import read_json
from stages.lib.baselines import MODEL_FILE, baseline_probabilities, load_baseline
from stages.lib.batches import tokenise
from stages.lib.classifier import QUANTISATION_FILE, load_classifier, predict_logits
from stages.lib.device import Device

SEEDS_FILE = "seeds.json"
SKIPPED_FILE = "left_out.txt"
"""Stands in the place of a model that this machine cannot fit, and says why."""


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


def predict(folder: Path, texts: list[str], batch_size: int, device: Device, what: str) -> Predicted:
    """What the model in a folder says.

    Args:
        folder: of a baseline, a classifier or an adapter.
        texts: to be classified.
        batch_size: texts in a forward pass.
        device: where and in which precision to run.
        what: name of the work, for the progress report.
    """
    if (folder / MODEL_FILE).is_file():
        baseline = load_baseline(folder)
        labels = [str(label) for label in baseline.classes_]
        started = time.perf_counter()
        probabilities = baseline_probabilities(baseline, texts, labels)
    else:
        model, tokenizer, labels = load_classifier(folder, device.device)
        if not (folder / QUANTISATION_FILE).is_file():
            model = model.to(device.device)
        started = time.perf_counter()
        rows = tokenise(tokenizer, texts, tokenizer.model_max_length)
        probabilities = softmax(predict_logits(model, rows, len(labels), batch_size, device, what))
    return Predicted(probabilities, labels, time.perf_counter() - started)
