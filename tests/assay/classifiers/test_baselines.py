"""A saved baseline is the same bytes whenever it is fitted on the same rows, and gives the same probabilities."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.classifiers.baselines import (
    MODEL_FILE,
    WEIGHTS_FILE,
    baseline_probabilities,
    fit_baseline,
    load_baseline,
    save_baseline,
    tfidf,
)
from assay.classifiers.fits import Data, Rows
from assay.fine_tuning.params import Tfidf

TEXTS = ["card late", "Card lost ünïcode", "app works", "app fast", "please why", "why please"]


@pytest.mark.parametrize("labels", [["bad", "bad", "good", "good", "bad", "bad"], ["a", "b", "c", "a", "b", "a"]])
def test_a_loaded_baseline_gives_the_same_probabilities_to_the_last_bit(tmp_path: Path, labels: list[str]) -> None:
    words = tfidf(Tfidf(method="tfidf", max_word_ngram=2, min_document_frequency=1, C=3.0))
    for name, model in (("tfidf", words), ("majority", DummyClassifier(strategy="prior"))):
        model.fit(
            TEXTS, labels, **{f"{'logisticregression__' * (model is words)}sample_weight": [0.3, 1, 1, 0.7, 1, 1]}
        )
        classes, folder = sorted(set(labels)), tmp_path / name
        folder.mkdir()
        save_baseline(model, folder)
        assert sorted(path.name for path in folder.iterdir()) == [MODEL_FILE, WEIGHTS_FILE]
        said = baseline_probabilities(model, [*TEXTS, "other words"], classes)
        assert (baseline_probabilities(load_baseline(folder), [*TEXTS, "other words"], classes) == said).all()


def test_the_number_of_threads_of_blas_does_not_matter(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    words = [f"word{number}" for number in range(400)]
    targets = np.arange(600) % 30
    texts = [f"topic{target} {' '.join(draw.choice(words, 8))}" for target in targets]
    classes = [f"{number:02}" for number in range(30)]
    rows = Rows([f"r{n}" for n in range(600)], texts, [classes[target] for target in targets], targets, np.ones(600))
    params = Tfidf(method="tfidf", max_word_ngram=2, min_document_frequency=1, C=3.0)
    saved = []
    for threads in (1, 2):
        folder = tmp_path / str(threads)
        folder.mkdir()
        with threadpool_limits(limits=threads, user_api="blas"):
            fit_baseline(params, Data(rows, rows, classes), folder)
        saved.append((folder / MODEL_FILE).read_bytes() + (folder / WEIGHTS_FILE).read_bytes())
    assert saved[0] == saved[1]
