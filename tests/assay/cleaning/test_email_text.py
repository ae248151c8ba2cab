"""Real shapes of mail: what its writer wrote stays, what was quoted or signed goes."""

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.cleaning.email_text import QUOTE_SIGNS, SIGNATURE_SIGNS, without_quotes, without_signature
from assay.cleaning.html_text import html_text

CASES = [json.loads(line) for line in Path(__file__).with_name("mails.jsonl").read_text(encoding="utf-8").splitlines()]
"""Mails as people and programs write them in many languages, with what is left of each: those that quote another, those
that are signed, whole ones with both, and good text that stays."""


def mails(kind: str) -> pytest.MarkDecorator:
    chosen = [pytest.param(one["before"], one["after"], id=one["mail"]) for one in CASES if one["kind"] == kind]
    return pytest.mark.parametrize(("before", "after"), chosen)


def has(signs: str, text: str) -> bool:
    """Whether a text passes a gate."""
    return bool(pl.select(pl.lit(text).str.contains(signs)).item())


@mails("whole")
def test_whole_mails(before: str, after: str) -> None:
    """As the chain of rules does it: again and again until nothing changes."""
    seen, now = None, before
    while now != seen:
        seen, now = now, without_signature(without_quotes(now))
    assert now == after


@mails("quoted")
def test_quoted_mail_goes(before: str, after: str) -> None:
    text = html_text(before)
    assert without_quotes(text) == after
    assert without_quotes(after) == after
    assert after == text or has(QUOTE_SIGNS, text)


@mails("signed")
def test_signature_goes(before: str, after: str) -> None:
    assert without_signature(before) == after
    assert without_signature(after) == after
    assert has(SIGNATURE_SIGNS, before)


@mails("good")
def test_good_text_stays(before: str, after: str) -> None:
    assert without_quotes(before) == after
    assert without_signature(before) == after


PIECES = [
    *("> old\n", ">> older\n", "new\n", "\n", "S wrote:\n", "_" * 32 + "\n", "-----Original Message-----\n"),
    *("On 2 Mar 2026 10:12, S <s@x.org> wrote:\n", "----- Forwarded message -----\n", "Begin forwarded message:\n"),
    *("Date: 2 Mar 2026 10:12\n", "Subject: h\n", "> From: S\n", "> 5 kg\n", "wrote:\n", "x: y@z.org\n"),
    *("From: S\n", " d;\n"),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=9).map("".join))
def test_twice_is_once(text: str) -> None:
    once = without_quotes(text)
    assert without_quotes(once) == once
    assert once == text or has(QUOTE_SIGNS, text)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        ">\n" * 300_000,
        "On " * 200_000 + "\nx",
        "\n" * 500_000,
        "From: a\n" * 100_000,
        "--\n" * 300_000,
        "On x " + "wrote " * 150_000 + "\n>",
        " " * 1_000_000 + "\n>x",
        "x\nSent from Mail" + "-A" * 500_000 + "!",
        "x\nThanks,\n" + "1 (" * 300_000,
        "best " * 100_000 + "\n" + "regards " * 100_000,
        "> Begin forwarded message:\n> From: a\n" * 30_000,
        "----- Forwarded message -----\n" * 30_000,
        "a: <b@c>, 10:12\n" * 60_000,
        "x 10:12 2026 <b@c>:\n" * 50_000,
        "-" * 1_000_000 + "\n>",
    ],
)
@pytest.mark.timeout(100)  # seconds; about one at most, quadratic would be minutes
def test_hostile_mail_ends_soon(text: str) -> None:
    without_signature(without_quotes(text))
