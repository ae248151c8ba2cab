# ruff: noqa: RUF001  # typographic characters are what is tested

import inspect

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.cleaning import normalisation_rules
from assay.cleaning.rule_chain import MAX_PASSES, public_functions
from assay.text.prefilter import Rule

RULES: dict[str, Rule] = public_functions(normalisation_rules)


def applied(rule: Rule, text: str) -> str:
    after = pl.DataFrame({"text": [text]}).select(rule(pl.col("text")))
    assert after.height == 1
    value = after.item()
    assert isinstance(value, str)
    return value


FIRES = [
    ("fold_compatibility", "ＦＲＥＥ ﬁve™ 10² ①", "FREE fiveTM 102 1"),
    ("fold_compatibility", "jane＠x.de", "jane@x.de"),
    ("straighten_quotes_and_dashes", "“it’s” „so“ ‘x’ don´t", "\"it's\" \"so\" 'x' don't"),
    ("straighten_quotes_and_dashes", "1990\u20131999 − 5 co\u2010op", "1990-1999 - 5 co-op"),
    ("straighten_quotes_and_dashes", "well\u2014yes…", "well--yes..."),
    ("straighten_quotes_and_dashes", "6′ 2″", "6' 2\""),
    ("tidy_white_space", "  a \t b  \r\n\r\n\r\n\r\n c\rd \n", "a b\n\nc\nd"),
    ("tidy_white_space", "\n\na\u00a0\u2003b\u2028c", "a b\nc"),
    ("collapse_white_space", " a\t b\r\n\n c\u00a0\u2003d ", "a b c d"),
    ("collapse_white_space", "a\nb", "a b"),
    ("lower_case", "Mail <EMAIL> or <URL_2>, ÉVA <b>", "mail <EMAIL> or <URL_2>, éva <b>"),
    ("lower_case", "Ein ÄRGER", "ein ärger"),
]

GOOD = (
    "I <3 you, a < b, C++, $5k or $2 million, 3.5/5, 10:30-11:45, Dr. No -- yes... <EMAIL_1> #fff 0xFFF3 "
    "£1m, 3,4 or 1,2,3; v1.2.3, 192.168.100.200, 415.555.0132, $$$, Ke$ha, www.aaa.com/a----b"
)
LEAVES = [
    ("fold_compatibility", "café “x” \u2013 ñ \U0001f469\u200d\U0001f467 € 中文"),
    ("straighten_quotes_and_dashes", "`code` « Bonjour » Home › More \u00a0 é → • ~ -- ... '\""),
    ("tidy_white_space", "one two\n\nthree\nfour"),
    ("collapse_white_space", "one two"),
    ("lower_case", "no capitals <EMAIL> <EMAIL_12>, é 中"),
]


@pytest.mark.parametrize(("rule", "before", "after"), FIRES)
def test_rule_fires(rule: str, before: str, after: str) -> None:
    assert applied(RULES[rule], before) == after
    assert applied(RULES[rule], after) == after


@pytest.mark.parametrize(("rule", "text"), LEAVES)
def test_rule_leaves_good_text_alone(rule: str, text: str) -> None:
    assert applied(RULES[rule], text) == text


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"lower_case"}))
def test_no_rule_but_lower_case_touches_what_looks_alike(rule: str) -> None:
    assert applied(RULES[rule], GOOD) == GOOD


def test_every_rule_is_tested_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == set(RULES)
    assert {rule for rule, *_ in LEAVES} == set(RULES)
    assert all(inspect.getdoc(getattr(normalisation_rules, rule)) for rule in RULES)


@pytest.mark.parametrize("rule", RULES)
def test_null_stays_null_among_others_and_no_rows_stay_none(rule: str) -> None:
    texts = pl.DataFrame({"text": [None, "PLS  \u201cso\u201d \ufb01 \u00e9", None, ""]})
    after = texts.select(RULES[rule](pl.col("text")))["text"]
    assert after.is_null().to_list() == [True, False, True, False]
    assert after[3] == ""
    assert texts.clear().select(RULES[rule](pl.col("text"))).height == 0


HOSTILE = {
    "one letter": "a" * 1_000_000,
    "white space": " \n\t" * 330_000,
    "no-break spaces": "\u00a0" * 500_000,
    "placeholders": "<EMAIL>" * 140_000,
    "open placeholders": "<A" * 500_000,
    "accents": "\u00e9" * 500_000,
    "ligature of eighteen letters": "\ufdfa" * 300_000,
    "combining marks": "a" + "\u0301" * 500_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(100)  # seconds; quadratic would be hours
def test_a_megabyte_in_one_cell_takes_a_moment(name: str) -> None:
    for rule in RULES.values():
        applied(rule, HOSTILE[name])


ALPHABETS = {
    "fold_compatibility": [*"\u00b2\ufb01\uff25\u0301\ufdfa\u00b4\u1100\u1161a", "\u1e9b\u0323"],
    "straighten_quotes_and_dashes": [*"\u201c\u2019\u2014\u2013\u2026\u2025\u00b4'-a"],
    "tidy_white_space": [" ", "\n", "\r", "\t", "\u00a0", "\u2028", "\x0b", "\x85", "a"],
    "collapse_white_space": [" ", "\n", "\r", "\t", "\u00a0", "\u2028", "\x0b", "\x1c", "a"],
    "lower_case": ["A", "<", ">", "EMAIL", "_1", "b", "\u0130", "\u03a3", "\u00df", "\u00c9", " "],
}


def texts(pieces: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces) | st.text(max_size=3), max_size=12).map("".join)


TEXTS = texts([piece for alphabet in ALPHABETS.values() for piece in alphabet])


@pytest.mark.parametrize("rule", RULES)
@given(data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_twice_is_once(rule: str, data: st.DataObject) -> None:
    once = applied(RULES[rule], data.draw(texts(ALPHABETS[rule])))
    assert applied(RULES[rule], once) == once


@given(text=TEXTS)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_all_rules_together_settle(text: str) -> None:
    for _ in range(MAX_PASSES):
        before = text
        for rule in RULES.values():
            text = applied(rule, text)
        if text == before:
            break
    else:
        pytest.fail(f"not settled: {text!r}")


@given(text=TEXTS)
@settings(max_examples=100, deadline=None)
def test_a_row_changes_the_same_alone_and_among_others(text: str) -> None:
    column = pl.DataFrame({"text": ["plain", text, None, "\u00e9"]})
    for rule in RULES.values():
        assert column.select(rule(pl.col("text")))["text"].to_list()[1] == applied(rule, text)
