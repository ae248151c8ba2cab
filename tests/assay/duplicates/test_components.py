import numpy as np
import pytest

from assay.duplicates.components import join_groups


def test_a_group_is_named_by_its_smallest_row() -> None:
    first = join_groups(np.arange(7), np.array([5, 3, 6]), np.array([3, 1, 2]))
    assert first.tolist() == [0, 1, 2, 1, 4, 1, 2]
    assert join_groups(first, np.array([6]), np.array([5])).tolist() == [0, 1, 1, 1, 4, 1, 1]


def test_without_pairs_groups_stay() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert join_groups(np.array([0, 0, 2]), none, none).tolist() == [0, 0, 2]
    assert join_groups(none, none, none).tolist() == []


# 256 times the same pair: a count of them in one byte would be none.
@pytest.mark.parametrize("repeats", [1, 256])
def test_pairs_one_by_one_and_together_give_the_same_groups(repeats: int) -> None:
    random = np.random.default_rng(0)
    for pairs in (1, 5, 30, 200):
        left, right = random.integers(0, 60, (2, pairs))
        by_hand = np.arange(60)
        for one, other in zip(left, right, strict=True):
            low, high = sorted((by_hand[one], by_hand[other]))
            by_hand[by_hand == high] = low
        together = join_groups(np.arange(60), np.repeat(left, repeats), np.repeat(right, repeats))
        assert together.tolist() == by_hand.tolist()
