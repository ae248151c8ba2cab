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
        for rows, cosines in cosine_blocks(questions, passages, BLOCK_QUESTIONS):
            # The first of equal ones first, so that it is the same on every machine.
            best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
            found[rows, : best.shape[1]] = best
    return found
