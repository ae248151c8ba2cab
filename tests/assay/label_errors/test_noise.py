import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from assay.label_errors.noise import (
    NOISE,
    add_confusable_noise,
    add_instance_dependent_noise,
    add_uniform_noise,
)

LABELS = np.repeat([0, 1, 2, 3], 500)


def confused() -> NDArray[np.float64]:
    """A model that is sure of 0 and 1, and takes 2 and 3 for each other; even rows are harder."""
    random = np.random.default_rng(3)
    probabilities = random.dirichlet([0.3] * 4, size=len(LABELS)) * 0.2
    probabilities[np.arange(len(LABELS)), LABELS] += np.where(np.arange(len(LABELS)) % 2, 0.7, 0.3)
    probabilities[np.arange(len(LABELS)), LABELS ^ 1] += 0.1
    shares: NDArray[np.float64] = probabilities / probabilities.sum(axis=1, keepdims=True)
    return shares


@given(share=st.sampled_from([0.05, 0.1, 0.2]), seed=st.integers(0, 10))
def test_exactly_the_share_is_wrong(share: float, seed: int) -> None:
    for add_noise in NOISE.values():
        noisy = add_noise(LABELS, confused(), share, np.random.default_rng(seed))
        assert (noisy != LABELS).sum() == share * len(LABELS)
        assert set(noisy) <= {0, 1, 2, 3}


def test_uniform_noise_goes_to_every_other_label_alike() -> None:
    noisy = add_uniform_noise(LABELS, confused(), 0.9, np.random.default_rng(0))
    wrong = noisy != LABELS
    counts = np.bincount((noisy - LABELS)[wrong] % 4, minlength=4)[1:]
    assert counts / wrong.sum() == pytest.approx([1 / 3] * 3, abs=0.03)


def test_confusable_noise_goes_to_likely_labels() -> None:
    noisy = add_confusable_noise(LABELS, confused(), 0.2, np.random.default_rng(0))
    wrong = noisy != LABELS
    assert (noisy[wrong] == (LABELS[wrong] ^ 1)).mean() > 0.5


def test_instance_dependent_noise_is_in_hard_rows() -> None:
    noisy = add_instance_dependent_noise(LABELS, confused(), 0.1, np.random.default_rng(0))
    wrong = np.flatnonzero(noisy != LABELS)
    assert (wrong % 2 == 0).mean() > 0.55


def test_the_same_seed_gives_the_same_noise() -> None:
    one, other = (add_instance_dependent_noise(LABELS, confused(), 0.1, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, other)
