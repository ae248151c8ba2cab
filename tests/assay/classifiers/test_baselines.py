"""A saved baseline is the same bytes whenever it is fitted on the same rows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.classifiers.baselines import MODEL_FILE, fit_baseline
from assay.classifiers.fits import Data, Rows
from assay.fine_tuning.params import Tfidf

FIT = """
import sys
from pathlib import Path
from assay.classifiers.baselines import baseline_probabilities, load_baseline, save_baseline, tfidf
from assay.fine_tuning.params import Tfidf
texts, labels = ["card late", "card lost", "app works", "app fast"], ["bad", "bad", "good", "good"]
model = tfidf(Tfidf(method="tfidf", max_word_ngram=2, min_document_frequency=1, C=3.0)).fit(texts, labels)
folder = Path(sys.argv[1])
said = baseline_probabilities(model, texts, ["bad", "good"])
save_baseline(model, folder)
assert (baseline_probabilities(load_baseline(folder), texts, ["bad", "good"]) == said).all()
"""


@pytest.mark.slow
def test_two_fits_in_two_processes_are_saved_as_the_same_bytes(tmp_path: Path, repository: Path) -> None:
    saved = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        subprocess.run([sys.executable, "-c", FIT, str(tmp_path / name)], cwd=repository, check=True)
        saved.append((tmp_path / name / "baseline.joblib").read_bytes())
    assert saved[0] == saved[1]


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
        saved.append((folder / MODEL_FILE).read_bytes())
    assert saved[0] == saved[1]
