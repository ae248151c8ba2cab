"""How good one generated answer is, as far as programs can tell."""

import re
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

REFUSALS = (
    *("do not know", "don't know", "does not answer", "do not answer", "cannot answer", "can't answer"),
    *("not enough information", "no information", "cannot be answered"),
)
"""Phrases of answers that say there is no answer."""

MIN_CHRF_TO_REFUSAL = 0.6
"""chrF to the refusal that was taught, from which on an answer is one."""

MIN_SUPPORT = 0.5
MIN_SUPPORTED_WORDS = 3
REPEATED_WORDS = 4
_WORD = re.compile(r"[^\W\d_]{4,}|\d+")


def chrf(answer: str, reference: str) -> float:
    """Character n-gram F-score (Popović 2015), 0 to 1."""
    # Imported here: it takes a second.
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(answer, [reference]).score) / 100


def same_label(answer: str, label: str) -> bool:
    """Whether an answer is the label and nothing else, but for case, punctuation and white space around it."""
    return answer.casefold().strip(" \t\n.,:;!?\"'*`") == label.casefold()


def is_refusal(answer: str, refusal: str) -> bool:
    """Whether an answer says that there is no answer; `refusal` is what the model was taught to say then."""
    plain = answer.casefold().replace("\u2019", "'")
    return any(phrase in plain for phrase in REFUSALS) or chrf(answer, refusal) >= MIN_CHRF_TO_REFUSAL


def find_refusal(rows: pl.DataFrame) -> str:
    """What unanswerable questions are to be answered with; empty where the data has none."""
    references = rows.filter(pl.col("task") == "unanswerable")["reference"]
    said = references.value_counts().sort("count", "reference", descending=True)
    return str(said["reference"][0]) if said.height else ""


def content_words(text: str) -> set[str]:
    """Numbers, and words of four letters or more, in lower case."""
    return set(_WORD.findall(text.casefold()))


def uses_context(answer: str, question: str, passages: Sequence[str]) -> bool:
    """Whether an answer says what its passages say: of its content words that the question does not have, half or more
    are in the passages, and at least three.

    A right answer from memory counts too, where it uses the same words; with the same questions asked of several
    models, that is the same for all.
    """
    said = content_words(answer) - content_words(question)
    supported = said & set().union(*map(content_words, passages))
    return len(supported) >= MIN_SUPPORTED_WORDS and len(supported) >= MIN_SUPPORT * len(said)


def repetition(answer: str) -> float:
    """Share of the runs of four words that occurred before in the same answer; 0 of shorter answers."""
    words = answer.split()
    runs = [tuple(words[start : start + REPEATED_WORDS]) for start in range(len(words) - REPEATED_WORDS + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def cosines(embeddings: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each pair of vectors of length 1, shape `(n, d)` each; shape `(n,)`."""
    products: NDArray[np.float64] = np.einsum("nd,nd->n", embeddings, others, dtype=np.float64)
    return products


def score_texts(rows: pl.DataFrame, refusal: str) -> pl.DataFrame:
    """Rows with the scores of each answer that its text alone decides.

    Null where a score does not go with the task, or there is no answer.
    """
    found: list[dict[str, object]] = []
    for row in rows.iter_rows(named=True):
        answer, reference, task = row["answer"], row["reference"], row["task"]
        if answer is None:
            found.append({})
            continue
        is_free = task == "answer"
        has_context = is_free and bool(row["context"])
        found.append(
            {
                "chrf": chrf(answer, reference) if is_free else None,
                "exact_match": same_label(answer, reference) if task == "label" else None,
                "refused": None if task == "label" else is_refusal(answer, refusal),
                "uses_context": uses_context(answer, row["question"], row["context"]) if has_context else None,
                "repetition": repetition(answer),
            }
        )
    schema = {"chrf": pl.Float64, "exact_match": pl.Boolean, "refused": pl.Boolean}
    schema |= {"uses_context": pl.Boolean, "repetition": pl.Float64}
    return rows.hstack(pl.DataFrame(found, schema=schema))
