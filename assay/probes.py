"""Probabilities of every label for each row, from models that were not fitted on the row's fold.

Legend: `n` rows, `d` features, `k` labels numbered from 0. A model is a function of the rows it is fitted on, their
labels as codes `0..c-1`, and the rows to predict; for each of its values of `C` (without one: once) it gives
probabilities of shape `(predicted, c)`. What the values share, such as features, is computed once.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from assay.core.seeds import seed_32
from assay.embeddings.nearest import cosine_blocks

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Vectors = NDArray[np.float32]
Model = Callable[[Integers, Integers, Integers], list[Floats]]

MAX_ITERATIONS = 500
"""Of a logistic regression; it converges in tens to hundreds, and the ranking of the rows settles long before."""

MAX_WEIGHTED_ITERATIONS = 1000
NEIGHBOUR_REACH = 0.1
NEIGHBOUR_BLOCK_ROWS = 512
"""Cosines are held for so many rows against all that a model is fitted on: 160 MB at 80,000 rows."""

SMALLEST_PROBABILITY = 1e-6
"""What a probability of 0 counts as where logarithms are taken: one model alone must not decide for all."""


def number_values(column: pl.Series) -> Integers:
    """Values as numbers from 0 in sorted order, -1 for null, shape `(len(column),)`."""
    return (column.rank("dense").cast(pl.Int64) - 1).fill_null(-1).to_numpy()


@dataclass(frozen=True)
class Fold:
    """Row numbers: those a model is fitted on, and those it then predicts."""

    fitted: Integers
    predicted: Integers


def grouped_folds(labels: Integers, groups: Integers, folds: int, seed: int) -> list[Fold]:
    """Assign the groups to folds, each with about the same share of every label; labels and groups of shape `(n,)`.

    Rows of one group are in one fold. Where no label has as many groups there are fewer folds, and none where every
    label is one group. A row whose label does not occur among the rows that a model is fitted on is in no `predicted`.
    """
    groups_of_label = np.bincount(np.unique(np.stack([labels, groups]), axis=1)[0])
    folds = min(folds, int(groups_of_label.max()))
    if folds < 2:
        return []
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed_32(seed))
    assigned = []
    with warnings.catch_warnings():
        # A label with fewer rows than folds is looked after below.
        warnings.filterwarnings("ignore", message="The least populated class in y")
        for fitted, held_out in splitter.split(labels, labels, groups):
            known = np.unique(labels[fitted])
            predicted = held_out[np.isin(labels[held_out], known)]
            if len(known) >= 2 and len(predicted):
                assigned.append(Fold(fitted, predicted))
    return assigned


def out_of_fold_probabilities(model: Model, labels: Integers, folds: Sequence[Fold]) -> list[Floats]:
    """Probability of every label for each row, shape `(n, k)`, for each `C` of the model.

    All NaN for a row that no fold predicts; of a model that no fold fits, one such array.
    """
    found: list[Floats] = []
    for fold in folds:
        known, codes = np.unique(labels[fold.fitted], return_inverse=True)
        of_fold = model(fold.fitted, codes, fold.predicted)
        found = found or [np.full((len(labels), int(labels.max()) + 1), np.nan) for _ in of_fold]
        for probabilities, of_one in zip(found, of_fold, strict=True):
            probabilities[fold.predicted] = 0
            probabilities[np.ix_(fold.predicted, known)] = of_one
    return found or [np.full((len(labels), int(labels.max()) + 1), np.nan)]


def linear_model(
    features: NDArray[np.float32], Cs: Sequence[float], steps: Callable[[int], list[BaseEstimator]] = lambda _: []
) -> Model:
    """Logistic regression on features `(n, d)` that are standardised by the rows it is fitted on.

    Standardised features are divided by the root of their number, so that `C` means the same for any encoder. Further
    steps follow, made for the number of rows.
    """

    def divide_by_root(scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        divided: NDArray[np.float32] = scaled / np.float32(np.sqrt(scaled.shape[1]))
        return divided

    def predict(fitted: Integers, codes: Integers, predicted: Integers) -> list[Floats]:
        space = make_pipeline(StandardScaler(), FunctionTransformer(divide_by_root), *steps(len(fitted)))
        return _regress(space.fit_transform(features[fitted]), codes, space.transform(features[predicted]), Cs)

    return predict


def kernel_model(features: NDArray[np.float32], Cs: Sequence[float], landmarks: int, seed: int) -> Model:
    """Logistic regression in the space of a Gaussian kernel of width 1 (Nyström method; Williams & Seeger 2001).

    Scaled as for `linear_model`. The `landmarks` are the rows that span the space, drawn by `seed`; all, where there
    are fewer.
    """

    def span(rows: int) -> list[BaseEstimator]:
        return [Nystroem(gamma=1.0, n_components=min(landmarks, rows), random_state=seed_32(seed))]

    return linear_model(features, Cs, span)


def _regress(fitted: Any, codes: Integers, predicted: Any, Cs: Sequence[float]) -> list[Floats]:
    """Probabilities of logistic regressions on features, one for each `C`."""
    models = (LogisticRegression(C=C, max_iter=MAX_ITERATIONS).fit(fitted, codes) for C in Cs)
    return [np.asarray(model.predict_proba(predicted), dtype=np.float64) for model in models]


def weighted_probe(
    features: NDArray[np.float32],
    labels: NDArray[np.object_] | Integers,
    weights: Floats,
    test: NDArray[np.float32],
    classes: Sequence[str] | Sequence[int],
    C: float,
) -> Floats:
    """Probabilities of the test rows by a logistic regression on features as they are, shape `(n, k)`.

    Args:
        features: of the train rows, shape `(m, d)`; with their `labels`, shape `(m,)`.
        weights: how much each counts; those of none do not, shape `(m,)`.
        test: features of the test rows, shape `(n, d)`.
        classes: labels in the order of the columns; those without a train row get 0.
        C: inverse strength of the L2 penalty.
    """
    kept = weights > 0
    model = LogisticRegression(C=C, max_iter=MAX_WEIGHTED_ITERATIONS)
    model.fit(features[kept], labels[kept], sample_weight=weights[kept])
    probabilities = np.zeros((len(test), len(classes)))
    probabilities[:, [classes.index(label) for label in model.classes_]] = model.predict_proba(test)
    return probabilities


def words_model(texts: Sequence[str], Cs: Sequence[float]) -> Model:
    """Logistic regression on TF-IDF of words and word pairs: of another family, so its mistakes are others."""

    def predict(fitted: Integers, codes: Integers, predicted: Integers) -> list[Floats]:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        try:
            words = vectorizer.fit_transform([texts[row] for row in fitted])
        except ValueError:
            # No word is in two texts: nothing to go by but the shares of the labels.
            return [np.tile(np.bincount(codes) / len(codes), (len(predicted), 1))] * len(Cs)
        return _regress(words, codes, vectorizer.transform([texts[row] for row in predicted]), Cs)

    return predict


def neighbours_model(features: NDArray[np.float32], neighbours: int) -> Model:
    """Vote of the nearest rows by cosine of the centred features, closer ones counting more (Cover & Hart 1967).

    The weight of a neighbour falls by a factor of e for every `NEIGHBOUR_REACH` that its cosine is lower. All rows vote
    where there are fewer than `neighbours`.
    """

    def predict(fitted: Integers, codes: Integers, predicted: Integers) -> list[Floats]:
        centre = features[fitted].mean(axis=0)
        known, vectors = unit(features[fitted] - centre), unit(features[predicted] - centre)
        return [neighbour_shares(vectors, known, codes, np.ones(len(fitted)), neighbours, int(codes.max()) + 1)]

    return predict


def neighbour_shares(
    vectors: Vectors, known: Vectors, codes: Integers, row_weights: Floats, neighbours: int, classes: int
) -> Floats:
    """Shares of the labels in the vote of `neighbours_model` for vectors `(n, d)`, shape `(n, classes)`.

    Vectors are of length 1; those of the `m` known rows have shape `(m, d)`, their labels and weights `(m,)`.
    """
    votes, count = np.zeros((len(vectors), classes)), min(neighbours, len(known))
    for block, cosines in cosine_blocks(vectors, known, NEIGHBOUR_BLOCK_ROWS):
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        weights = np.exp((np.take_along_axis(cosines, nearest, axis=1) - 1) / NEIGHBOUR_REACH) * row_weights[nearest]
        rows = np.broadcast_to(np.arange(block.start, block.stop)[:, None], nearest.shape)
        np.add.at(votes, (rows, codes[nearest]), weights)
    shares: Floats = votes / votes.sum(axis=1, keepdims=True)
    return shares


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its length; a row of zeros stays."""
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def combine_probabilities(members: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Weighted geometric mean of probabilities `(n, k)`, normalised (a product of experts; Hinton 2002).

    A row that one of the members did not predict is all NaN.
    """
    total = sum(weights)
    logarithm = sum(
        weight / total * np.log(np.maximum(one, SMALLEST_PROBABILITY))
        for one, weight in zip(members, weights, strict=True)
    )
    return _normalised(np.asarray(logarithm))


def mean_loss(probabilities: Floats, labels: Integers) -> float:
    """Mean negative log-likelihood of the given labels over the rows that were predicted; 0 where none was."""
    predicted = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    given = probabilities[predicted, labels[predicted]]
    return float(-np.log(np.maximum(given, SMALLEST_PROBABILITY)).mean()) if len(predicted) else 0.0


def scale_temperature(probabilities: Floats, labels: Integers) -> tuple[Floats, float]:
    """Temperature scaling (Guo et al. 2017, section 4.2): one number that makes the given labels most likely.

    Confident learning compares probabilities across rows and labels, so they should mean what they say. The scaling is
    fitted on out-of-fold probabilities `(n, k)`, all NaN for a row that no fold predicts; it changes no row's order of
    labels. Returns the scaled probabilities and the temperature; above 1, the models were too sure.
    """
    predicted = ~np.isnan(probabilities[:, 0])
    logarithm = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    of_predicted, rows = logarithm[predicted], np.arange(int(predicted.sum()))
    if not len(rows):
        return probabilities, 1.0

    def loss(log_temperature: float) -> float:
        scaled = of_predicted / np.exp(log_temperature)
        return float((logsumexp(scaled, axis=1) - scaled[rows, labels[predicted]]).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    temperature = float(np.exp(found.x))
    return apply_temperature(probabilities, temperature), temperature


def apply_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Probabilities `(n, k)` at a temperature; above 1 they become more even."""
    return _normalised(np.log(np.maximum(probabilities, SMALLEST_PROBABILITY)) / temperature)


def _normalised(logarithm: Floats) -> Floats:
    probabilities: Floats = np.exp(logarithm - logsumexp(logarithm, axis=1, keepdims=True))
    return probabilities
