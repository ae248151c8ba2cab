"""What a fine-tuned model has to beat: the majority class, and TF-IDF with logistic regression.

Of the majority class the label shares are the probabilities. On disk a baseline is JSON and safetensors, which hold
names and numbers and can run nothing.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline, make_pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.classifiers.fits import Data, Fit, History, Step, score_validation
from assay.compute.cost import Spent, peak_memory_mib
from assay.core.outputs import read_json, write_json
from assay.fine_tuning.params import Majority, Tfidf, WithoutPyTorch

MODEL_FILE = "baseline.json"
WEIGHTS_FILE = "baseline.safetensors"


def tfidf(params: Tfidf) -> Pipeline:
    """TF-IDF of word n-grams (sublinear term frequency), then L2-regularised logistic regression."""
    ngrams = (1, params.max_word_ngram)
    vectorizer = TfidfVectorizer(ngram_range=ngrams, min_df=params.min_document_frequency, sublinear_tf=True)
    return make_pipeline(vectorizer, LogisticRegression(C=params.C, max_iter=2000))


def save_baseline(model: DummyClassifier | Pipeline, folder: Path) -> None:
    """Save a fitted baseline; the same fit gives the same bytes."""
    about: dict[str, Any] = {"classes": [str(label) for label in model.classes_]}
    if isinstance(model, Pipeline):
        words, regression = model[0], model[-1]
        vocabulary = sorted(words.vocabulary_, key=words.vocabulary_.__getitem__)
        about |= {"max_word_ngram": words.ngram_range[1], "vocabulary": vocabulary}
        numbers = {"idf": words.idf_, "coefficients": regression.coef_, "intercepts": regression.intercept_}
    else:
        numbers = {"shares": model.class_prior_}
    write_json(folder / MODEL_FILE, about)
    save_file({name: np.ascontiguousarray(values) for name, values in numbers.items()}, folder / WEIGHTS_FILE)


def load_baseline(folder: Path) -> DummyClassifier | Pipeline:
    """Load what `save_baseline` saved; it gives the same probabilities to the last bit."""
    about, numbers = read_json(folder / MODEL_FILE), load_file(folder / WEIGHTS_FILE)
    classes = np.array(about["classes"])
    if "shares" in numbers:
        majority = DummyClassifier(strategy="prior").fit(classes, classes)
        majority.class_prior_ = numbers["shares"]
        return majority
    ngrams = (1, about["max_word_ngram"])
    words = TfidfVectorizer(ngram_range=ngrams, vocabulary=about["vocabulary"], sublinear_tf=True)
    words.idf_ = numbers["idf"]
    regression = LogisticRegression()
    regression.classes_, regression.coef_ = classes, numbers["coefficients"]
    regression.intercept_ = numbers["intercepts"]
    return make_pipeline(words, regression)


def baseline_probabilities(
    model: DummyClassifier | Pipeline, texts: list[str], labels: list[str]
) -> NDArray[np.float64]:
    """Class probabilities with columns in the order of `labels`, shape `(texts, k)`."""
    column_of = {label: column for column, label in enumerate(model.classes_)}
    return np.asarray(model.predict_proba(texts))[:, [column_of[label] for label in labels]]


def fit_baseline(params: WithoutPyTorch, data: Data, folder: Path | None) -> Fit:
    """Fit a baseline and save it in `folder`, if there is one; its history is one step and one epoch."""
    model: Any = DummyClassifier(strategy="prior") if isinstance(params, Majority) else tfidf(params)
    began = Spent.now()
    # Of a pipeline, the weights are for its last step.
    argument = f"{model.steps[-1][0]}__sample_weight" if isinstance(model, Pipeline) else "sample_weight"
    # The bytes of the solution would depend on the number of threads that the environment gives BLAS.
    with threadpool_limits(limits=1, user_api="blas"):
        model.fit(data.train.texts, data.train.labels, **{argument: data.train.weights})
    spent = Spent.now().since(began)
    fitted = baseline_probabilities(model, data.train.texts, data.classes)
    loss = log_loss(data.train.targets, fitted, labels=range(len(data.classes)))
    probabilities = baseline_probabilities(model, data.validation.texts, data.classes)
    logits = np.log(np.maximum(probabilities, 1e-12)).astype(np.float32)
    scores = score_validation(1, logits, data.validation.targets)
    # Numbers that the fit chose: class shares, or weights and intercepts.
    chosen = [model[-1].coef_, model[-1].intercept_] if isinstance(model, Pipeline) else [model.class_prior_]
    parameters = sum(int(part.size) for part in chosen)
    if folder is not None:
        save_baseline(model, folder)
    history = History([Step(1, float(loss), 0.0)], [scores], scores, 1, 0, spent)
    return Fit(history, parameters, parameters, 0, peak_memory_mib(None), logits)
