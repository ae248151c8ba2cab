import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.cleaning.html_text import MARKUP, MAX_DEPTH, MAX_PAGE_CHARACTERS, MAX_ROUNDS, html_text, html_texts

MARKED_UP = [
    ("you &amp; me &lt;3", "you & me <3"),
    ("twice &amp;amp; &amp;lt;3", "twice & <3"),
    ("&#39;it&#x27;s&quot; &eacute;&nbsp;x", "'it's\" é\u00a0x"),
    ("one<br/>two<BR>three", "one\ntwo\nthree"),
    ("<p>one</p>\n<p class='x'>two</p>", "one\ntwo"),
    ("<b>w</b>ord, <i>one</i>", "word, one"),
    ('a <b>bold</b> <a href="http://x.y/?a>b">li<i>n</i>k</a>', "a bold link"),
    ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
    ("x<script>if (a < b) run('</b>')</script>y<!-- note -->z<style>p {}</style>", "xyz"),
    ("<title>no</title><h1>Head</h1>text", "Head\ntext"),
    ("<input disabled value=3>", ""),
    ("<ul><li>one<li>two</ul>", "one\ntwo"),
    ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
    ("<![CDATA[ kept ]]>", " kept "),
    ("<!DOCTYPE html><html><head></head><body>text</body></html>", "text"),
    ("<script>never ends", "never ends"),
    ("  lead <b>x</b> ", "  lead x "),
    ("a < b <i>and</i> c > d & e &copy=1", "a < b and c > d & e &copy=1"),
    ("<b>so <3 it</b>", "so <3 it"),
    ("<<b>b>twice", "twice"),
    ("a &#038; b &AMP;amp;amp; c", "a & b & c"),
    ("&" + "amp;" * 1000 + "lt;3", "<3"),
    ("<o:p></o:p><v:shape id='x'/>x<?xml version='1.0'?><![if !mso]>y<![endif]>", "xy"),
    ("<!--[if mso]>hidden<![endif]-->y", "y"),
    ("a<svg viewBox='0 0 1 1'><path d='M0'/><text>no</text></svg>b", "ab"),
    ("<script src='x'/>seen</script>", "seen"),
    ("<time datetime='1'>noon</time> <label>name</label>", "noon name"),
    ("<pre>a  b\n  c</pre>", "a  b\n  c"),
    ("<p> one </p> \r\n <p>&nbsp;two</p>", "one\n\u00a0two"),
    ("<img src='x' alt='no'>pic", "pic"),
]

PLAIN = [
    "I <3 you, a < b, b > c, x <- y, <-- wow, >:[ >< <33",
    "<EMAIL> <URL> <PHONE> <CARD_1> <user> <anonymous> <3>",
    "if a <b and c> d then",
    "List<int> Map<String, T> vector<vector<int>>",
    "wow <!!! what <? oh </3",
    "<!-- never ends",
    "AT&T R&D ?a=1&copy=2 &amp &unknownthing; &;",
    "&timestamp; &notit; &copyright; are names of no character",
    "at <time> on <DATE>, <address>; see <link>, <title>",
    "C++ a->b x<y>z 1<2>0 <a.b@c.de> <http://x.y/z> <-> <=> <br",
    "a <b unfinished",
    "line\r\nends\tand  spaces\n",
    "",
]


@pytest.mark.parametrize(("before", "after"), MARKED_UP)
def test_what_a_reader_would_see(before: str, after: str) -> None:
    assert html_text(before) == after


@pytest.mark.parametrize("text", PLAIN)
def test_text_without_markup_stays(text: str) -> None:
    assert html_text(text) == text


def test_many_texts_are_each_what_they_are_alone() -> None:
    texts = [before for before, _ in MARKED_UP] + PLAIN + ["<p>" + "x" * MAX_PAGE_CHARACTERS, "<div><b><table>open", ""]
    several = [*texts, None, *reversed(texts), *texts]
    assert html_texts(pl.Series("text", several)).to_list() == [
        None if text is None else html_text(text) for text in several
    ]
    assert html_texts(pl.Series("text", [], dtype=pl.String)).to_list() == []


def test_a_deep_text_has_the_same_words_without_the_parser() -> None:
    inside = "x<script>no<!-- </script><p>y</p><td>z<!-- no <b> -->"
    shallow, deep = ("<div>" * depth + inside for depth in (10, MAX_DEPTH + 1))
    assert html_text(deep).split() == html_text(shallow).split() == ["x", "y", "z"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "<div>" * 10_000 + "x" + "</div>" * 10_000,
        "<div>" * 150_000,
        "<table><tr><td>" * 60_000,
        "<" * 1_000_000,
        "<b " * 300_000,
        "<<b>b>" * 150_000,
        "<" * 200_000 + "b>" * 200_000,
        '<a href="' + "x" * 1_000_000,
        "<a " + 'x="y" ' * 150_000 + ">",
        "<script>" * 120_000,
        "<script>" * 60_000 + "</script>" * 60_000,
        "<!--" * 250_000,
        "<a b='\"" * 100_000,
        ("<a" + " " * 1000) * 1000,
        "&" + "amp;" * 250_000 + "lt;",
        "&" * 1_000_000,
        "<a " + " ".join(f"x{number}=1" for number in range(100_000)) + ">",
        " " * 1_000_000 + "x<p>",
        "<p>" + "\n \t" * 330_000 + "x",
        "<table>" + "x<tr>" * 9_000,
        "<select>" + "<option>x" * 9_000,
        "<b><div>" * 4_000 + "</b>" * 4_000,
        "<div><b><i><u><s><em><code></div>x" * 2_000,
        "<svg>" * 9_000 + "</svg>",
    ],
    ids=range(24),
)
@pytest.mark.timeout(100)  # seconds; about one at most, quadratic would be minutes
def test_hostile_markup_ends_soon(text: str) -> None:
    html_text(text)


PIECES = [
    *("&amp;", "&lt;", "&#38;", "gt;", "<b>", "</b>", "<br", "<p>", ">", "<!--", "-->", "<script>"),
    *("</script>", "x"),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join))
def test_what_it_gives_has_no_more_markup(text: str) -> None:
    plain = text
    # Each round of a pass can uncover one more layer, so a few passes settle what so few pieces can nest.
    for _ in range(8 // MAX_ROUNDS + 2):
        plain = html_text(plain)
    assert html_text(plain) == plain


ODD_PIECES = [
    *("<?xml ?>", "<![endif]", "<!doctype", "<o:p", "<![CDATA[", "&#38;", "&Eacute;", "<td", "</P", "/"),
    *("\n", "a='b'"),
]


@given(st.lists(st.sampled_from(PIECES + ODD_PIECES) | st.text(max_size=2), max_size=6).map("".join))
def test_the_gate_lets_through_all_that_would_change(text: str) -> None:
    if html_text(text) != text:
        assert pl.select(pl.lit(text).str.contains(MARKUP)).item()
