"""What a fine-tuned model has to beat: the majority class, and TF-IDF with logistic regression."""

from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from assay.fine_tuning.params import Tfidf

MODEL_FILE = "baseline.joblib"


def majority() -> DummyClassifier:
    """Always the most frequent label, with the label shares as probabilities."""
    return DummyClassifier(strategy="prior")


def tfidf(params: Tfidf) -> Pipeline:
    """TF-IDF of word n-grams (sublinear term frequency), then L2-regularised logistic regression."""
    ngrams = (1, params.max_word_ngram)
    vectorizer = TfidfVectorizer(ngram_range=ngrams, min_df=params.min_document_frequency, sublinear_tf=True)
    return make_pipeline(vectorizer, LogisticRegression(C=params.C, max_iter=2000))


def trainable_parameters(model: DummyClassifier | Pipeline) -> int:
    """Numbers that the fit chose: class shares, or weights and intercepts."""
    if isinstance(model, DummyClassifier):
        return int(model.class_prior_.size)
    regression = model[-1]
    return int(regression.coef_.size + regression.intercept_.size)


def save_baseline(model: DummyClassifier | Pipeline, folder: Path) -> None:
    """Save a fitted baseline; the same fit gives the same bytes."""
    if isinstance(model, Pipeline):
        # A memory address, by which scikit-learn skips a check of stop words: without it, it checks once more.
        vars(model[0]).pop("_stop_words_id", None)
    joblib.dump(model, folder / MODEL_FILE)


def load_baseline(folder: Path) -> DummyClassifier | Pipeline:
    """Load what `save_baseline` saved. The file is a pickle: load only what your own pipeline made."""
    return joblib.load(folder / MODEL_FILE)


def baseline_probabilities(
    model: DummyClassifier | Pipeline, texts: list[str], labels: list[str]
) -> NDArray[np.float64]:
    """Class probabilities with columns in the order of `labels`, shape `(texts, k)`."""
    column_of = {label: column for column, label in enumerate(model.classes_)}
    return np.asarray(model.predict_proba(texts))[:, [column_of[label] for label in labels]]
