"""What the report shows of a text is what differs, and never what was redacted."""

import polars as pl

from assay.core.removed_rows import REMOVED_SCHEMA
from assay.report.examples import MAX_EXAMPLE_CHARACTERS, drop_redacted, examples_by_rule, mark_difference


def test_difference_is_marked() -> None:
    before, after = mark_difference("fish &amp; chips", "fish & chips", mask=False)
    assert before == "fish &amp;<del>amp;</del> chips"
    assert after == "fish &amp; chips"


def test_invisible_differences_are_made_visible() -> None:
    before, after = mark_difference("a\t\u200bb", "a b", mask=False)
    assert before == "a<del>⇥⟨U+200B⟩</del>b"
    assert after == "a<ins>␣</ins>b"


def test_difference_late_in_a_long_text_is_in_view() -> None:
    before, after = mark_difference("x" * 900 + "!!", "x" * 900 + "!", mask=False)
    assert "<del>!</del>" in before
    assert before.startswith("…x")
    assert len(after) < MAX_EXAMPLE_CHARACTERS


def test_a_redaction_is_masked_and_its_row_shown_for_no_other_rule() -> None:
    rows = [
        ("a", "html_to_text", "<b>jo@x.org</b>", "jo@x.org"),
        ("a", "redact_email", "jo@x.org", "<EMAIL>"),
        ("b", "html_to_text", "<b>fish</b>", "fish"),
    ]
    changed = pl.DataFrame(rows, schema=REMOVED_SCHEMA, orient="row")
    examples = {group["rule"]: group for group in examples_by_rule(changed, drop_redacted(changed), 3)}
    assert [example["id"] for example in examples["html_to_text"]["examples"]] == ["b"]
    assert examples["html_to_text"]["rows"] == 2
    assert not any("jo@" in str(group["examples"]) for group in examples.values())
