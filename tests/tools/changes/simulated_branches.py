"""A repository whose base and branch hold predictions of small models that were really trained, on one test set."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from sklearn.linear_model import SGDClassifier

from assay.core.outputs import write_json, write_text
from assay.statistics.predictions import hash_name
from tests.template_params import FILE

Array = NDArray[Any]
LABELS = ["bad", "fine", "good"]
TRAIN, TEST = 1200, 1500
CENTRES = np.array([[1.2, 0.0], [-0.4, 1.2], [-0.8, -1.1]])


def make_rows(rows: int, seed: int) -> tuple[Array, Array]:
    """Features `(n, 2)` and labels `(n,)` of three overlapping classes."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, rows)
    return CENTRES[labels] + random.normal(size=(rows, 2)), labels


def train_and_predict(seed: int = 0, exchanged: float = 0.0) -> Array:
    """Predicted labels of the test rows; two labels are exchanged on a share of their train rows."""
    features, labels = make_rows(TRAIN, 1)
    random = np.random.default_rng(2)
    hit = (labels < 2) & (random.random(TRAIN) < exchanged)
    model = SGDClassifier(loss="log_loss", alpha=0.01, random_state=seed).fit(
        features, np.where(hit, 1 - labels, labels)
    )
    return np.asarray(model.predict(make_rows(TEST, 3)[0]))


def true_labels() -> Array:
    """True labels of the test rows."""
    return make_rows(TEST, 3)[1]


def predictions_text(predicted: Array, truth: Array, rows: range) -> str:
    """The file of predictions of one model, of the rows that a test set has."""
    cells = zip(map(hash_name, map(str, rows)), truth[rows], predicted[rows], strict=True)
    lines = [[row, row, 0, int(label), int(guess)] for row, label, guess in cells]
    columns = ["row", "group", "source", "label", "seed_0"]
    return json.dumps({"labels": LABELS, "sources": ["mails"], "columns": columns, "rows": lines})


def write_questions(root: Path, chrf: Array) -> None:
    """Write the scores of a language model by question: as `make ask` asks it, and labels that it got right."""
    rows = [[f"q{row}", f"q{row}", "retrieved", float(value), False, None] for row, value in enumerate(chrf)]
    rows += [[f"l{row}", f"l{row}", "label", None, None, float(row % 3 > 0)] for row in range(40)]
    write_json(root / "metrics/predictions/generation/base.json", {"rows": rows})
    write_json(root / "metrics/evaluate_generation/base.json", {"retrieved": {"chrf": float(chrf.mean())}})


def write_side(
    root: Path,
    predicted: dict[str, Array],
    truth: Array | None = None,
    rows: range = range(TEST),
    seed_deviation: float = 0.002,
) -> None:
    """Write the metrics and predictions of a side, of the rows that its test set has, beside the template's params.

    `seed_deviation` is about that of these models on validation rows: they are small, and all find the same.
    """
    params = {**yaml.safe_load(FILE.read_text(encoding="utf-8")), "approaches": list(predicted)}
    params["gate"]["seed_deviation"] = seed_deviation
    truth = true_labels() if truth is None else truth
    write_text(root / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    write_json(root / "metrics/split.json", {"rows": {"train": TRAIN, "validation": 150, "test": len(rows)}})
    for name, of_rows in predicted.items():
        write_text(root / f"metrics/predictions/{name}.json", predictions_text(of_rows, truth, rows))
        accuracy = float((of_rows == truth)[np.array(rows)].mean())
        write_json(root / f"metrics/evaluate/{name}.json", {"rows": len(rows), "accuracy": accuracy})
        write_json(root / f"metrics/finetune/{name}.json", {"validation_macro_f1": accuracy})
        write_json(root / f"metrics/cost/finetune/{name}.json", {"train_seconds": 60.0, "peak_memory_mib": 900.0})
