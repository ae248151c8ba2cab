"""What is said of data before any training."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from assay.annotation.agreement import krippendorff_alpha_nominal, label_counts
from assay.annotation.consensus import number_values
from assay.text.language import UNDETERMINED, detect_languages

ROWS_SHOWN, CHARACTERS_SHOWN, NAMES_SHOWN = 10, 90, 6
FEW_ROWS = 10
"""Of a label: with fewer, a split may have none."""
SMALL_TEST = 100
"""Rows of a label that give some 20 test rows; with fewer there is no interval of macro-F1."""
CHARACTERS_PER_TOKEN = 4
SAMPLE = 300
"""Texts whose language is looked at."""


def show_rows(rows: pl.DataFrame) -> str:
    """Ten rows of a sample, a line each; control characters are escaped."""
    spread = rows.cast(pl.String).sample(min(ROWS_SHOWN, rows.height), seed=0)
    return "\n".join(
        "  " + " | ".join("–" if cell is None else repr(cell)[1:-1][:CHARACTERS_SHOWN] for cell in row)
        for row in [spread.columns, *spread.rows()]
    )


def some(values: Sequence[str]) -> str:
    """The first values, and how many more there are."""
    more = len(values) - NAMES_SHOWN
    return ", ".join(values[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def warn_of_labels(rows: pl.DataFrame, rows_in: int, joined: pl.DataFrame) -> list[str]:
    """What will not go well with the labels of `rows` (`text`, `label`), of `rows_in`; `joined` as of `join_forms`."""
    labels = rows["label"].drop_nulls()
    counts = labels.value_counts().sort("count", "label")
    few = [f"{label!r} ({count})" for label, count in counts.rows() if count < FEW_ROWS]
    # Of a division that the data bring, the test rows are as many as they are.
    free = counts.head(0) if "given_split" in rows.columns else counts
    small = free.filter(pl.col("count").is_between(FEW_ROWS, SMALL_TEST - 1)).height
    no_text, no_label = rows_in - rows.height, rows["label"].null_count()
    forms = [f"{form!r} ({times} rows) as {kept!r}" for form, kept, times in joined.rows()]
    texts = rows.group_by(pl.col("text").str.strip_chars()).agg(pl.len(), pl.col("label").drop_nulls().n_unique())
    differ, repeats = texts.filter(pl.col("label") > 1).height, rows.height - texts.height
    said = {
        f"{no_text} of {rows_in} rows ({no_text / rows_in:.0%}) have no text, or cannot be read, and go": no_text,
        f"{no_label} rows ({no_label / rows.height:.0%}) have no label, and go": no_label,
        f"{counts.height} labels in {len(labels)} rows: ids, or free text?": 2 * counts.height > len(labels),
        f"look-alike labels: {some(forms)}; they are joined (`ingest.forms.labels`)": forms,
        f"labels with under {FEW_ROWS} rows: {some(few)}; one that cannot be in every split is removed": few,
        f"{small} labels have under {SMALL_TEST} rows: with so few test rows macro-F1 has no interval": small,
        f"{repeats} rows repeat a text; of those with one label, one stays": repeats,
        f"{differ} texts have several labels": differ,
    }
    return [sentence for sentence, holds in said.items() if holds]


def warn_of_texts(texts: pl.Series, params: dict[str, Any], key: str, max_tokens: int) -> list[str]:
    """What will not go well with the texts: language, and length beside the tokens that `key` of the params allows."""
    sample = texts.gather_every(max(1, len(texts) // SAMPLE)).head(SAMPLE)
    language, count = (
        detect_languages(sample)["language"].value_counts().sort("count", "language", descending=[True, False]).row(0)
    )
    known, encoder = params["profile"]["encoder_languages"], params["embed"]["model"]
    longest = params["clean"]["max_characters"]
    is_foreign, lengths = known and language not in (*known, UNDETERMINED), texts.str.len_chars()
    long, removed = (lengths > CHARACTERS_PER_TOKEN * max_tokens).sum(), (lengths > longest).sum()
    said = {
        f"{count} of {len(sample)} texts are in {language!r}, and the encoder {encoder} speaks {known}: "
        "counts of words (`tfidf`) may do better; another: docs/your_data.md": is_foreign,
        f"{long} texts are longer than some {max_tokens} tokens: see `{key}`": 10 * long > len(texts),
        f"{removed} texts are longer than {longest:,} characters: `clean` removes them": removed,
        f"{len(texts)} texts are too few to tell approaches apart": len(texts) < SMALL_TEST,
    }
    return [sentence for sentence, holds in said.items() if holds]


def warn_of_raters(ratings: pl.DataFrame, gate: float | None) -> tuple[list[str], dict[str, Any]]:
    """What is said of ratings (`id`, `label`), and values of `annotation_qa`: order of numbers, no gate that stops."""
    labels = ratings["label"].drop_nulls().unique().to_list()
    is_ordered = len(labels) > 2 and all(re.fullmatch(r"-?\d+", label) for label in labels)
    values: dict[str, Any] = {"annotation_qa.label_order": sorted(labels, key=int)} if is_ordered else {}
    counts = label_counts(number_values(ratings["id"]), number_values(ratings["label"])) if labels else None
    if counts is None or gate is None or not len(counts.ratings):
        return [], values
    alpha = float(krippendorff_alpha_nominal(counts, np.ones((len(counts.ratings), 1)))[0])
    if alpha >= gate:
        return [], values
    said = f"the raters agree little: Krippendorff's alpha is {alpha:.2f}, below the gate {gate}, which is taken away"
    return [said], values | {"annotation_qa.min_krippendorff_alpha": None}
