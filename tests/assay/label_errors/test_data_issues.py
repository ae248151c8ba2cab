import numpy as np
import torch
from numpy.typing import NDArray

from assay.label_errors.data_issues import ISSUES, find_data_issues


def vectors(rows: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(1).normal(size=(rows, 16)).astype(np.float32)
    units: NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return units


def test_copies_are_near_duplicates_and_a_stranger_is_an_outlier() -> None:
    embeddings = vectors(60) * 0.02 + vectors(1)
    embeddings[1] = embeddings[0]
    embeddings[2] = -embeddings[0]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = np.arange(60) % 2
    probabilities = np.full((60, 2), 0.5)
    found = find_data_issues(labels, probabilities, embeddings, torch.device("cpu"))
    assert found.table["is_near_duplicate"].arg_true().to_list() == [0, 1]
    assert found.table["is_outlier"].arg_true().to_list() == [2]


def test_few_rows_have_no_neighbours_to_speak_of() -> None:
    found = find_data_issues(np.array([0, 1, 0]), np.full((3, 2), 0.5), vectors(3), torch.device("cpu"))
    assert found.table.height == 3
    # A check that was not made has no count, and no 0 either.
    assert not {issue for issue in ISSUES if found.table[f"is_{issue}"].null_count() == 3} & set(found.counts)
    assert "outlier" not in found.counts
