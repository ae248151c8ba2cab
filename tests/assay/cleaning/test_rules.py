"""Each rule fires where it should, leaves good text alone, and leaves nulls and no rows as they are."""

import inspect
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from assay.cleaning import noise_rules, normalisation_rules
from assay.cleaning.rule_chain import public_functions, with_settings
from assay.text.prefilter import Rule

PATTERNS = {"patterns": ["(?i)buy now at \\w+!", "^ADVERT:.*$"]}
RULES: dict[str, Rule] = {
    name: with_settings(rule, PATTERNS) for name, rule in public_functions(noise_rules, normalisation_rules).items()
}
CASES: dict[str, dict[str, list[Any]]] = yaml.safe_load(Path(__file__).with_name("rules.yaml").read_text("utf-8"))


def apply(rule: str, text: str) -> str:
    after = pl.DataFrame({"text": [text]}).select(RULES[rule](pl.col("text"))).item()
    assert isinstance(after, str)
    return after


@pytest.mark.parametrize(
    ("rule", "before", "after"), [(rule, *case) for rule, cases in CASES["fires"].items() for case in cases]
)
def test_rule_fires(rule: str, before: str, after: str) -> None:
    assert apply(rule, before) == after
    assert apply(rule, after) == after


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in CASES["leaves"].items() for text in texts])
def test_rule_leaves_good_text_alone(rule: str, text: str) -> None:
    assert apply(rule, text) == text


def test_every_rule_is_tested_both_ways_and_explained() -> None:
    assert set(CASES["fires"]) == set(CASES["leaves"]) == set(RULES)
    assert all(map(inspect.getdoc, public_functions(noise_rules, normalisation_rules).values()))


@pytest.mark.parametrize("rule", RULES)
def test_null_stays_null_and_no_rows_stay_none(rule: str) -> None:
    texts = pl.DataFrame({"text": [None, "<b>PLS</b> \u201cso\u201d &amp;\n> \ufb01 \u00e9", None, ""]})
    after = texts.select(RULES[rule](pl.col("text")))["text"]
    assert after.is_null().to_list() == [True, False, True, False]
    assert after[3] == ""
    assert texts.clear().select(RULES[rule](pl.col("text"))).height == 0
