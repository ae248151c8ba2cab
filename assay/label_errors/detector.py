"""The detector of label errors: out-of-fold models, calibrated together, and what is known beside the texts.

Legend: `n` rows, `d` features, `k` labels numbered from 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from assay import probes
from assay.compute.device import Device
from assay.core.params import Params
from assay.core.progress import progress
from assay.core.seeds import SeedKey, derived_seed
from assay.label_errors.cross_finetuning import CrossFinetuning, cross_finetune
from assay.label_errors.scores import FilterBy, average_ranks, flag_label_issues, score_quality, update_by_evidence
from assay.probes import Floats, Integers, Model

RANKED = ("self_confidence", "pairwise_confidence", "finetuned_area_under_margin")
"""What the rank average is over, as far as it is there: scores of models that did not see the row in training, and how
late models that did see it fitted it."""

WITHOUT_EVIDENCE = "without_evidence"
"""The name of `label_quality` by the texts alone."""
Score = Literal["self_confidence", "normalized_margin", "pairwise_confidence", "rank_average"]
InverseStrengths = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
"""Values of scikit-learn's `C`: the one with the lowest cross-validated log loss is used."""


class Regression(Params):
    """Logistic regression: on the states of the encoder's last layers, or on TF-IDF of words and word pairs."""

    Cs: InverseStrengths
    weight: float = Field(gt=0)


class Kernel(Regression):
    """Logistic regression in the space of a Gaussian kernel on the same states."""

    landmarks: int = Field(ge=2)


class Neighbours(Params):
    """Vote of the nearest rows."""

    neighbours: int = Field(ge=1)
    weight: float = Field(gt=0)


class Models(Params):
    """Which models predict, and how much each counts (`weight`); null: off."""

    linear: Regression | None
    kernel: Kernel | None
    words: Regression | None
    neighbours: Neighbours | None
    finetuned: CrossFinetuning | None

    @model_validator(mode="after")
    def _at_least_one(self) -> "Models":
        if not any((self.linear, self.kernel, self.words, self.neighbours, self.finetuned)):
            raise ValueError("all models are off; at least one has to be on")
        return self


class Detector(Params):
    """How label errors are found; part of the `label_errors` section of `params.yaml`."""

    folds: int = Field(ge=2, le=100)
    models: Models
    score: Score
    filter_by: FilterBy
    max_label_quality: float = Field(gt=0, le=1)

    def without_finetuning(self) -> "Detector":
        """The same with the frozen models alone."""
        return self.model_copy(update={"models": self.models.model_copy(update={"finetuned": None})})


@dataclass(frozen=True)
class Rows:
    """What the detector sees of the rows: features `(n, d)` and given labels `(n,)`.

    Attributes:
        groups: near-duplicates, which are in one fold, shape `(n,)`.
        evidence: what is known beside the text of how far to trust the label, as codes from 0, -1 where nothing is.
    """

    texts: Sequence[str]
    features: NDArray[np.float32]
    labels: Integers
    groups: Integers
    evidence: Integers


@dataclass(frozen=True)
class Detection:
    """What the detector found. A row that no fold predicts is NaN, and no label error.

    Attributes:
        probabilities: of every label given text and evidence, out of fold, shape `(n, k)`.
        text_probabilities: the same given the text alone. Evidence may be what the label was made of, such as a rating.
        quality: the chosen score; low speaks for an error, from 0 to 1, shape `(n,)`.
        scores: every score by name, shape `(n,)` each.
        is_label_error: shape `(n,)`.
        temperature: by which the joint probabilities were scaled, above 1 where the models were too sure.
    """

    probabilities: Floats
    text_probabilities: Floats
    quality: Floats
    scores: dict[str, Floats]
    is_label_error: NDArray[np.bool_]
    folds: int
    temperature: float


def detect(rows: Rows, params: Detector, device: Device, seed: SeedKey) -> Detection:
    """Predict every row out of fold, near-duplicates in one fold, and find the labels that speak against it."""
    folds = probes.grouped_folds(rows.labels, rows.groups, params.folds, derived_seed(*seed))
    members: dict[str, Floats] = {}
    weights = []
    area_under_margin = None
    kinds = _build_models(rows, params.models, derived_seed(*seed, "kernel"))
    for name, weight, model in progress(kinds, "label errors", total=len(kinds), unit="model"):
        tried = probes.out_of_fold_probabilities(model, rows.labels, folds)
        members[name] = min(tried, key=lambda probabilities: probes.mean_loss(probabilities, rows.labels))
        weights.append(weight)
    if params.models.finetuned is not None:
        tuned = cross_finetune(rows.texts, rows.labels, folds, params.models.finetuned, device, (*seed, "finetuned"))
        members["finetuned"] = tuned.probabilities
        weights.append(params.models.finetuned.weight)
        area_under_margin = tuned.area_under_margin

    joint, temperature = probes.scale_temperature(
        probes.combine_probabilities(list(members.values()), weights), rows.labels
    )
    each = np.arange(len(rows.labels))
    by_itself = {f"{name}_self_confidence": member[each, rows.labels] for name, member in members.items()}
    if area_under_margin is not None:
        by_itself["finetuned_area_under_margin"] = np.where(np.isnan(joint[:, 0]), np.nan, area_under_margin)
    found = score_labels(rows.labels, update_by_evidence(joint, rows.evidence), params, by_itself)
    scores = dict(found.scores)
    # What each part brings: `label_quality` without it.
    if (rows.evidence >= 0).any():
        scores[WITHOUT_EVIDENCE] = score_labels(rows.labels, joint, params, by_itself).quality
    if area_under_margin is not None and len(members) > 1:
        frozen, _ = probes.scale_temperature(
            probes.combine_probabilities(list(members.values())[:-1], weights[:-1]), rows.labels
        )
        updated = update_by_evidence(frozen, rows.evidence)
        scores["without_finetuned"] = score_labels(rows.labels, updated, params, {}).quality
    return Detection(found.probabilities, joint, found.quality, scores, found.is_label_error, len(folds), temperature)


def score_labels(
    labels: Integers, probabilities: Floats, params: Detector, other_scores: dict[str, Floats]
) -> Detection:
    """The scores and the label errors that follow from given labels `(n,)` and probabilities `(n, k)`.

    The probabilities are calibrated, out of fold, all NaN for a row that no fold predicts; `other_scores` those of
    single models, shape `(n,)` each.
    """
    scores = score_quality(labels, probabilities) | other_scores
    scores["rank_average"] = average_ranks([scores[name] for name in RANKED if name in scores])
    quality = scores[params.score]
    is_error = flag_label_issues(labels, probabilities, params.filter_by) & (quality <= params.max_label_quality)
    return Detection(probabilities, probabilities, quality, scores, is_error, 0, 1.0)


def _build_models(rows: Rows, params: Models, seed: int) -> list[tuple[str, float, Model]]:
    """Every kind of model that is on, but for fine-tuning: its name, its weight, and itself."""
    kinds: list[tuple[str, float, Model]] = []
    if linear := params.linear:
        kinds.append(("linear", linear.weight, probes.linear_model(rows.features, linear.Cs)))
    if kernel := params.kernel:
        kinds.append(("kernel", kernel.weight, probes.kernel_model(rows.features, kernel.Cs, kernel.landmarks, seed)))
    if words := params.words:
        kinds.append(("words", words.weight, probes.words_model(rows.texts, words.Cs)))
    if nearest := params.neighbours:
        kinds.append(("neighbours", nearest.weight, probes.neighbours_model(rows.features, nearest.neighbours)))
    return kinds
