"""What a table of chats holds, for the metrics."""

from typing import Any

import numpy as np
import polars as pl
from transformers import PreTrainedTokenizerBase

from assay.instruction_data.table import chat_lengths
from assay.splitting.assignment import SPLITS

TASKS = ("answer", "unanswerable", "label")


def summarise_chats(chats: pl.DataFrame, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Rows by split and task, lengths in tokens, and how often the context has the answer.

    Args:
        chats: `CHAT_SCHEMA` and `split`.
    """
    counts = {(split, task): rows for split, task, rows in chats.group_by("split", "task").len().iter_rows()}
    answering = chats.filter(pl.col("task") == "answer")
    measured = pl.concat([chats.select("task"), chat_lengths(chats, tokenizer)], how="horizontal")
    categories = answering["category"].value_counts().sort("category")
    return {
        "rows": {split: {task: counts.get((split, task), 0) for task in TASKS} for split in SPLITS},
        "answer_in_context_share": {
            split: float(part["answer_in_context"].to_numpy().mean())
            for split in SPLITS
            if (part := answering.filter(pl.col("split") == split)).height
        },
        "categories": categories.height,
        "rows_per_category": dict(categories.rows()),
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
