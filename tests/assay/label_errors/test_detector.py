import numpy as np
import pytest
import torch

from assay.compute.device import Device
from assay.label_errors.detector import Detector, Models, Neighbours, Regression, Rows, detect, score_labels

DEVICE = Device(torch.device("cpu"), torch.float32)
SEED = (1, "label_errors")


def detector(**changes: object) -> Detector:
    models = Models(
        linear=Regression(Cs=[0.01, 1.0], weight=1.0),
        kernel=None,
        words=Regression(Cs=[3.0], weight=0.5),
        neighbours=Neighbours(neighbours=5, weight=1.0),
        finetuned=None,
    )
    values = {"folds": 5, "models": models, "score": "self_confidence", "filter_by": "low_self_confidence"}
    return Detector.model_validate(values | {"max_label_quality": 0.5} | changes)


def rows(evidence: np.ndarray | None = None) -> tuple[Rows, np.ndarray]:
    """240 rows of three clusters that overlap, every seventh of them given the next label."""
    random = np.random.default_rng(1)
    truth = np.arange(240) % 3
    features = (random.normal(size=(240, 6)) + 2 * np.eye(6)[truth]).astype(np.float32)
    is_wrong = np.arange(240) % 7 == 0
    labels = np.where(is_wrong, (truth + 1) % 3, truth)
    known = np.full(240, -1) if evidence is None else evidence
    return Rows([f"word{label} row" for label in truth], features, labels, np.arange(240), known), is_wrong


def test_wrong_rows_are_trusted_least_and_every_score_is_there() -> None:
    given, is_wrong = rows()
    found = detect(given, detector(), DEVICE, SEED)
    assert found.quality[is_wrong].mean() < 0.5 * found.quality[~is_wrong].mean()
    assert set(found.scores) == {
        *("self_confidence", "normalized_margin", "pairwise_confidence", "rank_average"),
        *("linear_self_confidence", "words_self_confidence", "neighbours_self_confidence"),
    }
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(240))
    assert is_wrong[found.is_label_error].mean() > 0.5  # by chance, one in seven


def test_what_is_known_beside_the_text_helps() -> None:
    _, is_wrong = rows()
    # Raters who were not sure are wrong in half their rows, the others in few.
    unsure = is_wrong | (np.arange(240) % 6 == 0)
    labels = rows()[0].labels
    found = detect(rows(labels * 2 + unsure)[0], detector(), DEVICE, SEED)
    better, worse = found.quality, found.scores["without_evidence"]

    def share_found(quality: np.ndarray) -> float:
        return float(is_wrong[np.argsort(quality)[: is_wrong.sum()]].mean())

    assert share_found(better) > share_found(worse)


def test_the_strength_under_which_the_labels_are_likeliest_is_taken() -> None:
    given, _ = rows()
    losses = []
    for strength in (0.01, 1.0):
        changed = {"linear": Regression(Cs=[strength], weight=1.0), "words": None, "neighbours": None}
        models = detector().models.model_copy(update=changed)
        found = detect(given, detector(models=models), DEVICE, SEED)
        losses.append(-np.log(found.scores["linear_self_confidence"]).mean())
    both = detect(given, detector(), DEVICE, SEED)
    assert -np.log(both.scores["linear_self_confidence"]).mean() == pytest.approx(min(losses))


def test_the_quality_is_the_chosen_score() -> None:
    probabilities, labels = np.array([[0.6, 0.4], [0.3, 0.7], [0.8, 0.2]]), np.array([0, 0, 1])
    for score in ("self_confidence", "normalized_margin", "pairwise_confidence", "rank_average"):
        found = score_labels(labels, probabilities, detector(score=score), {})
        assert np.array_equal(found.quality, found.scores[score])


def test_nothing_can_be_judged() -> None:
    one_each = Rows(["a", "b"], np.eye(2, dtype=np.float32), np.array([0, 1]), np.arange(2), np.full(2, -1))
    found = detect(one_each, detector(), DEVICE, SEED)
    assert found.folds == 0
    assert np.isnan(found.quality).all()
    assert not found.is_label_error.any()


def test_all_models_off_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one has to be on"):
        Models(linear=None, kernel=None, words=None, neighbours=None, finetuned=None)
