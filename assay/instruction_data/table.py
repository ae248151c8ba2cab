"""The table of chats, a chat a row: its columns, how long chats are, and what of them is taken out."""

from dataclasses import dataclass

import polars as pl
from transformers import PreTrainedTokenizerBase

from assay.language_models.chat_template import MESSAGES, tokenised_chats

CHAT_SCHEMA = pl.Schema(
    {
        "id": pl.String(),
        "source": pl.String(),
        "category": pl.String(),
        "task": pl.String(),
        "messages": MESSAGES,
        "question": pl.String(),
        "answer": pl.String(),
        "context": pl.List(pl.String()),
        "context_ids": pl.List(pl.String()),
        "answer_in_context": pl.Boolean(),
        "group": pl.String(),
        "origin": pl.String(),
        "source_url": pl.String(),
        "licence": pl.String(),
        "retrieved": pl.String(),
        "authenticity": pl.String(),
    }
)
"""A chat a row. `question` is the last message of the user without passages, `answer` the last message."""

PROVENANCE = ("source_url", "licence", "retrieved", "authenticity")

TOKENISED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Filtered:
    """Rows that go on, and those that do not (`REMOVED_SCHEMA`)."""

    kept: pl.DataFrame
    removed: pl.DataFrame


def removed_rows(rows: pl.DataFrame, rule: str) -> pl.DataFrame:
    """Rows that a rule takes out (`REMOVED_SCHEMA`), each with its prompt and answer."""
    return rows.select(
        "id", rule=pl.lit(rule), before=pl.format("{}\n{}", "prompt", "answer"), after=pl.lit(None, pl.String)
    )


def chat_lengths(chats: pl.DataFrame, tokenizer: PreTrainedTokenizerBase) -> pl.DataFrame:
    """`tokens` of each chat in the base model's template, and `answer_tokens` among them."""
    tokens, answer_tokens = [], []
    for batch in chats.select("messages").iter_slices(TOKENISED_AT_ONCE):
        for chat in tokenised_chats(tokenizer, batch["messages"].to_list()):
            tokens.append(len(chat.input_ids))
            answer_tokens.append(chat.answer_tokens)
    return pl.DataFrame(
        {"tokens": tokens, "answer_tokens": answer_tokens}, {"tokens": pl.Int64, "answer_tokens": pl.Int64}
    )


def within_length(chats: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, max_length_tokens: int) -> Filtered:
    """The chats of at most so many tokens."""
    fits = chat_lengths(chats, tokenizer)["tokens"] <= max_length_tokens
    return Filtered(chats.filter(fits), removed_rows(chats.filter(~fits), "max_tokens"))
