# ruff: noqa: RUF001  # typographic characters are what is tested

import inspect
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.cleaning import normalisation_rules
from assay.cleaning.rule_chain import MAX_PASSES, public_functions, with_settings
from assay.cleaning.word_table import read_word_table
from assay.text.prefilter import Rule

TABLE = read_word_table(Path("assay/cleaning/word_table.csv"))
SETTINGS = {"day_first": None, "dollar_is": "USD", "word_table": TABLE}
RULES: dict[str, Rule] = {
    name: with_settings(function, SETTINGS) for name, function in public_functions(normalisation_rules).items()
}


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
    ("unify_numbers", "1,234 1,234,567.50 (10,000mAh) $1,500, 12,000.", "1234 1234567.50 (10000mAh) $1500, 12000."),
    ("unify_numbers", "1.234,50 1.234.567 12.345.678,9 -1,000-2,000", "1234.50 1234567 12345678.9 -1000-2000"),
    ("unify_numbers", "1'234.50 1'234'567 1’234’567.8", "1234.50 1234567 1234567.8"),
    ("unify_numbers", "1\u00a0234 12\u202f345,67 1\u2009234\u2009567.8", "1234 12345.67 1234567.8"),
    ("unify_numbers", "601.234.567,80", "601234567.80"),
    ("unify_dates", "12 March 2024, 12th of March, 2024 and 1 Sept. 2024", "2024-03-12, 2024-03-12 and 2024-09-01"),
    ("unify_dates", "March 12th, 2024; may 1 2024; DEC. 31,2024", "2024-03-12; 2024-05-01; 2024-12-31"),
    ("unify_dates", "12.03.2024, 1.2.2024 and 12-Mar-2024.", "2024-03-12, 2024-02-01 and 2024-03-12."),
    ("unify_dates", "2024/03/12 10:00 (2024/3/1)", "2024-03-12 10:00 (2024-03-01)"),
    ("unify_dates", "13/02/2024 02/13/2024 12/12/2024 02-29-2024", "2024-02-13 2024-02-13 2024-12-12 2024-02-29"),
    ("unify_dates", "2.14.2012", "2012-02-14"),
    ("unify_currencies", "$ 12.50; US$12.50; USD 12.50; $12.50", "12.50 USD; 12.50 USD; 12.50 USD; 12.50 USD"),
    ("unify_currencies", "12,50 €, EUR 12.50; £12! 1£, 50 $ and", "12.50 EUR, 12.50 EUR; 12 GBP! 1 GBP, 50 USD and"),
    ("unify_currencies", "€1.234,50 (₹1,234) A$5; R$ 10;", "1234.50 EUR (1234 INR) 5 AUD; 10 BRL;"),
    ("unify_currencies", "CHF 1'234.50", "1234.50 CHF"),
    ("unify_currencies", "$12 USD, $12 CAD, £12 GBP, $20/month, -$5", "12 USD, 12 CAD, 12 GBP, 20 USD/month, -5 USD"),
    ("unify_currencies", "$ 49.99 - $ 10 and $20-$30", "49.99 USD - 10 USD and 20 USD-30 USD"),
    ("expand_words", "Pls send w/o my acct, thx.", "Please send without my account, thanks."),
    ("expand_words", "I recieved it; RECIEVED; Definately, alot", "I received it; RECEIVED; Definitely, a lot"),
    ("expand_words", "(w/ care)", "(with care)"),
    ("expand_words", "BTW, reply ASAP. Btw: dont", "by the way, reply as soon as possible. By the way: don't"),
    ("expand_words", "...thx--bye 'thier' acct's", "...thanks--bye 'their' account's"),
    ("shorten_repeated_punctuation", "no!!!!!! why???? hm...... -----", "no!!! why??? hm... ---"),
    ("shorten_repeated_punctuation", "see www.a.de/x----y!!!! …………", "see www.a.de/x----y!!! ………"),
    ("shorten_elongations", "soooo COOLLLL, stoppped #yesss", "soo COOLL, stopped #yess"),
    ("shorten_elongations", "ééééh очееень aaaaaa", "ééh очеень aa"),
    ("tidy_white_space", "  a \t b  \r\n\r\n\r\n\r\n c\rd \n", "a b\n\nc\nd"),
    ("tidy_white_space", "\n\na\u00a0\u2003b\u2028c", "a b\nc"),
    ("collapse_white_space", " a\t b\r\n\n c\u00a0\u2003d ", "a b c d"),
    ("collapse_white_space", "a\nb", "a b"),
    ("soften_shouting", "WHERE IS MY MONEY? <EMAIL_1> TELL @Bob NOW!", "where is my money? <EMAIL_1> tell @Bob now!"),
    ("soften_shouting", "ΑΒ ΓΔ ΕΖ ΗΘ ΙΚ!", "αβ γδ εζ ηθ ικ!"),
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
    ("unify_numbers", "192.168.100.200 10.12.100 v1.2.3 1.234 0,123 3,4 1,2,3 12,50 12,345,6 1,00,000 1,,234"),
    ("unify_numbers", "601.234.567 12.345.678-9 6'200 1 234 567 415.555.0132"),
    ("unify_numbers", "x1,234 1.5,200 1,234.5.6 2024.03.12 1234,567"),
    ("unify_numbers", "601\u00a0234\u00a0567 a/1.234.567 +1.234.567 1.234.567a 0.123.456"),
    ("unify_dates", "03/04/2024 03-04-2024 31.02.2024 32 March 2024 Feb 30, 2024 12/13/14 2024.03.12 12 March"),
    ("unify_dates", "/2024/03/12/ a/2024/03/12 report_12.03.2024.pdf 12.03.2024.pdf 12/13/2024-12/14/2024 1.2.20245"),
    ("unify_dates", "2024-03-12 2024-03-12T10:00 I may 12 20 march to 12, 2024/2025 1.2.3 3/4 10.12.2024.1"),
    ("unify_currencies", "$$$ Ke$ha A$AP $5k $5 million £ £1 ¥1000 € 12,- 5$6 $12 EUR x$5 $1.2.3.4 50p 9 pounds"),
    ("unify_currencies", "GBP/USD 1.25, 2 USD5x, 4\u00a0€2, USD, EUR5x, ALL 5, TRY 2, usd 12, 12.50 USD, 0 EUR"),
    ("expand_words", "#thx @pls pls@x.com thx.com /acct/qty <ACCT> acct=5 re-recieve done.pls thx/pls snake_acct"),
    ("expand_words", "U of M, the AVG, a R.N., want, appetite, calendar, épls, wké, w, o, receive, and/or"),
    ("shorten_repeated_punctuation", "wait... no!!! C++ -- ?!?!?! *** a --- b http://x.y/a----b ::: …"),
    ("shorten_elongations", "AAA batteries, AAAA, www.xxx.com, XXXIII, viii, hmm, too"),
    ("shorten_elongations", "#fff, #AAABBB, 0xFFFA, 111 and a_bbb"),
    ("shorten_elongations", "<EMAILLL> jooohn@x.com @soooo http://x.y/ooo 哈哈哈 zzz mmmm 人人人"),
    ("tidy_white_space", "one two\n\nthree\nfour"),
    ("collapse_white_space", "one two"),
    ("soften_shouting", "NASA and ESA use USB, HDMI, VGA and DVI. <EMAIL> <URL> <URL> <PHONE> <NAME> OK"),
    ("soften_shouting", "NO WAY, NEVER"),
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


@pytest.mark.parametrize(
    ("day_first", "after"),
    [(True, "2024-04-03 2024-04-03 2024-02-13 31/02/2024"), (False, "2024-03-04 2024-03-04 2024-02-13 31/02/2024")],
)
def test_ambiguous_dates_are_read_as_the_setting_says(day_first: bool, after: str) -> None:
    rule = partial(normalisation_rules.unify_dates, day_first=day_first)
    assert applied(rule, "03/04/2024 03-04-2024 02/13/2024 31/02/2024") == after


def test_a_bare_dollar_is_what_the_setting_says() -> None:
    text = "$12 and US$12 and $12 CAD"
    left = partial(normalisation_rules.unify_currencies, dollar_is=None)
    canadian = partial(normalisation_rules.unify_currencies, dollar_is="CAD")
    assert applied(left, text) == "$12 and 12 USD and 12 CAD"
    assert applied(canadian, text) == "12 CAD and 12 USD and 12 CAD"


def test_words_of_the_users_own_table() -> None:
    words = {"stra\u00dfe": "Stra\u00dfe", "r&d": "research", "w/": "mit"}
    rule = partial(normalisation_rules.expand_words, word_table=words)
    after = "Mit RESEARCH; die STRASSE, w/o, r&d&x, zur Stra\u00dfe"
    assert applied(rule, "W/ R&D; die STRASSE, w/o, r&d&x, zur stra\u00dfe") == after
    nothing = partial(normalisation_rules.expand_words, word_table={})
    assert applied(nothing, "pls") == "pls"


@pytest.mark.parametrize("rule", RULES)
def test_null_stays_null_among_others_and_no_rows_stay_none(rule: str) -> None:
    texts = pl.DataFrame({"text": [None, "PLS  \u201csoooo\u201d!!!! $1,234 12.03.2024 \u00e9\u00e9\u00e9", None, ""]})
    after = texts.select(RULES[rule](pl.col("text")))["text"]
    assert after.is_null().to_list() == [True, False, True, False]
    assert after[3] == ""
    assert texts.clear().select(RULES[rule](pl.col("text"))).height == 0


HOSTILE = {
    "one letter": "a" * 1_000_000,
    "one mark": "." * 1_000_000,
    "alternating marks": "!-" * 500_000,
    "digits": "1" * 1_000_000,
    "grouped digits": "1,234" + ",234" * 250_000 + ",",
    "grouped digits without an end": "1.234" * 200_000,
    "many numbers": "1,234 " * 160_000,
    "dollars": "$" * 1_000_000,
    "many amounts": "$5 \u20ac6 " * 130_000,
    "amount of many parts": "$1" + ".1" * 500_000 + "x",
    "almost dates": "12 March " * 110_000 + "2024",
    "dates without a space": "12.03.2024." * 90_000,
    "addresses": "www." * 250_000,
    "address and marks": "http://" + "!" * 1_000_000,
    "mentions": "@aaa" * 250_000,
    "colours": "#aaa." * 200_000,
    "white space": " \n\t" * 330_000,
    "no-break spaces": "\u00a0" * 500_000,
    "elongations": "sooo " * 200_000,
    "elongations in one piece": "sooo." * 200_000,
    "shouting": "SHOUT " * 160_000,
    "half-shouted": "AB" * 500_000,
    "placeholders": "<EMAIL>" * 140_000,
    "open placeholders": "<A" * 500_000,
    "words": "pls " * 250_000,
    "words with slashes": "pls/" * 250_000,
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


NUMERIC = ["1", "23", "234", ",", ".", "-", "/", " ", "\u00a0", "\u2009", "'", "a"]
ALPHABETS = {
    "fold_compatibility": [*"\u00b2\ufb01\uff25\u0301\ufdfa\u00b4\u1100\u1161a", "\u1e9b\u0323"],
    "straighten_quotes_and_dashes": [*"\u201c\u2019\u2014\u2013\u2026\u2025\u00b4'-a"],
    "unify_numbers": NUMERIC,
    "unify_dates": [*NUMERIC, "2024", "12", "31", "March", " May ", "Feb.", "th", " of ", ", "],
    "unify_currencies": [*NUMERIC, "$", "US$", "A$", "\u20ac", "\u00a3", "USD", "EUR", "k", " million", "("],
    "expand_words": [*"/-.@#=<>'& ", "pls", "PLS", "Pls", "w/", "w/o", "o", "b/c", "BTW", "s", "recieve", "\u00e9"],
    "shorten_repeated_punctuation": ["!", "!!!!", "....", "\u2026", "www.", "http://", "a", " ", "/", "-", "_"],
    "shorten_elongations": [*"aAoivx #@<>1_.", "aaa", "OO", "ii", "\u00e9\u00e9", "www."],
    "tidy_white_space": [" ", "\n", "\r", "\t", "\u00a0", "\u2028", "\x0b", "\x85", "a"],
    "collapse_white_space": [" ", "\n", "\r", "\t", "\u00a0", "\u2028", "\x0b", "\x1c", "a"],
    "soften_shouting": ["AB ", "CD ", "EFG ", "x", "<EMAIL> ", "@B ", "\u00c0\u00c8 ", "\u0130", "\u00df", "\u03a3"],
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
