import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.lib.text_rules import RULES


def apply(rule: str, text: str) -> str:
    after = pl.DataFrame({"text": [text]}).select(RULES[rule](pl.col("text"))).item()
    assert isinstance(after, str)
    return after


FIRES = [
    ("repair_unicode", "cafe\u0301", "café"),
    ("repair_unicode", "\ufefffree\u200bze so\u00adft", "freeze soft"),
    ("html_to_text", "you &amp; me &lt;3", "you & me <3"),
    ("html_to_text", "twice &amp;amp; &amp;lt;3", "twice & <3"),
    ("html_to_text", "&#39;it&#x27;s&quot; &eacute;&nbsp;x", "'it's\" é\u00a0x"),
    ("html_to_text", "e&#769;", "é"),
    ("html_to_text", "one<br/>two<BR>three", "one two three"),
    ("html_to_text", "<p>one</p><p class='x'>two</p>", " one  two "),
    ("html_to_text", 'a <b>bold</b> <a href="http://x.y/?a>b">li<i>n</i>k</a>', "a bold link"),
    ("html_to_text", "&lt;b&gt;bold&lt;/b&gt;", "bold"),
    ("html_to_text", "x<script>if (a < b) run()</script>y<!-- note -->z<style>p {}</style>", "x y z "),
    ("html_to_text", "<input disabled value=3>", ""),
    ("remove_control_characters", "a\x00b\x07c\x7fd\x9b", "abcd"),
    ("remove_control_characters", "a\x0bb\x0cc\x85d", "a b c d"),
    ("remove_control_characters", "a\u202eb\u2066c", "abc"),
    ("redact_email", "write to jane.doe+x@mail.example.co.uk, please", "write to <EMAIL>, please"),
    ("redact_email", "(customerservice@apexdigital.com),", "(<EMAIL>),"),
    ("redact_email", "mail jörg@müller.de.", "mail <EMAIL>."),
    ("redact_url", "see http://url_removed and https://a.b/c?d=e#f.", "see <URL> and <URL>."),
    ("redact_url", "(www.example.com), HTTP://X.Y!", "(<URL>), <URL>!"),
    ("redact_url", "bit.ly/re5iZP pic.twitter.com/ZPXF <--", "<URL> <URL> <--"),
    ("redact_phone", "call me 423 521 0367", "call me <PHONE>"),
    ("redact_phone", "at (212) 566-8082 or 916-923-5646.", "at <PHONE> or <PHONE>."),
    ("redact_phone", "415.555.0132, 1-800-555-0132, 1-800-FLOWERS", "<PHONE>, <PHONE>, <PHONE>"),
    ("redact_phone", "+44 20 7946 0958 / +1 (415) 555-0132 / +4915112345678", "<PHONE> / <PHONE> / <PHONE>"),
    ("redact_phone", "020 7946 0958; 030/1234567; 01632 960123", "<PHONE>; <PHONE>; <PHONE>"),
    ("redact_phone", "415-555-0132 415-555-0133", "<PHONE> <PHONE>"),
    ("collapse_white_space", " a\t b\r\n\n c\u00a0\u2003d ", "a b c d"),
]

LEAVES = [
    ("repair_unicode", "👩\u200d👩\u200d👧 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
    ("html_to_text", "I <3 you, a < b, b > c, x <- y, <-- wow, >:[ >< <33"),
    ("html_to_text", "<EMAIL> <URL> <PHONE> <user> <anonymous> <3>"),
    ("html_to_text", "if a <b and c> d then"),
    ("html_to_text", "wow <!!! what <? oh </3"),
    ("html_to_text", "AT&T R&D ?a=1&copy=2 &amp &unknownthing; &;"),
    ("html_to_text", "a <b unfinished"),
    ("remove_control_characters", "a\tb\nc\r\nd é ñ £"),
    ("redact_email", "@anonymous hi me@home a@b 5 @ 3 dollars user@localhost RT @a.b"),
    ("redact_url", "I like amazon.com and Node.js, either/or, e.g./i.e. 3.5/5 and w/o... http: ..."),
    ("redact_phone", "ad-2500 and ad-2600, $1,299.99, 1999-2004, 2004-01-13, 01-02-2004, 12/31/1999"),
    ("redact_phone", "score 21-14 17-10, 10:30-11:45, 1024x768, 300 400 500, isbn 0-306-40615-2"),
    ("redact_phone", "$415 555 0132 #415-555-0132 model x415-555-0132 4155550132 566-7747 192.168.100.2000"),
    ("redact_phone", "card 4111-1111-1111-1111 and 1.415.555 and 2,000 000 0000"),
    ("collapse_white_space", "one two"),
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
def test_rule_is_named_as_its_function_and_says_what_it_does(rule: str) -> None:
    assert RULES[rule].__name__ == rule
    assert RULES[rule].__doc__


@pytest.mark.parametrize("rule", RULES)
def test_null_stays_null_among_others(rule: str) -> None:
    texts = pl.DataFrame({"text": [None, "<b>x</b> &amp;", None, ""]})
    after = texts.select(RULES[rule](pl.col("text")))["text"]
    assert after.is_null().to_list() == [True, False, True, False]
    assert after[3] == ""


@pytest.mark.parametrize("rule", RULES)
def test_no_rows(rule: str) -> None:
    assert pl.DataFrame({"text": []}, schema={"text": pl.String}).select(RULES[rule](pl.col("text"))).height == 0


PIECES = [
    "&amp;",
    "&lt;",
    "&#38;",
    "<b>",
    "<br",
    ">",
    "<!--",
    "-->",
    "a@b.cd",
    "http://",
    "415-555-0132",
    " ",
    "\u200b",
]


@pytest.mark.parametrize("rule", RULES)
@given(text=st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=8).map("".join))
def test_twice_is_once(rule: str, text: str) -> None:
    once = apply(rule, text)
    assert apply(rule, once) == once
