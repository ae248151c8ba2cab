"""How well the redaction rules that are on find personal data, planted in clean rows."""

from typing import Any

import numpy as np
import polars as pl

from assay.cleaning.rule_chain import with_settings
from assay.cleaning.rules import RULES, CleanParams
from assay.personal_data.pii_benchmark import plant, score
from assay.text.prefilter import evaluated

REDACTION = "redact_"
PLANTED_AMONG_ROWS = 2_000
"""Personal data is planted in this many rows at most."""


def score_redaction(
    texts: pl.Series, params: CleanParams, random: np.random.Generator, seed: int
) -> dict[str, dict[str, Any]]:
    """Precision and recall, by kind, of the redaction rules that are on, be it for some sources alone.

    `random` draws the rows in which to plant, `seed` is that of the values and their places.
    """
    settings = params.rule_settings.model_dump()
    rules = {
        name.removeprefix(REDACTION): with_settings(RULES[name], settings)
        for name, where in params.rules.items()
        if where and name.startswith(REDACTION) and name in RULES
    }
    if not rules:
        return {}
    rows = np.sort(random.permutation(len(texts))[:PLANTED_AMONG_ROWS])
    planted = plant(texts.gather(rows), params.planted_rows_per_kind, seed)

    def redact(texts: pl.Series) -> pl.Series:
        for rule in rules.values():
            texts = evaluated(texts, rule)
        return texts

    scores = score(planted, redact)
    return {kind: scores[kind] for kind in rules if kind in scores}
