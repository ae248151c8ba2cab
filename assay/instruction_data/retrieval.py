"""The passages closest to a question by the frozen encoder.

Legend: `q` questions, `p` passages, `k` passages found, `d` dimensions.
"""

import numpy as np
from numpy.typing import NDArray

from assay.embeddings.nearest import cosine_blocks

BLOCK_QUESTIONS = 512
"""Questions compared with all passages at a time; a block takes 4 bytes a pair."""


def search_passages(questions: NDArray[np.float32], passages: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The `k` passages whose embeddings have the highest cosine with each question's, the best first, shape `(q, k)`.

    Embeddings are of length 1, shapes `(q, d)` and `(p, d)`. Where there are fewer, -1 stands behind the last.
    """
    found = np.full((len(questions), k), -1, dtype=np.int64)
    if len(questions) and len(passages):
        blocks = cosine_blocks(questions, passages, BLOCK_QUESTIONS)
        for row, of_question in enumerate(cosines for _, block in blocks for cosines in block):
            best = _best(of_question, k)
            found[row, : len(best)] = best
    return found


def _best(scores: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """The `k` best, the first of equal ones first: a sort of few, and the same on every machine."""
    candidates = np.arange(len(scores))
    if len(scores) > k:
        candidates = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]
