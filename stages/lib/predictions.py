"""What a model that `finetune` saved, of whatever kind, says of texts."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.lib.baselines import MODEL_FILE, baseline_probabilities, load_baseline
from stages.lib.batches import tokenise
from stages.lib.classifier import load_classifier, predict_logits
from stages.lib.device import Device


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities from logits, shape `(rows, k)`, rows summing to 1 in float64."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities


def predict(
    folder: Path, texts: list[str], batch_size: int, device: Device, what: str
) -> tuple[NDArray[np.float64], list[str], float]:
    """Class probabilities `(rows, k)` of the model in a folder, the labels of its columns, and the seconds it took.

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
        model, tokenizer, labels = load_classifier(folder)
        model = model.to(device.device)
        started = time.perf_counter()
        rows = tokenise(tokenizer, texts, tokenizer.model_max_length)
        probabilities = softmax(predict_logits(model, rows, len(labels), batch_size, device, what))
    return probabilities, labels, time.perf_counter() - started
