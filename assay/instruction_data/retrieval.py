"""The passages closest to a question, by its words (BM25) or by the frozen encoder.

Legend: `q` questions, `p` passages, `k` passages found, `d` dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.embeddings.nearest import cosine_blocks

BLOCK_QUESTIONS = 512
"""Questions compared with all passages at a time; a block takes 4 bytes a pair."""


@dataclass(frozen=True)
class Found:
    """The passages found for each question, the best first, and how well they fit, shape `(q, k)` each.

    Where fewer than `k` were found, `index` is -1 behind the last one.
    """

    index: NDArray[np.int64]
    score: NDArray[np.float64]


def search_by_words(questions: Sequence[str], passages: Sequence[str], k: int) -> Found:
    """Search by BM25 (Robertson & Zaragoza 2009, in Lucene's form, Kamphuis et al. 2020), by the library bm25s.

    English stop words do not count, and a passage without a word of the question is not found.
    """
    if not passages or not questions:
        return _nothing(len(questions), k)
    # Imported here: it brings a compiler, which only this search needs.
    import bm25s

    retriever = bm25s.BM25()
    corpus = bm25s.tokenize(list(passages), stopwords="en", show_progress=False)
    if not corpus.vocab:
        return _nothing(len(questions), k)
    retriever.index(corpus, show_progress=False)
    words = bm25s.tokenize(list(questions), stopwords="en", return_ids=False, show_progress=False)
    rows = []
    for of_question in words:
        known = [word for word in of_question if word in corpus.vocab]
        scores = retriever.get_scores(known) if known else np.zeros(len(passages))
        rows.append(_best(np.where(scores > 0, scores, -np.inf), k))
    return _stacked(rows)


def search_by_meaning(questions: NDArray[np.float32], passages: NDArray[np.float32], k: int) -> Found:
    """Search by the cosine of embeddings of length 1, shapes `(q, d)` and `(p, d)`."""
    if not len(passages) or not len(questions):
        return _nothing(len(questions), k)
    blocks = cosine_blocks(questions, passages, BLOCK_QUESTIONS)
    return _stacked([_best(of_question, k) for _, cosines in blocks for of_question in cosines])


def _best(scores: NDArray[np.floating], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `k` best, the first of equal ones first: a sort of few, and the same on every machine."""
    if len(scores) > k:
        at_least = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= at_least)
    else:
        candidates = np.arange(len(scores))
    chosen = candidates[np.argsort(-scores[candidates], kind="stable")][:k]
    chosen = chosen[np.isfinite(scores[chosen])]
    index, score = np.full(k, -1, dtype=np.int64), np.full(k, -np.inf)
    index[: len(chosen)], score[: len(chosen)] = chosen, scores[chosen]
    return index, score


def _stacked(rows: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]]) -> Found:
    return Found(np.stack([index for index, _ in rows]), np.stack([score for _, score in rows]))


def _nothing(questions: int, k: int) -> Found:
    return Found(np.full((questions, k), -1, dtype=np.int64), np.full((questions, k), -np.inf))
