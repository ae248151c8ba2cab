import polars as pl

from assay.cleaning.column_checks import CheckParams, check_records, fill_missing
from assay.core.removed_rows import REMOVED_SCHEMA


def check(
    allowed: list[str] | None = None, pattern: str | None = None, max_characters: int | None = None
) -> CheckParams:
    return CheckParams(allowed=allowed, pattern=pattern, max_characters=max_characters)


def rows(*values: tuple[str, str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(values, schema=dict.fromkeys(("id", "text", "label"), pl.String), orient="row")


def test_each_check_sets_its_rows_aside_with_the_value_that_failed() -> None:
    checks = {"text": check(pattern="[a-z]", max_characters=10), "label": check(allowed=["good", "bad"])}
    records = rows(
        ("1", "fine", "good"),
        ("2", "far too long a text", "good"),
        ("3", "fine", "ugly"),
        ("4", "123", "bad"),
        ("5", "also fine", "bad"),
        ("6", "é" * 9 + "e", "bad"),
    )
    checked = check_records(records, checks)
    assert checked.kept.equals(records[[0, 4, 5]])
    assert checked.removed.schema == REMOVED_SCHEMA
    assert checked.removed.rows() == [
        ("2", "text_max_characters", "far too long a text", None),
        ("3", "label_allowed", "ugly", None),
        ("4", "text_pattern", "123", None),
    ]


def test_a_row_that_fails_twice_is_removed_once() -> None:
    checks = {"text": check(allowed=["x"], pattern="^[0-9]+$", max_characters=3), "label": check(allowed=["y"])}
    checked = check_records(rows(("1", "long text", "z"), ("2", "long", "z")), checks)
    assert checked.kept.height == 0
    assert checked.removed["id"].to_list() == ["1", "2"]


def test_a_missing_value_passes_every_check() -> None:
    records = rows(("1", None, None))
    checks = {"text": check(allowed=["x"], pattern="x", max_characters=3), "label": check()}
    for given in (checks, {}):
        checked = check_records(records, given)
        assert checked.kept.equals(records)
        assert checked.removed.equals(pl.DataFrame(schema=REMOVED_SCHEMA))


def test_missing_values_are_filled_in_or_their_rows_removed() -> None:
    records = rows(("1", "a", "x"), ("2", "b", None), ("3", " \n", "x"), ("4", None, None))
    filled = fill_missing(records, {"label": "unknown"}, {"text": "missing_text"})
    assert filled.records.rows() == [("1", "a", "x"), ("2", "b", "unknown")]
    assert filled.changed.rows() == [("2", "impute_label", None, "unknown")]
    assert filled.removed.rows() == [("3", "missing_text", " \n", None), ("4", "missing_text", None, None)]
