"""Examples of what each cleaning rule did, as the report shows them.

They are the shortest texts. What a `redact_…` rule removed is masked, and a row with any redaction is an example
of no other rule, whose `before` would show what was redacted. A row that was removed before it was cleaned is counted
and not shown, for the same reason.
"""

import difflib
import os
from typing import Any

import polars as pl
from markupsafe import Markup, escape

MAX_EXAMPLE_CHARACTERS = 300


def show_invisible(text: str) -> str:
    """Characters that nobody would see, as pictures of themselves: line ends, tabs, control and odd white space."""
    pictures = {"\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", " ": "␣"}
    return "".join(
        pictures.get(character) or (character if character.isprintable() else f"⟨U+{ord(character):04X}⟩")
        for character in text
    )


def mark_difference(before: str, after: str, mask: bool) -> tuple[Markup, Markup]:
    """Both texts with what differs marked up as deleted and as inserted; `mask` shows dots for what was removed."""
    # From a little before the first difference.
    start = max(0, len(os.path.commonprefix([before, after])) - 60)  # noqa: RUF071  # characters are wanted, not folders
    before, after = (cut(text[start:], start > 0) for text in (before, after))
    old: list[Markup] = []
    new: list[Markup] = []
    pieces = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    if mask:
        # Letters that the address and its placeholder have in common would be shown.
        same = next((piece[2] for piece in pieces[:1] if piece[0] == "equal"), 0)
        kept = next((piece[2] - piece[1] for piece in pieces[1:][-1:] if piece[0] == "equal"), 0)
        old_end, new_end = len(before) - kept, len(after) - kept
        pieces = [
            ("equal", 0, same, 0, same),
            ("replace", same, old_end, same, new_end),
            ("equal", old_end, len(before), new_end, len(after)),
        ]
    for kind, old_start, old_end, new_start, new_end in pieces:
        gone, come = before[old_start:old_end], after[new_start:new_end]
        if kind == "equal":
            old.append(escape(gone))
            new.append(escape(come))
            continue
        if gone:
            old.append(Markup("<del>{}</del>").format("•" * min(len(gone), 12) if mask else show_invisible(gone)))
        if come:
            new.append(Markup("<ins>{}</ins>").format(show_invisible(come)))
    return Markup("").join(old), Markup("").join(new)


def cut(text: str, is_continued: bool = False) -> str:
    """Text of at most MAX_EXAMPLE_CHARACTERS, with an ellipsis where it was cut."""
    short = text if len(text) <= MAX_EXAMPLE_CHARACTERS else text[: MAX_EXAMPLE_CHARACTERS - 1] + "…"
    return "…" + short if is_continued else short


def drop_redacted(changed: pl.DataFrame) -> pl.DataFrame:
    """The changes whose texts hold nothing that a `redact_…` rule removed, but for that rule's own, which masks it."""
    is_redaction = pl.col("rule").str.starts_with("redact_")
    redactions = is_redaction.sum().over("id")
    return changed.filter((redactions == 0) | (is_redaction & (redactions == 1)))


def examples_by_rule(table: pl.DataFrame, candidates: pl.DataFrame, count: int) -> list[dict[str, Any]]:
    """The shortest of the `candidates` of each rule; `table` has all rows, and the rules with most come first.

    For each its name (`rule`), how many `rows` it concerned, and `examples`: the `id`, and as `Markup` the texts
    `before` and `after` the rule, or the one removed and the one kept in its place, None where there is none.
    """
    by_length = candidates.sort(pl.col("before").str.len_chars(), "id")
    shown = by_length.group_by("rule", maintain_order=True).head(count)
    found = []
    for rule, rows in table.group_by("rule").len().sort(["len", "rule"], descending=[True, False]).iter_rows():
        examples = []
        for row in shown.filter(pl.col("rule") == rule).iter_rows(named=True):
            old, new, mask = row["before"] or "", row["after"], rule.startswith("redact_")
            before, after = (escape(cut(old)), None) if new is None else mark_difference(old, new, mask)
            examples.append({"id": row["id"], "before": before, "after": after})
        found.append({"rule": rule, "rows": rows, "examples": examples})
    return found
