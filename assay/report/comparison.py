"""Which approaches are best on the test rows, from their predictions in git, and what people score on the same rows.

They are `verdicts`, `per_source` and `raters` of `metrics/summary.json`. Raters are the human scale: one against the
target label, and half of a row's raters against the other half. The target of the default data is made of the same
ratings, one rater's among them, which flatters the first a little.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.core.errors import InputError
from assay.report.numbers import number, score
from assay.statistics.classification import score_predictions
from assay.statistics.intervals import MIN_SHARE_ROWS, Integers, share_estimate
from assay.statistics.metrics_dict import Estimate, interval_metrics, metrics_of
from assay.statistics.predictions import Predictions, predictions_file
from assay.statistics.verdicts import MIN_LABEL_ROWS, SAMPLES, Verdict, best_group, compare_all, score_decided_on

SCORE_NAMES = {"macro_f1": "macro-F1", "accuracy": "accuracy"}
VERDICT = jinja2.Template(Path(__file__).with_name("verdict.jinja").read_text(encoding="utf-8"))
DRAWS = 20
"""Raters drawn for each row, and divisions into halves; the scores are their means."""


def compare_approaches(predictions: Mapping[str, Predictions], random: np.random.Generator) -> dict[str, Any]:
    """The score that decides, the best approach, those not decided against it, and each one's difference to it.

    Raises `InputError`: the approaches were not evaluated on the same rows.
    """
    name, first = next(iter(predictions.items()))
    for other, one in predictions.items():
        if (one.rows, one.label.tolist(), one.labels) != (first.rows, first.label.tolist(), first.labels):
            raise InputError(
                f"{predictions_file(other)}: other test rows or labels than {predictions_file(name)}; run"
                f" `.venv/bin/dvc repro --force --single-item evaluate@{name} evaluate@{other}`"
            )
    rows, clusters = first.label, first.clusters()
    decided_on = score_decided_on(rows, *(one.predicted for one in predictions.values()))
    scores = {name: score_predictions(rows, one.predicted, clusters) for name, one in predictions.items()}
    # The best comes last, so that each pair with it is a difference to it; the same score in the order of names.
    ordered = sorted(predictions, key=lambda name: (-scores[name][decided_on].value, name))[::-1]
    predicted = {name: predictions[name].predicted for name in ordered}
    verdicts = compare_all(rows, predicted, clusters, SAMPLES, random)
    best = ordered[-1]
    group = best_group(verdicts, best)[::-1]
    to_best = {name: verdicts[name, best] for name in ordered[-2::-1]}
    # How finely those that are tied are told apart; of one best approach, how finely all others are.
    detectable = [
        one.comparison.decisive().minimum_detectable
        for name, one in to_best.items()
        if group == [best] or name in group
    ]
    return {
        "decided_on": decided_on,
        "pairs": len(verdicts),
        "best": best,
        "best_group": group,
        "minimum_detectable_difference": max((one for one in detectable if one is not None), default=None),
        "to_best": {name: _verdict_metrics(one) for name, one in to_best.items()},
    }


def _verdict_metrics(verdict: Verdict) -> dict[str, Any]:
    found = verdict.comparison.decisive()
    return interval_metrics("difference", found) | {"p": found.p, "p_holm": verdict.adjusted_p, "verdict": verdict.word}


def score_sources(predictions: Mapping[str, Predictions]) -> dict[str, dict[str, Any]]:
    """Test rows and accuracy of each source by approach; from 30 rows on with an interval."""
    first = next(iter(predictions.values()))
    found = {}
    for place, source in enumerate(first.sources):
        of_it = first.source == place
        groups, rows = first.clusters()[of_it], int(of_it.sum())
        scores = {}
        for name, one in predictions.items():
            right = (one.predicted == one.label).mean(axis=0)[of_it]
            estimate = share_estimate(right, groups)
            enough = rows >= MIN_SHARE_ROWS
            scores[name] = interval_metrics("accuracy", estimate if enough else Estimate(estimate.value, None, None))
        found[source] = {"rows": rows, "approaches": scores}
    return found


def score_raters(
    test: pl.DataFrame, ratings: pl.DataFrame, groups: Integers, random: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Macro-F1 and accuracy with intervals of `one_rater` and `half_of_raters`; empty without rows of two ratings.

    `test` has `id` and `target_label`, `ratings` `id` and `label`, a row for each; groups are those of the test rows. A
    half has as many ratings as the other, and says what most of them say; at a tie the label that more of all ratings
    give.
    """
    rated = ratings.filter(pl.col("label").is_not_null()).join(
        test.with_row_index("row").select("id", "row", "target_label"), on="id", maintain_order="left"
    )
    rated = rated.filter(pl.len().over("row") > 1)
    if rated.is_empty():
        return {}
    names = sorted({*rated["label"], *rated["target_label"]})
    kept, row = np.unique(rated["row"].to_numpy(), return_inverse=True)
    label = rated["label"].replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
    target = test["target_label"].gather(kept).replace_strict(names, range(len(names)), return_dtype=pl.Int64)
    tie_break = np.bincount(label, minlength=len(names)) / (len(label) + 1)
    half = np.bincount(row) // 2

    def vote(chosen: NDArray[np.bool_]) -> Integers:
        votes = np.zeros((len(kept), len(names)))
        np.add.at(votes, (row[chosen], label[chosen]), 1)
        return np.asarray((votes + tie_break).argmax(axis=1))

    drawn = []
    for _ in range(DRAWS):
        # The place of each rating among those of its row, in a random order.
        order = np.lexsort((random.random(len(row)), row))
        place = np.empty(len(row), dtype=np.int64)
        place[order] = np.arange(len(row)) - np.searchsorted(row[order], row[order])
        ends = half[row]
        drawn.append((vote(place == 0), vote(place < ends), vote((place >= ends) & (place < 2 * ends))))
    one, first, second = (np.stack(each) for each in zip(*drawn, strict=True))
    scores = {
        "one_rater": score_predictions(target.to_numpy(), one, groups[kept]),
        "half_of_raters": score_predictions(first, second, groups[kept]),
    }
    return {name: {"rows": len(kept)} | metrics_of(found) for name, found in scores.items()}


def say_verdict(summary: dict[str, Any]) -> str:
    """Which approaches are best, what is not decided, how finely these test rows tell, and what the scores are of."""
    everything = summary["approaches"] | summary["baselines"]
    names = {"number": number, "score": score, "score_names": SCORE_NAMES, "min_label_rows": MIN_LABEL_ROWS}
    return str(VERDICT.render(summary, everything=everything, **names))
