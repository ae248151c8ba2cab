"""Each rule comes to rest, and soon, whatever the text."""

import ftfy
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.cleaning import noise_rules
from assay.cleaning.rule_chain import public_functions, with_settings
from tests.assay.cleaning.test_rules import apply

RULES = list(public_functions(noise_rules))
PIECES = [
    *("&amp;", "&lt;", "<b>", ">", "\n", "\n> ", "\n-- \n", "Regards,\n", "On 3 March 2024 Jane wrote:\n"),
    *("ADVERT: x", " ", "From: a\n", "Date: b\n", "To: c\n", "Sent from my iPhone", "\u200b", "\x00", "\u2028"),
    *("Ã©", "â€™", "Â", "e\u0301"),
]


@pytest.mark.parametrize("rule", RULES)
@given(text=st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=10).map("".join))
@settings(deadline=None)
def test_it_comes_to_rest(rule: str, text: str) -> None:
    """One rule can uncover a layer for itself, as a signature above a signature; it has to come to an end with them."""
    seen = text
    for _ in range(10):
        seen = apply(rule, seen)
    assert apply(rule, seen) == seen


@given(
    st.lists(
        st.sampled_from([*PIECES, "Ã ", "Â ", "√©", "\x93", "ÐŸ", "ГўВЂВ", "¹", "é", "“"]) | st.text(max_size=3),
        max_size=8,
    )
)
def test_the_gate_lets_all_mojibake_through(pieces: list[str]) -> None:
    for line in "".join(pieces).split("\n"):
        assert apply("repair_mojibake", line) == ftfy.fix_encoding(line)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "piece",
    ["a", "\n", "Ã©", "\x00", "\u2028", "e\u0301", "\u200b", "> x\n", "-- \n", "Buy now at ", "<b>", "ØªÙ", "xÃ é"],
)
@pytest.mark.timeout(250)  # seconds; ftfy takes six to twelve for the worst, quadratic would be minutes
def test_a_megabyte_in_one_cell_ends_soon(rule: str, piece: str) -> None:
    apply(rule, piece * (1_000_000 // len(piece)))


@pytest.mark.timeout(100)  # seconds; backtracking would be hours
def test_a_pattern_that_backtracks_elsewhere_is_linear_here() -> None:
    rule = with_settings(noise_rules.remove_matches, {"patterns": ["(a+)+$"]})
    pl.DataFrame({"text": ["a" * 1_000_000 + "!"]}).select(rule(pl.col("text")))
