import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.cleaning import normalisation_rules
from assay.cleaning.rule_chain import MAX_PASSES, public_functions
from assay.text.prefilter import Rule
from tests.assay.cleaning.test_rules import apply

RULES: dict[str, Rule] = public_functions(normalisation_rules)


GOOD = (
    "I <3 you, a < b, C++, $5k or $2 million, 3.5/5, 10:30-11:45, Dr. No -- yes... <EMAIL_1> #fff 0xFFF3 "
    "£1m, 3,4 or 1,2,3; v1.2.3, 192.168.100.200, 415.555.0132, $$$, Ke$ha, www.aaa.com/a----b"
)


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"lower_case"}))
def test_no_rule_but_lower_case_touches_what_looks_alike(rule: str) -> None:
    assert apply(rule, GOOD) == GOOD


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
    for rule in RULES:
        apply(rule, HOSTILE[name])


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
    once = apply(rule, data.draw(texts(ALPHABETS[rule])))
    assert apply(rule, once) == once


@given(text=TEXTS)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_all_rules_together_settle(text: str) -> None:
    for _ in range(MAX_PASSES):
        before = text
        for rule in RULES:
            text = apply(rule, text)
        if text == before:
            break
    else:
        pytest.fail(f"not settled: {text!r}")


@given(text=TEXTS)
@settings(max_examples=100, deadline=None)
def test_a_row_changes_the_same_alone_and_among_others(text: str) -> None:
    column = pl.DataFrame({"text": ["plain", text, None, "\u00e9"]})
    for name, rule in RULES.items():
        assert column.select(rule(pl.col("text")))["text"].to_list()[1] == apply(name, text)
