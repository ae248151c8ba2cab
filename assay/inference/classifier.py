"""A saved classifier, and what it makes of texts as they come: cleaned as its training data were, by the same code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from assay.classifiers.inference_file import INFERENCE_FILE, TOKENIZER_FILE
from assay.classifiers.predict import Predictor, load_predictor, needs_no_device
from assay.cleaning.row_cleaning import Step, clean_rows, keep_usable, prepare_rows, run_steps
from assay.cleaning.rules import TextCleaning, chosen_rules
from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.skipped import why_left_out
from assay.inference.thresholds import InferenceParams, Threshold, choose_threshold
from assay.probes import apply_temperature

if TYPE_CHECKING:
    from assay.compute.device import Device

BATCH_SIZE = 32


@dataclass(frozen=True)
class Classifier:
    """A model in use.

    Attributes:
        labels: in the order of the model's logits.
        temperature: that calibrates its probabilities.
        threshold: from which on a label is sure.
        rules_not_applied: cleaning rules for some of the sources of the training data alone; a text has no source here.
        predictor: from clean texts to probabilities.
        cleaning: what is done to texts before.
    """

    labels: list[str]
    temperature: float
    threshold: Threshold
    rules_not_applied: list[str]
    predictor: Predictor
    cleaning: Sequence[Step]

    def predict(self, texts: Sequence[str | None], batch_size: int = BATCH_SIZE) -> pl.DataFrame:
        """A row for each text, in their order; identical texts are run once, in batches of similar length.

        Its columns are `label`, `probability` (calibrated), `is_sure` (the probability reaches the threshold) and
        `reason`: null, or why there is no label. That is the cleaning rule that removes such a text from training data
        (`missing_text`, `empty_text`, `max_characters`, …).
        """
        rows = pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)})
        rows = rows.select(pl.int_range(pl.len()).cast(pl.String).alias("id"), "text", source=pl.lit(""))
        done = run_steps(rows, self.cleaning)
        distinct = done.records["text"].unique(maintain_order=True)
        found = np.zeros((0, len(self.labels)))
        if len(distinct):
            found = apply_temperature(self.predictor(distinct.to_list(), batch_size, None), self.temperature)
        best = pl.Series([self.labels[label] for label in found.argmax(axis=1)], dtype=pl.String)
        of_text = pl.DataFrame({"text": distinct, "label": best, "probability": found.max(axis=1)})
        of_row = done.records.select("id", "text").join(of_text, on="text")
        answers = rows.select("id").join(of_row, on="id", how="left", maintain_order="left")
        answers = answers.join(done.removed.select("id", "rule"), on="id", how="left", maintain_order="left")
        least = self.threshold.probability
        sure = pl.lit(value=False) if least is None else pl.col("probability") >= least
        return answers.select("label", "probability", is_sure=sure.fill_null(value=False), reason="rule")


def load(
    folder: Path | str, *, wanted_precision: float | None = None, device: Device | str | None = None
) -> Classifier:
    """The model in a folder of `models/finetuned/` (of several seeds, the first), loaded once.

    Args:
        wanted_precision: of the labels that are sure; None: that of `inference` in params.yaml.
        device: such as `cuda`; None: CPU. A string: in float32.

    Raises:
        InputError: there is no model, or not all that inference needs, or the precision is not between 0 and 1.
    """
    folder = Path(folder)
    if reason := why_left_out(folder):
        raise InputError(f"{folder}: left out on the machine that trained: {reason}")
    file = folder / INFERENCE_FILE
    if not file.is_file():
        there = sorted(str(path.parent) for path in folder.parent.glob(f"*/{INFERENCE_FILE}")) or "none"
        raise InputError(f"{file}: no such file; there are models in {there}; `dvc repro finetune` makes them")
    if wanted_precision is None:
        wanted_precision = load_params("inference", InferenceParams).wanted_precision
    if not 0 < wanted_precision < 1:
        raise InputError(f"the wanted precision is {wanted_precision}; it must be between 0 and 1, such as 0.9")
    about = read_json(file)
    seen = about["validation"]
    threshold = choose_threshold(seen["probability"], seen["is_right"], wanted_precision)
    cleaning, not_applied = _sourceless(about["cleaning"], set(about["sources"]), folder)
    predictor, labels = load_predictor(folder, None if needs_no_device(folder) else _device(device))
    checks = {name: check for name, check in cleaning.checks.items() if name == "text"}
    steps: list[Step] = [
        partial(prepare_rows, checks=checks, values={}, removals={"text": "missing_text"}),
        partial(clean_rows, rules=chosen_rules(cleaning, [])),
        partial(keep_usable, params=cleaning),
    ]
    return Classifier(labels, about["temperature"], threshold, not_applied, predictor, steps)


def _sourceless(settings: dict[str, Any], sources: set[str], folder: Path) -> tuple[TextCleaning, list[str]]:
    """The cleaning of texts of which no source is known, and the rules that it leaves out."""
    rules: dict[str, bool | list[str]] = settings["rules"]
    for_some = [name for name, where in rules.items() if isinstance(where, list) and where and sources - set(where)]
    rules = {name: bool(where) and name not in for_some for name, where in rules.items()}
    tokens = settings["max_tokens"] | {"tokenizer": str(folder / TOKENIZER_FILE)}
    return TextCleaning(**settings | {"rules": rules, "max_tokens": tokens}), for_some


def _device(device: Device | str | None) -> Device:
    # Imported here: it takes seconds, and baselines need none of it.
    import torch

    from assay.compute.device import Device

    quiet_libraries()
    return device if isinstance(device, Device) else Device(torch.device(device or "cpu"), torch.float32)
