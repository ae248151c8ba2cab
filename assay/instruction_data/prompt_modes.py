"""The test questions as a language model is asked them, once in each mode that it is scored in.

- `open`: beside the passage that holds the answer, among distractors, as the table of chats has it;
- `retrieved`: beside what a search among the train answers finds, as `make ask` asks it;
- `closed`: without passages;
- `unanswerable`: beside passages that do not hold the answer, as the table has it, to be refused;
- `label`: the label task.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.instruction_data.context import ContextParams, show_passages
from assay.instruction_data.distractors import Exchange, TextVectors, read_exchanges, take_fitting
from assay.instruction_data.retrieval import search_passages
from assay.instruction_data.table import CHAT_SCHEMA
from assay.language_models.chat_template import ANSWERING, MESSAGES

TEXTS = pl.List(pl.String())
PROMPT_SCHEMA = pl.Schema({**CHAT_SCHEMA, "mode": pl.String(), "nearest": pl.Int64(), "labels": TEXTS})
"""A question in a mode a row. `answer_in_context`: a passage holds the reference answer word for word; `nearest`: the
place, from 0, of the passage nearest to the question by the frozen encoder, null without passages; `labels`: of a label
task, the label that most train rows have first."""


def retrieve(
    questions: NDArray[np.float32], answers: NDArray[np.float32], base: Sequence[Exchange], params: ContextParams
) -> list[list[Exchange]]:
    """For each question the exchanges whose answers are shown beside it where nobody knows the true one.

    Embeddings are of length 1, shapes `(q, d)` and, of the answers of the base, `(p, d)`.
    """
    found = search_passages(questions, answers, params.passages)
    return [
        take_fitting([base[row] for row in of_question if row >= 0], params.passages, params.max_characters)
        for of_question in found.tolist()
    ]


def texts_compared(chats: pl.DataFrame) -> list[str]:
    """What `make_prompts` needs the embeddings of: train answers, test questions, and passages beside these."""
    test, answers = chats.filter(split="test"), chats.filter(split="train", task="answer")["answer"]
    texts = pl.concat([answers, test["question"], test["context"].explode().drop_nulls()])
    return texts.unique(maintain_order=True).to_list()


def make_prompts(
    chats: pl.DataFrame, params: ContextParams | None, vectors: TextVectors | None, labels: Sequence[str]
) -> pl.DataFrame:
    """The test rows in every mode (`PROMPT_SCHEMA`), from chats with their `split`.

    `vectors` are those of `texts_compared`, where there are params; `labels` those of the label task.
    """
    test = chats.filter(split="test")
    answered = test.filter(task="answer")
    parts = [test.filter(answer_in_context=True, task="answer").with_columns(mode=pl.lit("open"))]
    if params and vectors:
        base = read_exchanges(chats.filter(split="train", task="answer"))
        of_base = vectors.of([one.answer for one in base])
        found = retrieve(vectors.of(answered["question"].to_list()), of_base, base, params)
        # `make ask` has no system message.
        parts.append(_with_passages(answered, found, params.prompt, "retrieved", ("user", ANSWERING)))
    nothing: list[list[Exchange]] = [[] for _ in range(answered.height)]
    parts.append(_with_passages(answered, nothing, "", "closed", ("system", "user", ANSWERING)))
    parts += [test.filter(task=task).with_columns(mode="task") for task in ("unanswerable", "label")]
    rows = pl.concat([part.select(*CHAT_SCHEMA, "mode") for part in parts])
    nearest = [
        int((vectors.of(context) @ vectors.of([question])[0]).argmax()) if context and vectors else None
        for question, context in rows.select("question", "context").iter_rows()
    ]
    of_task = pl.when(task="label").then(pl.lit(list(labels), TEXTS)).otherwise(pl.lit([], TEXTS))
    return rows.with_columns(pl.Series("nearest", nearest, dtype=pl.Int64), labels=of_task)


def _with_passages(
    rows: pl.DataFrame, found: Sequence[Sequence[Exchange]], prompt: str, mode: str, roles: tuple[str, ...]
) -> pl.DataFrame:
    """Rows with other passages beside their questions; of earlier messages those of some roles stay."""
    kept = [[one for one in chat[:-2] if one["role"] in roles] + chat[-2:] for chat in rows["messages"].to_list()]
    of_mode = rows.with_columns(pl.Series("messages", kept, dtype=MESSAGES), mode=pl.lit(mode))
    shown = show_passages(of_mode, found, prompt, answer_in_context=True)
    texts = shown.select("answer", "context").iter_rows()
    held = [any(answer.strip() in passage for passage in passages) for answer, passages in texts]
    return shown.with_columns(pl.Series("answer_in_context", held, dtype=pl.Boolean))
