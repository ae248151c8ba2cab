from html import escape
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from assay.cleaning.html_text import MARKUP, MAX_HIDDEN, html_text

CASES = yaml.safe_load(Path(__file__).with_name("html.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("before", "after"), [*CASES["marked_up"], ("&" + "amp;" * 1000 + "lt;3", "<3")])
def test_what_a_reader_would_see(before: str, after: str) -> None:
    assert html_text(before) == after


@pytest.mark.parametrize("text", CASES["plain"])
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
