import numpy as np
import polars as pl
import pytest

from assay.augmentation.checks import LabelPreservation, list_placeholders, probe_examples, rank_of_label


def test_placeholders_are_listed_with_repeats() -> None:
    assert list_placeholders("<URL> a <EMAIL_2> <URL> <b> < URL>") == ["<EMAIL_2>", "<URL>", "<URL>"]


def test_rank_of_label() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [np.nan] * 3])
    assert rank_of_label(probabilities, np.array([0, 1, 2, 0])).tolist() == [0, 1, 2, 0]


def test_the_probe_sees_neither_a_source_nor_its_group() -> None:
    random = np.random.default_rng(1)
    labels = np.arange(120) % 2
    vectors = random.normal(size=(120, 8)).astype(np.float32)
    vectors[:, 0] += 6 * labels
    # Row 0 has a wrong label, and so has its twin: a probe that saw the twin would believe it.
    vectors[1] = vectors[0] = -vectors[0]
    labels[:2] = 1
    vectors[:2, 0] = -3
    groups = pl.Series([f"g{max(row, 1)}" for row in range(120)])
    params = LabelPreservation(min_cosine_to_parent=0.7, probe_folds=4, probe_C=1.0)
    originals, examples = probe_examples(vectors, vectors[[0, 5]], np.array([0, 5]), labels, groups, params, 1)
    assert originals.shape == (120, 2)
    np.testing.assert_allclose(examples, originals[[0, 5]])
    assert originals[0, 1] < 0.5
    assert (originals.argmax(axis=1) == labels)[2:].mean() > 0.95
    assert originals.sum(axis=1) == pytest.approx(np.ones(120))
