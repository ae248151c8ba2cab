"""A saved baseline is the same bytes whenever it is fitted on the same rows."""

import subprocess
import sys
from pathlib import Path

import pytest

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
