"""Where the best approach errs on test rows: by slice, by pair of labels, and where it is sure and wrong.

A slice is set against all other test rows by Fisher's exact test, corrected by Holm for all slices tested: of many
slices one always looks bad. Predictions are those of the first seed's model. Numbers go to `metrics/summary.json`,
texts to the page alone.
"""

from typing import Any

import numpy as np
import polars as pl

from assay.core.removed_rows import counts_by_rule
from assay.statistics.intervals import MIN_SHARE_ROWS, Floats, Integers, share_estimate
from assay.statistics.metrics_dict import interval_metrics
from assay.statistics.predictions import hash_name
from assay.statistics.verdicts import LEVEL, fisher_in_groups, holm
from assay.text.language import detect_languages

MAX_ROWS = 10
"""Pairs, mistakes and contradicted rows shown."""
MAX_EXAMPLES = 3
"""Texts shown of a pair of labels, drawn by hash."""
Values = dict[str, Any]


def slice_rows(test: pl.DataFrame, min_language_probability: float) -> pl.DataFrame:
    """The slice of each test row in each way to slice them; lengths at the tertiles, rare languages together."""
    length, guess = test["text"].str.len_chars(), detect_languages(test["text"])
    low, high = (int(length.quantile(share, "nearest") or 0) for share in (1 / 3, 2 / 3))
    lengths = [f"at most {low} characters", f"{low + 1} to {high} characters", f"over {high} characters"]
    is_sure = guess["probability"] >= min_language_probability
    guess = guess.with_columns(language=pl.when(is_sure).then("language").otherwise(pl.lit("undetermined")))
    is_common = (pl.len().over("language") >= MIN_SHARE_ROWS) | (pl.col("language") == "undetermined")
    in_group = pl.any_horizontal(pl.len().over(f"{kind}_group") > 1 for kind in ("near_duplicate", "semantic"))
    return test.select(
        "source",
        length=pl.Series(lengths, dtype=pl.Enum(lengths)).gather((length > low).cast(pl.UInt32) + (length > high)),
        language=guess.select(pl.when(is_common).then("language").otherwise(pl.lit("other languages"))).to_series(),
        true_label="target_label",
        duplicates=pl.when(in_group).then(pl.lit("has a near or semantic duplicate")).otherwise(pl.lit("alone")),
    )


def compare_slices(wrong: Floats, slices: pl.DataFrame, groups: Integers) -> dict[str, dict[str, Values]]:
    """Rows, errors, error rate, its difference to all other rows and a verdict, by way to slice and slice.

    `wrong` (0 or 1) and groups are of shape `(n,)`. Where all rows are in one slice there is none. Under
    `MIN_SHARE_ROWS` rows have a count alone; a test takes as many on both sides.
    """
    found: dict[str, dict[str, Values]] = {}
    for way in slices.columns:
        names = slices[way].unique().sort().to_list()
        found[way] = {}
        for name in names if len(names) > 1 else ():
            inside = (slices[way] == name).to_numpy()
            one = found[way][name] = {"rows": int(inside.sum()), "errors": int(wrong[inside].sum())}
            if one["rows"] >= MIN_SHARE_ROWS:
                one |= interval_metrics("error_rate", share_estimate(wrong[inside], groups[inside]))
            if MIN_SHARE_ROWS <= one["rows"] <= len(wrong) - MIN_SHARE_ROWS:
                one["difference"] = float(wrong[inside].mean() - wrong[~inside].mean())
                one["p"] = fisher_in_groups(wrong, inside, groups)
    tested = [one for of_way in found.values() for one in of_way.values() if "p" in one]
    for one, p in zip(tested, holm([one["p"] for one in tested]), strict=True):
        decided = "more errors" if one["difference"] > 0 else "fewer errors"
        one |= {"p_holm": p, "verdict": decided if p < LEVEL else "not decided"}
    return found


def count_confused(predicted: pl.DataFrame, groups: Integers) -> dict[str, Values]:
    """The pairs `target → predicted` that are confused most: errors, and their share of the target's rows."""
    target, label = predicted["target_label"], predicted["predicted_label"]
    pairs = predicted.filter(target != label).group_by("target_label", "predicted_label").len("errors")
    found = {}
    for true, other, errors in pairs.sort(-pl.col("errors").cast(pl.Int64), pl.all()).head(MAX_ROWS).iter_rows():
        inside = (target == true).to_numpy()
        one = found[f"{true} → {other}"] = {"errors": errors, "rows": int(inside.sum())}
        if one["rows"] >= MIN_SHARE_ROWS:
            one |= interval_metrics("share", share_estimate((label == other).to_numpy()[inside] * 1.0, groups[inside]))
    return found


def summarise_errors(
    predicted: pl.DataFrame, slices: pl.DataFrame, groups: Integers, denied: pl.DataFrame | None, decided: pl.DataFrame
) -> Values:
    """`error_analysis` of `metrics/summary.json`, of `predictions.parquet` and its slices and groups, row by row.

    `denied` is of `list_contradicted`; `decided` has the `rule` of each decision of people about a test row's label.
    """
    wrong = (predicted["target_label"] != predicted["predicted_label"]).to_numpy().astype(np.float64)
    found = compare_slices(wrong, slices, groups)
    return {
        "rows": predicted.height,
        "errors": int(wrong.sum()),
        "slices_tested": sum("p" in one for of_way in found.values() for one in of_way.values()),
        "slices": {way: of_way for way, of_way in found.items() if of_way},
        "not_sliced": {way: slices[way][0] for way, of_way in found.items() if not of_way},
        "confused": count_confused(predicted, groups),
        "contradicted_by_all": None if denied is None else denied.height,
        "decided_by_people": counts_by_rule(decided),
    }


def show_errors(predicted: pl.DataFrame, denied: pl.DataFrame | None) -> Values:
    """Texts for the page: examples of each pair, the mistakes that are surest, and the first contradicted rows."""
    wrong = predicted.filter(pl.col("target_label") != pl.col("predicted_label"))
    drawn = wrong.sort(pl.Series([hash_name(one) for one in wrong["id"]], dtype=pl.String))
    examples: dict[str, list[str]] = {}
    for target, label, text in drawn.select("target_label", "predicted_label", "text").iter_rows():
        examples.setdefault(f"{target} → {label}", []).append(text)
    return {
        "confused_texts": {pair: texts[:MAX_EXAMPLES] for pair, texts in examples.items()},
        "mistakes": wrong.sort(-pl.col("confidence"), "id").head(MAX_ROWS).to_dicts(),
        "contradicted": [] if denied is None else denied.head(MAX_ROWS).to_dicts(),
    }
