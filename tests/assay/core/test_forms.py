"""Forms of one value are found, whatever changes were made to it; values that differ in more are left alone."""

import unicodedata
from collections.abc import Callable
from functools import partial

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.forms import find_other_forms, fold_forms, show_form

CHANGES: list[Callable[[str], str]] = [
    *(str.upper, str.lower, str.title),
    *(partial(unicodedata.normalize, form) for form in ("NFC", "NFD", "NFKC")),
    lambda text: text.replace(" ", "\u00a0"),
    lambda text: text.replace(" ", "  "),
    lambda text: f" {text}\t",
    lambda text: "\u200b".join(text),
    lambda text: f"\ufeff{text}\u00ad",
    lambda text: f"00{text}" if text.isdigit() and text.isascii() else text,
    lambda text: f"{text}.0" if text.isdigit() and text.isascii() else text,
]
WORDS = st.text(st.characters(categories=["L", "Nd"], include_characters="_-.:/ "), min_size=1, max_size=12)
VALUES = st.one_of(WORDS, st.integers(0, 10**12).map(str))


def fold(*texts: str) -> list[str]:
    return fold_forms(pl.Series(texts, dtype=pl.String)).to_list()


@settings(max_examples=100, deadline=None)
@given(VALUES, st.lists(st.sampled_from(CHANGES), max_size=4))
def test_forms_of_one_value_are_found(text: str, changes: list[Callable[[str], str]]) -> None:
    form = text
    for change in changes:
        form = change(form)
    one, other = fold(text, form)
    assert one == other
    assert fold(one) == [one]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abc123_/", min_size=1, max_size=4), min_size=2, max_size=8, unique=True))
def test_values_that_differ_in_more_are_left_alone(texts: list[str]) -> None:
    distinct = [text for text in texts if not text.startswith("0")]
    assert len(set(fold(*distinct))) == len(distinct)


TWO = (
    "1.10=1.1|1_1=11|1=-1|10=1|a b=ab|A1=A01|1.5=1.50|10:05=10:5|r\u00e9sum\u00e9=resume|\u0431=b|card_fee=card fee|+=-"
)
ONE = "1=\uff11|+1=1.0|0=000|Ma\u00dfe=MASSE|\u2764\ufe0f=\u2764|-1=-01.|tweets:7=tweets:007|\u1112\u1161\u11ab=\ud55c"
ONE += '|follow-up=follow\u2013up|a-b=a\u2011b|it\'s=it\u2019s|\u201ca\u201d="a"|-1=\u22121'


@pytest.mark.parametrize(("pairs", "values"), [(TWO, 2), (ONE, 1), ("faq:1#unanswerable=FAQ:1.0#unanswerable", 1)])
def test_values_that_are_two_or_one(pairs: str, values: int) -> None:
    assert [pair for pair in pairs.split("|") if len(set(fold(*pair.split("=")))) != values] == []


def test_other_forms_are_those_of_values_that_are_not_known() -> None:
    found = find_other_forms(["a:1", "a:01", "b:1", "c"], ["a:1", "a:2", "C\u200b"])
    assert found == {
        "a:01": "there is no 'a:01', but 'a:1', which differs in form alone: write it so",
        "c": r"there is no 'c', but 'C\u200b', which differs in form alone: write it so",
    }
    assert show_form("\u597d x") == "'\u597d x'"
