"""Which passages a chat is shown: its own answer among others, or others alone that do not answer it.

The knowledge base is a list of chats whose answers are the passages. Nothing of a chat's own group is a distractor.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.core.seeds import keyed_uniform
from assay.duplicates.shingles import Documents, ShingleUnit, compute_jaccard, normalise_texts
from assay.instruction_data.retrieval import Found

RECALL_AT = (1, 2, 5, 10)

NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")


@dataclass(frozen=True)
class Exchange:
    """A question and its answer."""

    id: str
    group: str
    question: str
    answer: str


@dataclass(frozen=True)
class TextVectors:
    """Embeddings of texts.

    Attributes:
        numbers: the row of each text.
        vectors: of length 1, shape `(n, d)`.
    """

    numbers: Mapping[str, int]
    vectors: NDArray[np.float32]

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The embeddings of some of the texts, shape `(len(texts), d)`."""
        return self.vectors[[self.numbers[text] for text in texts]]


def distractors(asked: Sequence[Exchange], base: Sequence[Exchange], found: Found) -> list[list[Exchange]]:
    """For each question the exchanges found whose answers may stand beside its own, the best first."""
    return [
        [base[number] for number in of_question if number >= 0 and base[number].group != row.group]
        for row, of_question in zip(asked, found.index.tolist(), strict=True)
    ]


def fitting(exchanges: Sequence[Exchange], count: int, max_characters: int) -> list[Exchange]:
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


def in_drawn_order(id_: str, exchanges: Sequence[Exchange], seed: int) -> list[Exchange]:
    """The exchanges in an order that is drawn for a chat, by its id and theirs."""
    keys = pl.Series([f"{id_}\x1f{exchange.id}" for exchange in exchanges], dtype=pl.String)
    draws = keyed_uniform(keys, seed, "instruct_data", "order")
    return [exchange for _, exchange in sorted(zip(draws, exchanges, strict=True), key=lambda pair: pair[0])]


def far_from_answers(
    asked: Sequence[Exchange],
    candidates: Sequence[Sequence[Exchange]],
    *,
    max_jaccard: float,
    max_cosine: float | None,
    shingle_unit: ShingleUnit,
    shingle_size: int,
    vectors: TextVectors | None,
) -> list[list[Exchange]]:
    """The candidates that do not answer each question, as far as likeness tells.

    A candidate may answer a question if its answer has a number of the true one, or is like it in its characters or in
    its meaning, or if it answers a question that means nearly the same.

    Args:
        asked: questions with their true answers.
        candidates: for each of them.
        max_jaccard: of the shingles of both answers.
        max_cosine: of both answers, and of both questions; None: not asked.
        shingle_unit: what a shingle is made of.
        shingle_size: characters or words of a shingle.
        vectors: of all questions and answers, where there is a `max_cosine`.
    """
    pairs = [(row, other) for row, others in zip(asked, candidates, strict=True) for other in others]
    if not pairs:
        return [[] for _ in asked]
    ones, others = ([pair[side] for pair in pairs] for side in (0, 1))
    texts = list(dict.fromkeys(exchange.answer for exchange in [*ones, *others]))
    number = {text: index for index, text in enumerate(texts)}
    left, right = (np.array([number[one.answer] for one in side], dtype=np.int64) for side in (ones, others))
    compared = Documents(normalise_texts(pl.Series(texts, dtype=pl.String)), shingle_unit, shingle_size)
    is_far = compute_jaccard(compared, left, right) <= max_jaccard
    if vectors is not None and max_cosine is not None:
        answers = (vectors.of([one.answer for one in side]) for side in (ones, others))
        questions = (vectors.of([one.question for one in side]) for side in (ones, others))
        for of_ones, of_others in (answers, questions):
            is_far &= np.einsum("pd,pd->p", of_ones, of_others) <= max_cosine
    numbers = {text: set(NUMBER.findall(text)) for text in texts}
    is_far &= [not numbers[row.answer] & numbers[other.answer] for row, other in pairs]
    verdicts = iter(is_far.tolist())
    return [[other for other in of_row if next(verdicts)] for of_row in candidates]


def recall_of_own(asked: Sequence[Exchange], base: Sequence[Exchange], found: Found) -> dict[str, float]:
    """At several numbers of passages, the share of the questions whose own answer is among so many that are found.

    Args:
        asked: questions.
        base: the knowledge base; questions that are not from it do not count.
        found: for each question.
    """
    number = {exchange.id: place for place, exchange in enumerate(base)}
    own = np.array([number.get(exchange.id, -2) for exchange in asked])
    is_in_base = own >= 0
    hits = (found.index == own[:, None])[is_in_base]
    return {f"recall_at_{k}": float(hits[:, :k].any(axis=1).mean()) for k in RECALL_AT} if len(hits) else {}
