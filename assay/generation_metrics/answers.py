"""How good one generated answer is, as far as programs can tell."""

import polars as pl

REFUSALS = (
    *("do not know", "don't know", "does not answer", "do not answer", "cannot answer", "can't answer"),
    *("not enough information", "no information", "cannot be answered"),
)
"""Phrases of answers that say there is no answer."""

MIN_CHRF_TO_REFUSAL = 0.6
"""chrF to the refusal that was taught, from which on an answer is one."""


def chrf(answer: str, reference: str) -> float:
    """Character n-gram F-score (Popović 2015), 0 to 1."""
    # Imported here: it takes a second.
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().sentence_score(answer, [reference]).score) / 100


def is_refusal(answer: str, refusal: str) -> bool:
    """Whether an answer says that there is no answer; `refusal` is what the model was taught to say then."""
    plain = answer.casefold().replace("\u2019", "'")
    return any(phrase in plain for phrase in REFUSALS) or chrf(answer, refusal) >= MIN_CHRF_TO_REFUSAL


def find_refusal(rows: pl.DataFrame) -> str:
    """What unanswerable questions are to be answered with; empty where the data has none."""
    return str(rows.filter(task="unanswerable")["reference"].mode().max() or "")


def score_texts(rows: pl.DataFrame, refusal: str) -> pl.DataFrame:
    """Rows with the scores of each answer that its text alone decides.

    Null where a score does not go with the task, or there is no answer.
    """
    chrfs, refused = [], []
    for answer, reference, task in rows.select("answer", "reference", "task").iter_rows():
        chrfs.append(chrf(answer, reference) if task == "answer" and answer is not None else None)
        refused.append(is_refusal(answer, refusal) if task != "label" and answer is not None else None)
    return rows.with_columns(
        pl.Series("chrf", chrfs, pl.Float64),
        exact_match=pl.when(task="label").then(pl.col("answer") == pl.col("reference")),
        refused=pl.Series(refused, dtype=pl.Boolean),
    )
