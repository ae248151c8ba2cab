"""Which passages a chat is shown: its own answer among others, or others alone that do not answer it.

The knowledge base is a list of chats whose answers are the passages. Nothing of a chat's own group is a distractor.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from assay.core.params import Params
from assay.core.seeds import SeedKey, keyed_uniform
from assay.duplicates.near_duplicates import NearDuplicateParams
from assay.duplicates.shingles import Documents, compute_jaccard, normalise_texts

NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


class UnanswerableParams(Params):
    """Block `instruct_data.context.unanswerable`."""

    fraction: float = Field(ge=0, le=1)
    refusal: str = Field(min_length=1)
    max_jaccard: float = Field(ge=0, le=1)
    max_cosine: float | None = Field(ge=-1, le=1)


@dataclass(frozen=True)
class Exchange:
    """A question and its answer."""

    id: str
    group: str
    question: str
    answer: str


@dataclass(frozen=True)
class TextVectors:
    """Embeddings of texts, of length 1, shape `(n, d)`, and the row of each text."""

    numbers: Mapping[str, int]
    vectors: NDArray[np.float32]

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The embeddings of some of the texts, shape `(len(texts), d)`."""
        return self.vectors[[self.numbers[text] for text in texts]]


def read_exchanges(records: pl.DataFrame) -> list[Exchange]:
    """The questions and answers of records."""
    return [Exchange(*row) for row in records.select("id", "group", "question", "answer").iter_rows()]


def find_distractors(
    asked: Sequence[Exchange], base: Sequence[Exchange], found: NDArray[np.int64]
) -> list[list[Exchange]]:
    """For each question the exchanges found (as of `search_passages`) that are not of its group, the best first."""
    return [
        [base[number] for number in of_question if number >= 0 and base[number].group != row.group]
        for row, of_question in zip(asked, found.tolist(), strict=True)
    ]


def take_fitting(exchanges: Sequence[Exchange], count: int, max_characters: int) -> list[Exchange]:
    """The first so many whose answers fit together into a number of characters; one that does not is passed over."""
    taken: list[Exchange] = []
    left = max_characters
    for exchange in exchanges:
        if len(taken) == count:
            break
        if len(exchange.answer) <= left:
            taken.append(exchange)
            left -= len(exchange.answer)
    return taken


def shuffle_for(id_: str, exchanges: Sequence[Exchange], key: SeedKey) -> list[Exchange]:
    """The exchanges in an order that is drawn for a chat, by its id and theirs."""
    ids = pl.Series([f"{id_}\x1f{exchange.id}" for exchange in exchanges], dtype=pl.String)
    draws = keyed_uniform(ids, *key, "order")
    return [exchange for _, exchange in sorted(zip(draws, exchanges, strict=True), key=lambda pair: pair[0])]


def keep_far_from_answers(
    asked: Sequence[Exchange],
    candidates: Sequence[Sequence[Exchange]],
    params: UnanswerableParams,
    near: NearDuplicateParams,
    vectors: TextVectors,
) -> list[list[Exchange]]:
    """The candidates that do not answer each question, as far as similarity tells.

    A candidate may answer a question if its answer has a number of the true one, or is similar to it in its characters
    or in its meaning, or if it answers a question that means nearly the same.
    """
    pairs = [(row, other) for row, others in zip(asked, candidates, strict=True) for other in others]
    if not pairs:
        return [[] for _ in asked]
    ones, others = ([pair[side] for pair in pairs] for side in (0, 1))
    texts = list(dict.fromkeys(exchange.answer for exchange in [*ones, *others]))
    number = {text: index for index, text in enumerate(texts)}
    left, right = (np.array([number[one.answer] for one in side], dtype=np.int64) for side in (ones, others))
    compared = Documents(normalise_texts(pl.Series(texts, dtype=pl.String)), near.shingle_size)
    is_far = compute_jaccard(compared, left, right) <= params.max_jaccard
    if params.max_cosine is not None:
        answers = (vectors.of([one.answer for one in side]) for side in (ones, others))
        questions = (vectors.of([one.question for one in side]) for side in (ones, others))
        for of_ones, of_others in (answers, questions):
            is_far &= np.einsum("pd,pd->p", of_ones, of_others) <= params.max_cosine
    numbers = {text: set(NUMBER.findall(text)) for text in texts}
    is_far &= [not numbers[row.answer] & numbers[other.answer] for row, other in pairs]
    verdicts = iter(is_far.tolist())
    return [[other for other in of_row if next(verdicts)] for of_row in candidates]
