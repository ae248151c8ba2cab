"""What a section shows is what the tables hold."""

import polars as pl
import pytest

from assay.report.sections import confused_pairs, count_confusions, effect_sentence


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


def test_what_labels_are_worth_is_said_as_far_as_the_intervals_say() -> None:
    def difference(low: float, high: float) -> dict[str, float]:
        return {"macro_f1": (low + high) / 2, "macro_f1_ci95_low": low, "macro_f1_ci95_high": high}

    unchanged = effect_sentence({"detector_off": {}, "oracle_minus_detector_off": difference(-0.01, 0.05)})
    assert unchanged == (
        "The detector's action changes no label and no weight. Right labels for all train rows, the most it could"
        " bring, cannot be told from no change on these validation rows."
    )
    worse = effect_sentence({"detector_on": {}, "detector_on_minus_detector_off": difference(-0.05, -0.01)})
    assert worse == "The detector's action made the probe worse: the interval of the difference is without 0."
