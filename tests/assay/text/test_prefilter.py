import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from assay.text.prefilter import each, where

TEXTS = st.lists(st.none() | st.text(max_size=3) | st.sampled_from(["a", "ab", "b"]), max_size=8)


def column(texts: list[str | None]) -> pl.DataFrame:
    return pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)})


def test_only_rows_that_meet_the_condition_are_given_to_the_change() -> None:
    seen: list[str] = []

    def noted(text: str) -> str:
        seen.append(text)
        return text.upper()

    rule = where(pl.col("text"), lambda text: text.str.contains("a", literal=True), each(noted))
    assert column(["a", "b", None, "", "ca"]).select(rule)["text"].to_list() == ["A", "b", None, "", "CA"]
    assert seen == ["a", "ca"]


def test_nothing_is_called_where_no_row_meets_the_condition() -> None:
    def never(text: str) -> str:
        raise AssertionError(text)

    rule = where(pl.col("text"), lambda text: text.str.contains("a", literal=True), each(never))
    cases: list[list[str | None]] = [[], [None], ["b", None]]
    for texts in cases:
        assert column(texts).select(rule)["text"].to_list() == texts


def test_the_column_keeps_its_name_and_the_given_one_its_values() -> None:
    frame = pl.DataFrame({"body": ["a", "b"]})
    rule = where(pl.col("body"), lambda text: text == "a", lambda text: text + "!")
    assert frame.select(rule).to_dict(as_series=False) == {"body": ["a!", "b"]}
    assert frame.lazy().select(rule).collect(engine="streaming").to_dict(as_series=False) == {"body": ["a!", "b"]}
    assert frame["body"].to_list() == ["a", "b"]


def test_gates_can_be_nested() -> None:
    rule = where(
        pl.col("text"),
        lambda text: text.str.contains("a", literal=True),
        lambda rows: where(rows, lambda text: text.str.contains("b", literal=True), each(str.upper)),
    )
    assert column(["a", "b", "ab", None]).select(rule)["text"].to_list() == ["a", "b", "AB", None]


@given(texts=TEXTS)
def test_gated_is_what_a_plain_loop_would_do(texts: list[str | None]) -> None:
    rule = where(pl.col("text"), lambda text: text.str.contains("a", literal=True), each(lambda text: text + "x"))
    expected = [text + "x" if text is not None and "a" in text else text for text in texts]
    assert column(texts).select(rule)["text"].to_list() == expected
