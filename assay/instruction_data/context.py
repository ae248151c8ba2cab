"""Chats with context beside their question, and their twins whose context does not hold the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import polars as pl
from pydantic import AfterValidator, Field

from assay.core import row_ids
from assay.core.params import Params
from assay.core.prompt_template import place_passages_in, places_exactly
from assay.core.removed_rows import Filtered, none_removed
from assay.core.seeds import SeedKey, keyed_uniform
from assay.duplicates.near_duplicates import NearDuplicateParams
from assay.instruction_data.distractors import (
    Exchange,
    TextVectors,
    UnanswerableParams,
    find_distractors,
    keep_far_from_answers,
    read_exchanges,
    shuffle_for,
    take_fitting,
)
from assay.instruction_data.retrieval import search_passages
from assay.instruction_data.table import CHAT_SCHEMA, TokenLimit, chat_lengths, remove_long_chats
from assay.language_models.chat_template import MESSAGES

CANDIDATES = 50
"""Passages that the search gives for a question, of which the best that may be shown are taken."""


class ContextParams(Params):
    """Block `instruct_data.context`."""

    passages: int = Field(ge=1, le=CANDIDATES)
    max_characters: int = Field(ge=1)
    closed_book_fraction: float = Field(ge=0, le=1)
    prompt: Annotated[str, AfterValidator(places_exactly("passages", "question"))]
    unanswerable: UnanswerableParams | None


@dataclass(frozen=True)
class Shown:
    """Chats as the model will see them (`CHAT_SCHEMA` and `split`), and unanswerable ones that are too long.

    Attributes:
        without_passages: chats that go without because their own answer alone is longer than all passages may be
            (`max_characters`), or the chat with them is too long (`max_tokens`).
        twins_not_made: drawn to be there unanswerable, and no passage was far enough from the answer.
    """

    rows: pl.DataFrame
    removed: pl.DataFrame
    without_passages: dict[str, int]
    twins_not_made: int


def add_given_context(records: pl.DataFrame, prompt: str | None) -> pl.DataFrame:
    """The records in the form of chats (`CHAT_SCHEMA`), those that bring a context of their own with it in the prompt.

    The prompt is a template with the places `passages` and `question`, where there are contexts.
    """
    messages = [
        [*ask_beside(of_row[:-2], question, context, prompt), of_row[-1]] if context and prompt else of_row
        for of_row, question, context in records.select("messages", "question", "context").iter_rows()
    ]
    has_context = pl.col("context").list.len() > 0
    return records.with_columns(
        pl.Series("messages", messages, dtype=MESSAGES),
        task=pl.when("unanswerable").then(pl.lit("unanswerable")).otherwise(pl.lit("answer")),
        context_ids=pl.when(has_context).then(pl.concat_list("id")).otherwise(pl.lit([], pl.List(pl.String))),
        answer_in_context=has_context & ~pl.col("unanswerable"),
    )


def ask_beside(
    history: Sequence[Mapping[str, str]], question: str, passages: Sequence[str], prompt: str
) -> list[dict[str, str]]:
    """The messages that a question is asked with: what was said before, and passages beside it, if there are any."""
    return [*map(dict, history), {"role": "user", "content": place_passages_in(prompt, question, passages)}]


def add_context(
    records: pl.DataFrame,
    params: ContextParams | None,
    vectors: TextVectors | None,
    near: NearDuplicateParams,
    limit: TokenLimit,
    key: SeedKey,
) -> Shown:
    """The chats with their context, and after them those that cannot be answered.

    Args:
        records: `CHAT_SCHEMA`, `split` and `passages` (where a chat's context comes from).
        vectors: of questions and answers, where there are params.
    """
    columns = [*CHAT_SCHEMA.names(), "split"]
    searched = records.filter(pl.col("passages") == "search")
    if params is None or vectors is None or not searched.height:
        return Shown(records.select(columns), none_removed(), {}, 0)
    asked = read_exchanges(searched)
    base = read_exchanges(searched.filter(pl.col("split") == "train"))
    questions, answers = [row.question for row in asked], [row.answer for row in base]
    found = search_passages(vectors.of(questions), vectors.of(answers), CANDIDATES)
    others = find_distractors(asked, base, found)

    kept, without = _with_own_answers(searched, asked, others, params, limit, key)
    twins, not_made = Filtered(searched.head(0), none_removed()), 0
    if params.unanswerable:
        is_drawn = keyed_uniform(searched["id"], *key, "unanswerable") < params.unanswerable.fraction
        rows = is_drawn.arg_true().to_list()
        far = keep_far_from_answers(
            [asked[row] for row in rows], [others[row] for row in rows], params.unanswerable, near, vectors
        )
        made = _unanswerable_twins(searched.filter(is_drawn), far, params, params.unanswerable, key)
        found_any = made["context"].list.len() > 0
        not_made = int((~found_any).sum())
        twins = remove_long_chats(made.filter(found_any), limit)
    order = records.select("id").with_row_index("row")
    not_searched = records.filter(pl.col("passages") != "search").select(columns)
    answered = pl.concat([kept.select(columns), not_searched]).join(order, on="id", how="left").sort("row").drop("row")
    rows_shown = pl.concat([answered, twins.kept.select(columns)])
    return Shown(rows_shown, twins.removed, without, not_made)


def _with_own_answers(
    searched: pl.DataFrame,
    asked: Sequence[Exchange],
    others: Sequence[Sequence[Exchange]],
    params: ContextParams,
    limit: TokenLimit,
    key: SeedKey,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Chats with their own answer among others in the context, and how many go without for their length."""
    closed_book = keyed_uniform(searched["id"], *key, "closed_book") < params.closed_book_fraction
    own_fits = searched["answer"].str.len_chars() <= params.max_characters
    chosen = [
        shuffle_for(
            row.id, [row, *take_fitting(of_row, params.passages - 1, params.max_characters - len(row.answer))], key
        )
        if is_open
        else []
        for row, of_row, is_open in zip(asked, others, ~closed_book & own_fits, strict=True)
    ]
    with_passages = show_passages(searched, chosen, params.prompt, answer_in_context=True)
    too_long = chat_lengths(with_passages, limit.tokenizer)["tokens"] > limit.max_length_tokens
    chosen = [[] if long else one for long, one in zip(too_long, chosen, strict=True)]
    kept = show_passages(searched, chosen, params.prompt, answer_in_context=True)
    return kept, {"max_characters": int((~closed_book & ~own_fits).sum()), "max_tokens": int(too_long.sum())}


def _unanswerable_twins(
    searched: pl.DataFrame,
    far: Sequence[Sequence[Exchange]],
    params: ContextParams,
    unanswerable: UnanswerableParams,
    key: SeedKey,
) -> pl.DataFrame:
    """Chats once more, with context that does not answer them and a refusal; without context where there is none."""
    made = searched.with_columns(
        pl.Series("id", [row_ids.unanswerable(row) for row in searched["id"]], dtype=pl.String),
        pl.lit("unanswerable").alias("task"),
        pl.lit(unanswerable.refusal).alias("answer"),
        pl.lit("augmented").alias("authenticity"),
    )
    chosen = [
        shuffle_for(id_, take_fitting(of_row, params.passages, params.max_characters), key)
        for id_, of_row in zip(made["id"], far, strict=True)
    ]
    return show_passages(made, chosen, params.prompt, answer_in_context=False)


def show_passages(
    records: pl.DataFrame, chosen: Sequence[Sequence[Exchange]], prompt: str, *, answer_in_context: bool
) -> pl.DataFrame:
    """Chats with the answers of chosen exchanges beside their questions, and their own answers as in `answer`.

    A chat for which none is chosen has the bare question.
    """
    passages = [[exchange.answer for exchange in of_row] for of_row in chosen]
    rows = records.select("messages", "question", "answer").iter_rows()
    messages = [
        [*ask_beside(of_row[:-2], question, shown, prompt), {**of_row[-1], "content": answer}]
        for (of_row, question, answer), shown in zip(rows, passages, strict=True)
    ]
    return records.with_columns(
        pl.Series("messages", messages, dtype=MESSAGES),
        pl.Series("context", passages, dtype=pl.List(pl.String)),
        pl.Series("context_ids", [[one.id for one in of_row] for of_row in chosen], dtype=pl.List(pl.String)),
        pl.Series("answer_in_context", [answer_in_context and bool(shown) for shown in passages], dtype=pl.Boolean),
    )
