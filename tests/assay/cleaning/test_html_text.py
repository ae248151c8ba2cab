from html import escape

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from assay.cleaning.html_text import MARKUP, MAX_HIDDEN, html_text

MARKED_UP = [
    ("you &amp; me &lt;3", "you & me <3"),
    ("twice &amp;amp; &amp;lt;3", "twice & <3"),
    ("&#39;it&#x27;s&quot; &eacute;&nbsp;x", "'it's\" é\u00a0x"),
    ("one<br/>two<BR>three", "one\ntwo\nthree"),
    ("<p>one</p>\n<p class='x'>two</p>", "one\ntwo"),
    ("<b>w</b>ord, <i>one</i>", "word, one"),
    ('a <b>bold</b> <a href="http://x.y/?a>b">li<i>n</i>k</a>', "a bold link"),
    ("&lt;b&gt;bold&lt;/b&gt;", "<b>bold</b>"),
    ("x<script>if (a < b) run('</b>')</script>y<!-- note -->z<style>p {}</style>", "xyz"),
    ("<title>Page</title><h1>Head</h1>text", "Page\nHead\ntext"),
    ("<input disabled value=3>", ""),
    ("<ul><li>one<li>two</ul>", "one\ntwo"),
    ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
    ("<![CDATA[ kept ]]>", " kept "),
    ("<!DOCTYPE html><html><head></head><body>text</body></html>", "text"),
    ("<script>never ends", "never ends"),
    ("  lead <b>x</b> ", "  lead x "),
    ("a < b <i>and</i> c > d & e &copy=1", "a < b and c > d & e &copy=1"),
    ("<b>so <3 it</b>", "so <3 it"),
    ("<<b>b>twice</b>", "<b>twice"),
    ("a &#038; b &AMP;amp;amp; c", "a & b & c"),
    ("&" + "amp;" * 1000 + "lt;3", "<3"),
    ("<o:p></o:p><v:shape id='x'/>x<?xml version='1.0'?><![if !mso]>y<![endif]>", "xy"),
    ("<!--[if mso]>hidden<![endif]-->y", "y"),
    ("a<svg viewBox='0 0 1 1'><path d='M0'/><text>no</text></svg>b", "ab"),
    ("<script src='x'/>seen</script>", "seen"),
    ("<time datetime='1'>noon</time> <label>name</label>", "noon name"),
    ("<pre>a  b\n  c</pre>", "a  b\n  c"),
    ("<p> one </p> \r\n <p>&nbsp;two</p>", "one\n\u00a0two"),
    # Markup that a page shows, and code.
    (
        '<p>Paste:</p><pre><code>&lt;script src="w"&gt;&lt;/script&gt;\n&lt;b&gt;x&lt;/b&gt;</code></pre><p>Save.</p>',
        'Paste:\n<script src="w"></script>\n<b>x</b>\nSave.',
    ),
    ("<p>Add <code>&lt;title&gt;</code> to <code>&lt;head&gt;</code>.</p>", "Add <title> to <head>."),
    ("Why does my &lt;table&gt; inside &lt;p&gt; break &lt;br&gt;?", "Why does my <table> inside <p> break <br>?"),
    ("<p>write &amp;lt;div&amp;gt; to show the tag</p>", "write &lt;div&gt; to show the tag"),
    ("<pre>if (a &lt; b &amp;&amp; c)\n  x = &quot;&amp;amp;&quot;</pre>", 'if (a < b && c)\n  x = "&amp;"'),
    ("&lt;!-- note --&gt; &lt;br/&gt;", "<!-- note --> <br/>"),
    ("<b>Use</b> `<b>` and ```\n<p>\n```", "Use `<b>` and ```\n<p>\n```"),
    ("<description><![CDATA[<p>My order is late</p>]]></description>", "My order is late"),
    ("<textarea>unclosed <b>x</b>", "unclosed x"),
    ("<div><p>cut off <b>wor", "cut off wor"),
    ("one <br> two <p> three", "one\ntwo\nthree"),
    # What is raised, and what is not.
    ("10<sup>3</sup> ppm, m<sup>2</sup>, 10<sup>&minus;6</sup>", "10^3 ppm, m^2, 10^\u22126"),
    ("x<sup>n+1</sup>, (a+b)<sup>2</sup>, 2<sup>n</sup>, Ca<sup>2+</sup>", "x^(n+1), (a+b)^2, 2^n, Ca^2+"),
    ("<b>10</b><sup><i>3</i></sup>, 10<sup>\u00b3</sup>", "10^3, 10\u00b3"),
    ("1<sup>st</sup>, 2<sup>e</sup>, Foo<sup>TM</sup>, so<sup>[1]</sup>, H<sub>2</sub>O", "1st, 2e, FooTM, so[1], H2O"),
    # Names of images.
    ("Love it<img src=a alt='\U0001f600'><img src=x alt=image001.png>!", "Love it\U0001f600!"),
    (
        "see<img alt='a &lt;cracked&gt; lamp'>here <img title=\"it's\" alt=''><img title=\"it's\">",
        "see a <cracked> lamp here it's",
    ),
    ("<abbr title='World Health Organization'>WHO</abbr>", "WHO"),
    ("<ol><li>1</li></ol><dl><dt>A</dt><dd>b</dd></dl><table><tr><th>h</th><th>i</th></tr></table>", "1\nA\nb\nh i"),
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
    "Map<B> and write <b> for bold, my <table> is broken, use <script> here, a<b>c",
    'Use `<script>` in **bold**: ```html\n<div class="a">Hi</div>\n```',
    "line\r\nends\tand  spaces\n",
    "",
]


@pytest.mark.parametrize(("before", "after"), MARKED_UP)
def test_what_a_reader_would_see(before: str, after: str) -> None:
    assert html_text(before) == after


@pytest.mark.parametrize("text", PLAIN)
def test_text_without_markup_stays(text: str) -> None:
    assert html_text(text) == text


def test_a_deep_text_has_the_same_words() -> None:
    inside = "x<script>no<!-- </script><p>y</p><td>z<!-- no <b> -->"
    shallow, deep = ("<div>" * depth + inside for depth in (10, 20_000))
    assert html_text(deep).split() == html_text(shallow).split() == ["x", "y", "z"]
    assert html_text("<svg>" * (MAX_HIDDEN + 1) + "x</svg>") == "x"


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
        "<img alt=x>" * 90_000,
        "x<sup>1" + "+1" * 400_000 + "</sup>",
        "`a" * 400_000 + "<b>x</b>",
        "<div class=gmail_attr>" * 40_000,
    ],
    ids=range(28),
)
@pytest.mark.timeout(100)  # seconds; about one at most, quadratic would be minutes
def test_hostile_markup_ends_soon(text: str) -> None:
    html_text(text)


PIECES = [
    *("&amp;", "&lt;", "&#38;", "gt;", "<b>", "</b>", "<br", "<p>", ">", "<!--", "-->", "<script>"),
    *("</script>", "x"),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join))
def test_what_a_page_shows_of_markup_comes_out_to_the_letter(text: str) -> None:
    assume(text == text.strip(" \t\r\n") and not set(text) & set("\0\r\f\x0e\x0f\x10\x11"))
    assert html_text(f"<p>{escape(text)}</p>") == text
    assert html_text(f"<pre><code>{escape(text)}</code></pre><!-- a note -->") == text


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join))
def test_what_it_gives_stays_as_it_is_when_nothing_was_escaped(text: str) -> None:
    plain = html_text(text)
    assert "&" in text or html_text(plain) == plain


ODD_PIECES = [
    *("<?xml ?>", "<![endif]", "<!doctype", "<o:p", "<![CDATA[", "&#38;", "&Eacute;", "<td", "</P", "/"),
    *("\n", "a='b'"),
]


@given(st.lists(st.sampled_from(PIECES + ODD_PIECES) | st.text(max_size=2), max_size=6).map("".join))
def test_the_gate_lets_through_all_that_would_change(text: str) -> None:
    if html_text(text) != text:
        assert pl.select(pl.lit(text).str.contains(MARKUP)).item()
