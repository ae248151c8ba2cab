import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assay.duplicates import semantic_groups as module
from assay.duplicates.semantic_groups import SemanticGroups, semantic_groups

CPU = torch.device("cpu")


def at_angles(*degrees: float) -> NDArray[np.float32]:
    """Unit vectors in the plane."""
    radians = np.deg2rad(np.array(degrees))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def found(embeddings: NDArray[np.float32], min_cosine: float) -> SemanticGroups:
    return semantic_groups(embeddings, min_cosine, CPU)


def by_definition(embeddings: NDArray[np.float32], min_cosine: float) -> list[int]:
    """The first row of each row's group, by walking the links."""
    cosines = embeddings.astype(np.float64) @ embeddings.astype(np.float64).T
    first = [-1] * len(embeddings)
    for start in range(len(embeddings)):
        waiting = [start]
        while waiting:
            row = waiting.pop()
            if first[row] == -1:
                first[row] = start
                waiting += np.flatnonzero(cosines[row] >= min_cosine).tolist()
    return first


def test_rows_that_a_chain_of_links_joins_are_one_group() -> None:
    # 10 degrees: 0.985; 20 degrees: 0.940.
    groups = found(at_angles(20, 90, 0, 10), 0.98)
    assert groups.first.tolist() == [0, 1, 0, 0]
    assert groups.nearest.tolist() == [3, -1, 3, 0]
    assert groups.links == 2
    assert groups.cosine == pytest.approx([np.cos(np.deg2rad(10)), np.nan, *[np.cos(np.deg2rad(10))] * 2], nan_ok=True)


def test_the_threshold_itself_is_a_link_and_a_hair_less_is_none() -> None:
    embeddings = at_angles(0, 30)
    cosine = float(embeddings[0].astype(np.float64) @ embeddings[1].astype(np.float64))
    assert found(embeddings, cosine).links == 1
    assert found(embeddings, cosine + 1e-9).links == 0


def test_rows_that_are_the_same_are_one_group() -> None:
    groups = found(np.repeat(at_angles(10), 5, axis=0), 0.9999)
    assert groups.first.tolist() == [0] * 5
    assert groups.nearest.tolist() == [1, 0, 0, 0, 0]
    assert groups.links == 10


@pytest.mark.parametrize("rows", [0, 1])
def test_no_pair_no_group(rows: int) -> None:
    groups = found(at_angles(*range(rows)).reshape(rows, 2), 0.5)
    assert groups.first.tolist() == list(range(rows))
    assert groups.links == 0


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 72), min_size=1, max_size=40), st.sampled_from([0.5, 0.9, 0.99]), st.integers(1, 7))
def test_blocks_of_any_size_give_the_groups_of_the_definition(steps: list[int], min_cosine: float, block: int) -> None:
    # Angles that are no threshold's: 0.5 is 60 degrees.
    embeddings = at_angles(*(5.01 * step for step in steps))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ROWS", block)
        in_blocks = found(embeddings, min_cosine)
    assert in_blocks.first.tolist() == by_definition(embeddings, min_cosine)
    cosines = np.triu(embeddings.astype(np.float64) @ embeddings.astype(np.float64).T, 1)
    assert in_blocks.links == (cosines[np.triu_indices(len(cosines), 1)] >= min_cosine).sum()
    # Of rows that are equally close, rounding may choose any; so it is the cosine that is compared.
    closest = np.maximum(cosines.max(axis=0), cosines.max(axis=1))
    linked = in_blocks.nearest >= 0
    assert in_blocks.cosine[linked] == pytest.approx(closest[linked], abs=1e-5)
    assert linked.tolist() == [in_blocks.first.tolist().count(first) > 1 for first in in_blocks.first]


def test_many_dimensions_and_many_blocks_against_the_definition() -> None:
    random = np.random.default_rng(3)
    centres = random.normal(size=(200, 32))
    rows = centres[random.integers(0, 200, 700)] + 0.25 * random.normal(size=(700, 32))
    embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ROWS", 64)
        groups = found(embeddings, 0.95)
    assert groups.first.tolist() == by_definition(embeddings, 0.95)
    assert 200 < len(set(groups.first.tolist())) < 700
