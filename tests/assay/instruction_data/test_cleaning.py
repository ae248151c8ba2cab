from typing import Any

import polars as pl

from assay.cleaning.rules import CleanParams
from assay.instruction_data.cleaning import CHANGED_SCHEMA, CleanedChats, clean_chats
from assay.language_models.chat_template import MESSAGES
from tests.template_params import read_template_params

Turns = list[tuple[str, str]]


def params(**changed: Any) -> CleanParams:
    """The committed section `clean`, with some keys changed."""
    return CleanParams.model_validate(read_template_params()["clean"] | changed)


def chats(*rows: tuple[str, Turns, list[str]]) -> pl.DataFrame:
    messages = [[{"role": role, "content": text} for role, text in turns] for _, turns, _ in rows]
    return pl.DataFrame(
        {
            "id": pl.Series([id_ for id_, _, _ in rows], dtype=pl.String),
            "source": pl.Series(["faq"] * len(rows), dtype=pl.String),
            "messages": pl.Series(messages, dtype=MESSAGES),
            "context": pl.Series([context for _, _, context in rows], dtype=pl.List(pl.String)),
        }
    )


def said(cleaned: CleanedChats) -> dict[str, list[tuple[str, str]]]:
    return {
        id_: [(message["role"], message["content"]) for message in messages]
        for id_, messages in cleaned.records.select("id", "messages").iter_rows()
    }


def turns(question: str, answer: str) -> Turns:
    return [("user", question), ("assistant", answer)]


def test_every_message_and_context_is_cleaned_and_the_change_written_down() -> None:
    rows = chats(
        ("a", [("system", "Help  all."), ("user", "Is ann@example.com right?"), ("assistant", "Yes.")], []),
        ("b", [*turns("Hi there", "Hello"), *turns("Call?", "Call +46 771 567 567.")], ["Ring www.example.org/x now"]),
        ("c", turns("Nothing to do", "Indeed"), []),
    )
    cleaned = clean_chats(rows, params())
    assert said(cleaned) == {
        "a": [("system", "Help all."), ("user", "Is <EMAIL> right?"), ("assistant", "Yes.")],
        "b": [*turns("Hi there", "Hello"), *turns("Call?", "Call <PHONE>.")],
        "c": turns("Nothing to do", "Indeed"),
    }
    assert cleaned.records["context"].to_list() == [[], ["Ring <URL> now"], []]
    assert cleaned.changed.schema == CHANGED_SCHEMA
    assert sorted(cleaned.changed.select("id", "rule", "field").rows()) == [
        ("a", "collapse_white_space", "messages[0].content"),
        ("a", "redact_email", "messages[1].content"),
        ("b", "redact_phone", "messages[3].content"),
        ("b", "redact_url", "context[0]"),
    ]
    assert cleaned.removed.height == 0


def test_law_references_and_sums_are_left_alone() -> None:
    text = (
        "Per PBL 9 kap. 27 § and Lag (2010:900): 25,000-50,000 SEK, 30 m², 1-10 price base amounts, AFS 1999:3, "
        "ABS 18 clause 7, IP 44, 2026-11-23, org. no. 16 digits, R'w ≥ 53 dB"
    )
    assert said(clean_chats(chats(("a", turns("Why?", text), [])), params())) == {"a": turns("Why?", text)}


def test_a_chat_with_a_message_that_cannot_be_used_is_removed_whole() -> None:
    rows = chats(
        ("empty", turns("<p></p>", "So."), []),
        ("short", turns("Why?", "!"), []),
        ("long", turns("Why?", "x" * 31), ["y" * 31]),
        ("good", turns("Why?", "x" * 30), []),
    )
    cleaned = clean_chats(rows, params(max_characters=30))
    assert cleaned.removed.rows() == [
        ("empty", "empty_text", "", None),
        ("short", "min_characters", "!", None),
        ("long", "max_characters", "x" * 31, None),
    ]
    assert list(said(cleaned)) == ["good"]


def test_a_chat_is_judged_by_the_language_of_all_its_messages() -> None:
    rows = chats(
        ("english", turns("Warum?", "Because the builder said that this is what the law has always been about."), []),
        ("german", turns("Why?", "Weil der Bauherr gesagt hat, dass das Gesetz schon immer davon gehandelt hat."), []),
    )
    languages = {"keep": ["en"], "min_probability": 0.5, "min_characters": 20}
    cleaned = clean_chats(rows, params(languages=languages))
    assert cleaned.removed.select("id", "rule").rows() == [("german", "language")]


def test_rules_for_sources_of_the_other_track_do_nothing() -> None:
    rows = chats(("a", turns("WHY NOT?", "So."), []))
    rules = {"lower_case": ["tweets"], "collapse_white_space": ["faq"]}
    assert said(clean_chats(rows, params(rules=rules))) == {"a": turns("WHY NOT?", "So.")}
