"""The table of chats, a chat a row: its columns, and how long chats are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from transformers import PreTrainedTokenizerBase

from assay.core.removed_rows import Filtered, removed_rows
from assay.language_models.chat_template import MESSAGES, tokenise_chats
from assay.splitting.assignment import SPLITS

PROVENANCE = ("source_url", "licence", "retrieved", "authenticity")

CHAT_SCHEMA = pl.Schema(
    {
        **dict.fromkeys(("id", "source", "category", "task"), pl.String()),
        "messages": MESSAGES,
        "without_loss": pl.List(pl.Int64()),
        **dict.fromkeys(("question", "answer"), pl.String()),
        **dict.fromkeys(("context", "context_ids"), pl.List(pl.String())),
        "answer_in_context": pl.Boolean(),
        **dict.fromkeys(("group", "origin", *PROVENANCE), pl.String()),
    }
)
"""A chat a row. `question` is the last message of the user without passages, `answer` the last message; `without_loss`
are the places in `messages`, from 0, of answers that are read and not learnt."""

TASKS = ("answer", "unanswerable", "label")

TOKENISED_AT_ONCE = 1_000

PROMPT_AND_ANSWER = pl.format("{}\n{}", "prompt", "answer")
"""What `removed.parquet` shows of a chat."""


@dataclass(frozen=True)
class TokenLimit:
    """How long a chat may be in the template of the base model."""

    tokenizer: PreTrainedTokenizerBase
    max_length_tokens: int


def chat_lengths(chats: pl.DataFrame, tokenizer: PreTrainedTokenizerBase, longest: int | None = None) -> pl.DataFrame:
    """`tokens` of each chat in the base model's template, and `answer_tokens` among them (none above `longest`)."""
    rows = [
        (len(chat.input_ids), chat.answer_tokens)
        for batch in chats.select("messages", "without_loss").iter_slices(TOKENISED_AT_ONCE)
        for chat in tokenise_chats(tokenizer, batch["messages"].to_list(), batch["without_loss"].to_list(), longest)
    ]
    return pl.DataFrame(rows, {"tokens": pl.Int64, "answer_tokens": pl.Int64}, orient="row")


def remove_long_chats(chats: pl.DataFrame, limit: TokenLimit) -> Filtered:
    """The chats within the limit, and the others."""
    fits = chat_lengths(chats, limit.tokenizer, limit.max_length_tokens)["tokens"] <= limit.max_length_tokens
    return Filtered(chats.filter(fits), removed_rows(chats.filter(~fits), "max_tokens", PROMPT_AND_ANSWER))


def summarise_chats(chats: pl.DataFrame, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Rows by split and task, categories, and lengths in tokens."""
    counts = {(split, task): rows for split, task, rows in chats.group_by("split", "task").len().iter_rows()}
    measured = pl.concat([chats.select("task"), chat_lengths(chats, tokenizer)], how="horizontal")
    return {
        "rows": {split: {task: counts.get((split, task), 0) for task in TASKS} for split in SPLITS},
        "categories": chats.filter(task="answer")["category"].n_unique(),
        "tokens": {
            task: {name: quantiles(part[name]) for name in ("tokens", "answer_tokens")}
            for task in TASKS
            if (part := measured.filter(pl.col("task") == task)).height
        },
    }


def quantiles(values: pl.Series) -> dict[str, float]:
    """Median, 95th percentile and maximum."""
    numbers = values.to_numpy()
    return {"p50": float(np.median(numbers)), "p95": float(np.quantile(numbers, 0.95)), "max": float(numbers.max())}
