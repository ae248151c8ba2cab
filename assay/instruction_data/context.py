"""Chats that show passages beside their question, and their twins whose passages do not hold the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import polars as pl
from pydantic import AfterValidator, Field
from transformers import PreTrainedTokenizerBase

from assay.core.params import Params
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.core.seeds import keyed_uniform
from assay.duplicates.near_duplicates import NearDuplicateParams
from assay.instruction_data.distractors import (
    Exchange,
    TextVectors,
    distractors,
    far_from_answers,
    fitting,
    in_drawn_order,
    recall_of_own,
)
from assay.instruction_data.prompt_template import places_exactly, question_with_passages
from assay.instruction_data.retrieval import Found, found_by_meaning, found_by_words
from assay.instruction_data.table import CHAT_SCHEMA, chat_lengths, within_length
from assay.language_models.chat_template import MESSAGES

UNANSWERABLE = "#unanswerable"

CANDIDATES = 50
"""Passages that the search gives for a question, of which the best that may be shown are taken."""


class UnanswerableParams(Params):
    """Block `instruct_data.context.unanswerable`."""

    fraction: float = Field(ge=0, le=1)
    refusal: str = Field(min_length=1)
    max_jaccard: float = Field(ge=0, le=1)
    max_cosine: float | None = Field(ge=-1, le=1)


class ContextParams(Params):
    """Block `instruct_data.context`."""

    search: Literal["bm25", "embedding"]
    passages: int = Field(ge=1, le=CANDIDATES)
    max_characters: int = Field(ge=1)
    closed_book_fraction: float = Field(ge=0, le=1)
    prompt: Annotated[str, AfterValidator(places_exactly("passages", "question"))]
    unanswerable: UnanswerableParams | None


@dataclass(frozen=True)
class Shown:
    """Chats as the model will see them.

    Attributes:
        rows: `CHAT_SCHEMA` and `split`.
        removed: `REMOVED_SCHEMA`, chats without an answer that were made and are too long.
        recall: at several numbers of passages, the share of train questions whose own answer a search over the train
            answers finds.
        without_passages: chats that go without because their own answer alone is longer than all passages may be
            (`max_characters`), or the chat with them than all may be (`max_tokens`).
        twins_not_made: drawn to be there without an answer, and no passage was far enough from the answer.
    """

    rows: pl.DataFrame
    removed: pl.DataFrame
    recall: dict[str, float]
    without_passages: dict[str, int]
    twins_not_made: int


def with_given_context(records: pl.DataFrame, prompt: str | None) -> pl.DataFrame:
    """The records in the form of chats (`CHAT_SCHEMA`), those that bring a context of their own with it in the prompt.

    Args:
        records: with `question`, `answer`, `messages`, `context`.
        prompt: template with the places `passages` and `question`, where there are contexts.
    """
    messages = [
        shown_messages(of_row, question, context, prompt) if context and prompt else of_row
        for of_row, question, context in records.select("messages", "question", "context").iter_rows()
    ]
    has_context = pl.col("context").list.len() > 0
    return records.with_columns(
        pl.Series("messages", messages, dtype=MESSAGES),
        task=pl.lit("answer"),
        context_ids=pl.when(has_context).then(pl.concat_list("id")).otherwise(pl.lit([], pl.List(pl.String))),
        answer_in_context=has_context,
    )


def shown_messages(
    messages: Sequence[Mapping[str, str]], question: str, passages: Sequence[str], prompt: str
) -> list[dict[str, str]]:
    """The messages of a chat with passages beside its last question."""
    asked = {"role": "user", "content": question_with_passages(prompt, question, passages)}
    return [*map(dict, messages[:-2]), asked, dict(messages[-1])]


def shown_chats(
    records: pl.DataFrame,
    params: ContextParams | None,
    vectors: TextVectors | None,
    near: NearDuplicateParams,
    tokenizer: PreTrainedTokenizerBase,
    max_length_tokens: int,
    seed: int,
) -> Shown:
    """The chats with the passages that each is shown, and after them those that cannot be answered.

    Args:
        records: `CHAT_SCHEMA`, `split` and `passages` (where a chat's passages come from).
        params: of the context; None: no passages.
        vectors: of questions and answers, where the params need them.
        near: how texts are cut into shingles.
        tokenizer: of the base model.
        max_length_tokens: of a chat.
        seed: of the project.
    """
    columns = [*CHAT_SCHEMA.names(), "split"]
    searched = records.filter(pl.col("passages") == "search")
    if params is None or not searched.height:
        return Shown(records.select(columns), pl.DataFrame(schema=REMOVED_SCHEMA), {}, {}, 0)
    asked = exchanges(searched)
    base = exchanges(searched.filter(pl.col("split") == "train"))
    found = search(asked, base, params.search, vectors)
    others = distractors(asked, base, found)

    closed_book = keyed_uniform(searched["id"], seed, "instruct_data", "closed_book") < params.closed_book_fraction
    own_fits = searched["answer"].str.len_chars() <= params.max_characters
    chosen = [
        in_drawn_order(
            row.id, [row, *fitting(of_row, params.passages - 1, params.max_characters - len(row.answer))], seed
        )
        if is_open
        else []
        for row, of_row, is_open in zip(asked, others, ~closed_book & own_fits, strict=True)
    ]
    with_passages = with_shown(searched, chosen, params.prompt, answer_in_context=True)
    too_long = chat_lengths(with_passages, tokenizer)["tokens"] > max_length_tokens
    kept = with_shown(
        searched,
        [[] if long else one for long, one in zip(too_long, chosen, strict=True)],
        params.prompt,
        answer_in_context=True,
    )

    twins = searched.head(0)
    removed = pl.DataFrame(schema=REMOVED_SCHEMA)
    not_made = 0
    if unanswerable := params.unanswerable:
        drawn = keyed_uniform(searched["id"], seed, "instruct_data", "unanswerable") < unanswerable.fraction
        rows = drawn.arg_true().to_list()
        far = far_from_answers(
            [asked[row] for row in rows],
            [others[row] for row in rows],
            max_jaccard=unanswerable.max_jaccard,
            max_cosine=unanswerable.max_cosine,
            shingle_unit=near.shingle_unit,
            shingle_size=near.shingle_size,
            vectors=vectors,
        )
        made = searched.filter(drawn).with_columns(
            pl.format("{}{}", "id", pl.lit(UNANSWERABLE)).alias("id"),
            pl.lit("unanswerable").alias("task"),
            pl.lit(unanswerable.refusal).alias("answer"),
            pl.lit("augmented").alias("authenticity"),
        )
        chosen = [
            in_drawn_order(id_, fitting(of_row, params.passages, params.max_characters), seed)
            for id_, of_row in zip(made["id"], far, strict=True)
        ]
        made = with_shown(made, chosen, params.prompt, answer_in_context=False)
        found_any = made["context"].list.len() > 0
        not_made = int((~found_any).sum())
        fitted = within_length(made.filter(found_any), tokenizer, max_length_tokens)
        twins, removed = fitted.kept, fitted.removed
    order = records.select("id").with_row_index("row")
    answered = (
        pl.concat([kept.select(columns), records.filter(pl.col("passages") != "search").select(columns)])
        .join(order, on="id", how="left")
        .sort("row")
        .drop("row")
    )
    return Shown(
        pl.concat([answered, twins.select(columns)]),
        removed,
        recall_of_own(asked, base, found),
        {"max_characters": int((~closed_book & ~own_fits).sum()), "max_tokens": int(too_long.sum())},
        not_made,
    )


def exchanges(records: pl.DataFrame) -> list[Exchange]:
    """The questions and answers of records."""
    return [Exchange(*row) for row in records.select("id", "group", "question", "answer").iter_rows()]


def search(
    asked: Sequence[Exchange],
    base: Sequence[Exchange],
    by: Literal["bm25", "embedding"],
    vectors: TextVectors | None,
) -> Found:
    """The answers of the knowledge base that fit each question best."""
    questions, answers = [row.question for row in asked], [row.answer for row in base]
    if by == "embedding" and vectors is not None:
        return found_by_meaning(vectors.of(questions), vectors.of(answers), CANDIDATES)
    return found_by_words(questions, answers, CANDIDATES)


def with_shown(
    records: pl.DataFrame, chosen: Sequence[Sequence[Exchange]], prompt: str, *, answer_in_context: bool
) -> pl.DataFrame:
    """Chats with what is shown beside their questions, and their answers as they are in `answer`.

    Args:
        records: in the form of chats, shape `(n,)`.
        chosen: the exchanges whose answers each is shown, shape `(n,)`; none: the bare question.
        prompt: template.
        answer_in_context: whether the answer is among what is shown.
    """
    passages = [[exchange.answer for exchange in of_row] for of_row in chosen]
    messages = []
    for (of_row, question, answer), shown in zip(
        records.select("messages", "question", "answer").iter_rows(), passages, strict=True
    ):
        *before, last = shown_messages(of_row, question, shown, prompt)
        messages.append([*before, last | {"content": answer}])
    return records.with_columns(
        pl.Series("messages", messages, dtype=MESSAGES),
        pl.Series("context", passages, dtype=pl.List(pl.String)),
        pl.Series("context_ids", [[one.id for one in of_row] for of_row in chosen], dtype=pl.List(pl.String)),
        pl.Series("answer_in_context", [answer_in_context and bool(shown) for shown in passages], dtype=pl.Boolean),
    )
