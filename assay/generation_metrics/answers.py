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


def score_texts(rows: pl.DataFrame, refusal: str) -> pl.DataFrame:
    """Rows with the scores of each answer that its text alone decides.

    Null where a score does not go with the task, or there is no answer.
    """
    found = [
        {
            "chrf": chrf(answer, reference) if task == "answer" and answer is not None else None,
            "exact_match": same_label(answer, reference) if task == "label" and answer is not None else None,
            "refused": is_refusal(answer, refusal) if task != "label" and answer is not None else None,
        }
        for answer, reference, task in rows.select("answer", "reference", "task").iter_rows()
    ]
    schema = {"chrf": pl.Float64, "exact_match": pl.Boolean, "refused": pl.Boolean}
    return rows.hstack(pl.DataFrame(found, schema=schema))
