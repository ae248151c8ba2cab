import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from assay.embeddings.nearest import nearest_reference, nearest_rows


def unit(rows: list[list[float]]) -> NDArray[np.float32]:
    vectors = np.array(rows, dtype=np.float32)
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def test_the_closest_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.embeddings.nearest.BLOCK_ROWS", 2)
    vectors = unit([[1, 0], [0, 1], [1, 1]])
    cosines, closest = nearest_reference(vectors, unit([[0, 2], [3, 3]]))
    np.testing.assert_allclose(cosines, [0.5**0.5, 1, 1], atol=1e-6)
    assert closest.tolist() == [1, 0, 1]
    none, _ = nearest_reference(vectors, np.zeros((0, 2), dtype=np.float32))
    assert none.tolist() == [-1, -1, -1]


@pytest.mark.parametrize("rows", [4, 64, 67])
def test_nearest_rows_are_those_of_scikit_learn(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.embeddings.nearest.BLOCK_ROWS", 64)
    embeddings = unit(np.random.default_rng(1).normal(size=(rows, 16)).tolist())
    found = nearest_rows(embeddings, embeddings, np.arange(rows), 3, torch.device("cpu"))
    distances, nearest = NearestNeighbors(n_neighbors=3, metric="cosine").fit(embeddings).kneighbors()
    assert found.row.tolist() == nearest.tolist()
    assert 1 - found.cosine == pytest.approx(distances, abs=1e-6)
