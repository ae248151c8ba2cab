"""A slice that errs more is found, and chance is not: in at most 5% of test sets, all slices together."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import fisher_exact
from statsmodels.stats.multitest import multipletests

from assay.report.error_analysis import compare_slices, count_confused, slice_rows
from assay.statistics.verdicts import fisher_in_groups

ROWS = 600


def found_in(random: np.random.Generator, rows_per_group: int, planted: float) -> dict[str, str]:
    """Verdicts on 15 slices of 30 and more rows; all err in 20% but one. A group is in one slice and errs as one."""
    groups = np.arange(ROWS) // rows_per_group
    slices = pl.DataFrame({f"by {k}": random.integers(0, k, ROWS).astype(str) for k in (2, 3, 10)})[groups]
    wrong = random.random(ROWS)[groups] < np.where(slices["by 3"] == "1", planted, 0.2)
    found = compare_slices(wrong.astype(float), slices, groups)
    words = {f"{way} {name}": one.get("verdict") for way, of_way in found.items() for name, one in of_way.items()}
    return {name: word for name, word in words.items() if word not in (None, "not decided")}


@pytest.mark.slow
@pytest.mark.parametrize("rows_per_group", [1, 2, 4])
def test_of_random_errors_a_slice_is_found_in_at_most_5_percent(rows_per_group: int) -> None:
    random = np.random.default_rng(11)
    assert sum(bool(found_in(random, rows_per_group, planted=0.2)) for _ in range(1000)) <= 50


@pytest.mark.parametrize(("rows_per_group", "at_least"), [(1, 20), (4, 12)])
def test_a_planted_slice_is_found_and_of_dependent_rows_less_often(rows_per_group: int, at_least: int) -> None:
    random = np.random.default_rng(5)
    found = [found_in(random, rows_per_group, planted=0.5) for _ in range(20)]
    assert sum(one.get("by 3 1") == "more errors" for one in found) >= at_least


def test_p_is_that_of_fisher_and_holm_where_rows_are_independent() -> None:
    random = np.random.default_rng(1)
    slices, wrong = (
        pl.DataFrame({"by": random.integers(0, 5, ROWS).astype(str)}),
        random.integers(0, 2, ROWS).astype(np.float64),
    )
    found = compare_slices(wrong, slices, np.arange(ROWS))["by"]
    sides = [(slices["by"] == name).to_numpy() for name in found]
    tables = [[[int((wrong[one] == value).sum()) for value in (1, 0)] for one in (side, ~side)] for side in sides]
    p = [fisher_exact(table).pvalue for table in tables]
    assert [one["p"] for one in found.values()] == pytest.approx(p)
    assert [one["p_holm"] for one in found.values()] == pytest.approx(multipletests(p, method="holm")[1])


def test_copies_of_rows_make_no_slice_more_certain() -> None:
    wrong, inside = np.repeat([1.0, 0, 1, 1, 0, 0, 0, 0], 10), np.repeat([True] * 4 + [False] * 4, 10)
    one = fisher_in_groups(wrong, inside, np.repeat(np.arange(8), 10))
    assert one == pytest.approx(fisher_exact([[3, 1], [0, 4]]).pvalue)
    assert fisher_in_groups(wrong, inside, np.arange(80)) < 1e-6 < one


def test_rows_are_sliced_and_few_of_a_kind_are_counted() -> None:
    texts = ["das ist ein schöner Tag und ich gehe nach Hause"] * 3 + ["123"] * 2
    texts += [f"this is a good day and I am going home {'x' * (number % 30)}" for number in range(85)]
    slices = slice_rows(
        pl.DataFrame({"text": texts, "near_duplicate_group": range(90)}).with_columns(
            source=pl.lit("one"), target_label=pl.lit("a"), semantic_group=pl.lit("0")
        ),
        min_language_probability=0.5,
    )
    assert slices["duplicates"].unique().to_list() == ["has a near or semantic duplicate"]
    assert slices["length"].value_counts()["count"].min() > 20  # type: ignore[operator]
    found = compare_slices(np.zeros(90), slices, np.arange(90))
    assert {name: one["rows"] for name, one in found["language"].items()} == (
        {"en": 85, "other languages": 3, "undetermined": 2}
    )
    assert found["source"] == {}
    assert found["language"]["other languages"] == {"rows": 3, "errors": 0}
    assert set(found["language"]["en"]) == {
        "rows",
        "errors",
        "error_rate",
        "error_rate_ci95_low",
        "error_rate_ci95_high",
    }


def test_pairs_of_labels_are_counted_with_an_interval_from_30_rows_on() -> None:
    rows = pl.DataFrame({"target_label": ["a"] * 40 + ["b"] * 5, "predicted_label": ["b"] * 10 + ["a"] * 35})
    found = count_confused(rows, np.arange(45))
    assert found["a → b"] == pytest.approx(  # Wilson, 10 of 40
        {"errors": 10, "rows": 40, "share": 0.25, "share_ci95_low": 0.1419, "share_ci95_high": 0.4019}, abs=1e-4
    )
    assert found["b → a"] == {"errors": 5, "rows": 5}
