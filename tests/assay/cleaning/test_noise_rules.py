"""Each rule fires where it should, leaves good text alone, is stable, and has an end."""
# ruff: noqa: RUF001  # texts in a wrong encoding are what is tested

import ftfy
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.cleaning import noise_rules
from assay.cleaning.rule_chain import public_functions, with_settings

RULES = {
    name: with_settings(rule, {"patterns": ["(?i)buy now at \\w+!", "^ADVERT:.*$"]})
    for name, rule in public_functions(noise_rules).items()
}


def apply(rule: str, text: str) -> str:
    after = pl.DataFrame({"text": [text]}).select(RULES[rule](pl.col("text"))).item()
    assert isinstance(after, str)
    return after


FIRES = [
    ("repair_mojibake", "Iâ€™m at the cafÃ©", "I’m at the café"),
    ("repair_mojibake", "ðŸ˜€ 5 â‚¬, Â£5", "😀 5 €, £5"),
    ("repair_mojibake", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "привет"),
    ("repair_mojibake", "Ã  bientÃ´t, voilÃ  tout", "à bientôt, voilà tout"),
    ("repair_mojibake", "\x93yes\x94 it\x92s\x85", "“yes” it’s…"),
    ("repair_mojibake", "It‚Äôs a caf√©", "It’s a café"),
    ("repair_mojibake", "Iâ\x80\x99m Ãƒ\u00a9lite", "I’m élite"),
    ("repair_mojibake", "good “quotes” and 中文\nbad cafÃ©", "good “quotes” and 中文\nbad café"),
    ("html_to_text", "you &amp; <b>me</b> &lt;3", "you & me <3"),
    ("html_to_text", "one<br>two", "one\ntwo"),
    ("repair_unicode", "cafe\u0301", "café"),
    ("repair_unicode", "\ufefffree\u200bze so\u00adft", "freeze soft"),
    ("repair_unicode", "a\ufffeb\uffffc\ufdd0d\U0001ffffe\U0010fffff", "abcdef"),
    ("remove_control_characters", "a\u200eb\u200fc\u061cd", "abcd"),
    ("remove_control_characters", "a\x00b\x07c\x7fd\x9b", "abcd"),
    ("remove_control_characters", "a\x0bb\x0cc\x85d", "a b c d"),
    ("remove_control_characters", "a\u202eb\u2066c", "abc"),
    ("remove_control_characters", "one\u2028two\u2029three", "one\ntwo\nthree"),
    ("remove_quoted_replies", "Yes.\n> Did it work?", "Yes."),
    ("remove_signatures", "It works.\n-- \nJane", "It works."),
    ("remove_matches", "good phone. Buy now at Shop!", "good phone. "),
]

LEAVES = [
    ("repair_mojibake", "São Paulo, MÜNCHEN, naïve façade — “ok”, Tiếng Việt, Привет, Ünal, £5, Ç“x”, 😀, voilà"),
    (
        "repair_mojibake",
        "A IRMÃ DE JOÃO COMEU PÃO E MAÇÃ — «à la carte» Čeština, Łódź, Ελλάδα, İstanbul, שלום, سلام, ไทย",
    ),
    ("repair_mojibake", "Tôi là người Việt Nam. Đã “xong”! 5 °C ±2 µm ½ kg, 10 € • ©2020 Foo™ L’Été"),
    ("html_to_text", "I <3 you, a < b, b > c, List<int> <EMAIL> AT&T ?a=1&copy=2"),
    ("repair_unicode", "👩\u200d👩\u200d👧 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 é \ufffd ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
    ("remove_control_characters", "a\tb\nc\r\nd é ñ £ \u00a0"),
    ("remove_quoted_replies", "> 5 stars for this\tphone, a > b"),
    ("remove_quoted_replies", "3 > 2\nand b > a"),
    ("remove_signatures", "Thanks, Jane -- best regards"),
    (
        "remove_signatures",
        "Thanks for nothing\nit broke after a day and the shop was of no help at all, so never again, dear all",
    ),
    ("remove_matches", "they said: buy now at once"),
]


@pytest.mark.parametrize(("rule", "before", "after"), FIRES)
def test_rule_fires(rule: str, before: str, after: str) -> None:
    assert apply(rule, before) == after


@pytest.mark.parametrize(("rule", "text"), LEAVES)
def test_rule_leaves_good_text_alone(rule: str, text: str) -> None:
    assert apply(rule, text) == text


def test_every_rule_is_tested_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == set(RULES)
    assert {rule for rule, *_ in LEAVES} == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_null_stays_null_and_no_rows_stay_none(rule: str) -> None:
    texts = pl.DataFrame({"text": [None, "<b>x</b> &amp;\n> y", None, ""]})
    after = texts.select(RULES[rule](pl.col("text")))["text"]
    assert after.is_null().to_list() == [True, False, True, False]
    assert after[3] == ""
    assert texts.clear().select(RULES[rule](pl.col("text"))).height == 0


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
