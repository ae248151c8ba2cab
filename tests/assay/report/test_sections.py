"""What a section shows is what the tables hold."""

import polars as pl
import pytest

from assay.report.sections import confused_pairs, count_confusions


@pytest.mark.parametrize(
    ("actual", "predicted", "expected", "pairs"),
    [
        (["b", "a", "a", "a"], ["b", "b", "a", "b"], (["a", "b"], [[1, 2], [0, 1]]), [("a", "b", 2, 2 / 3)]),
        # A label that is only predicted is in the matrix.
        (["a"], ["b"], (["a", "b"], [[0, 1], [0, 0]]), [("a", "b", 1, 1.0)]),
    ],
)
def test_confusions_are_counted(
    actual: list[str],
    predicted: list[str],
    expected: tuple[list[str], list[list[int]]],
    pairs: list[tuple[str, str, int, float]],
) -> None:
    matrix = count_confusions(pl.DataFrame({"actual": actual, "predicted": predicted}))
    assert matrix == expected
    assert confused_pairs(*matrix, 5) == pairs
