"""What a section shows is what the tables hold."""

import polars as pl
import pytest

from assay.report.sections import count_confusions


@pytest.mark.parametrize(
    ("actual", "predicted", "expected"),
    [
        (["b", "a", "a", "a"], ["b", "b", "a", "b"], (["a", "b"], [[1, 2], [0, 1]])),
        # A label that is only predicted is in the matrix.
        (["a"], ["b"], (["a", "b"], [[0, 1], [0, 0]])),
    ],
)
def test_confusions_are_counted(
    actual: list[str], predicted: list[str], expected: tuple[list[str], list[list[int]]]
) -> None:
    assert count_confusions(pl.DataFrame({"actual": actual, "predicted": predicted})) == expected
