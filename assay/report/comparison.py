"""Which approaches are best on the test rows, from their predictions in git: `verdicts` of `metrics/summary.json`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.core.errors import InputError
from assay.report.numbers import number, score
from assay.statistics.classification import score_predictions
from assay.statistics.intervals import MIN_SHARE_ROWS, share_estimate
from assay.statistics.metrics_dict import Estimate, interval_metrics
from assay.statistics.predictions import Predictions, predictions_file
from assay.statistics.verdicts import MIN_LABEL_ROWS, SAMPLES, Verdict, best_group, compare_all, score_decided_on

SCORE_NAMES = {"macro_f1": "macro-F1", "accuracy": "accuracy"}


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


def say_verdict(summary: dict[str, Any]) -> str:
    """Which approaches are best, what is not decided, how finely these test rows tell, and what the scores are of."""
    found, everything = summary["verdicts"], summary["approaches"] | summary["baselines"]
    best, group = found["best"], found["best_group"]
    shown, rows = SCORE_NAMES[found["decided_on"]], number(everything[best]["rows"])
    opening = f"{best} has the highest {shown}, {score(everything[best][found['decided_on']])} on {rows} test rows"
    if best in summary["baselines"] and summary["approaches"]:
        opening = f"No way of fine-tuning is above the baselines: {opening}"
    parts = [f"{opening}."]
    if len(everything) == 1:
        parts = [f"{opening}; there is nothing to compare it with."]
    elif len(group) == 1:
        parts.append("It is better than each of the others.")
    else:
        others = ", ".join(name for name in group if name != best)
        parts.append(f"Not decided against it, and so as good as far as these rows tell: {others}.")
    if (least := found["minimum_detectable_difference"]) is not None:
        parts.append(f"This test set finds a true difference of {score(least)} in four of five cases.")
    if few := summary["few_test_rows"]:
        named = ", ".join(f"{label} ({number(rows)})" for label, rows in list(few.items())[:3])
        decides = ": macro-F1 has no interval, and accuracy decides" if found["decided_on"] == "accuracy" else ""
        more = ", …" if len(few) > 3 else ""
        labels = f"{number(len(few))} of {number(summary['labels'])} labels"
        parts.append(f"{labels} have under {MIN_LABEL_ROWS} test rows ({named}{more}){decides}.")
    single = [name for name, one in summary["approaches"].items() if one["seeds"] == 1]
    if single:
        parts.append(f"Settings by hand, one seed: {', '.join(single)}; another seed may change the order.")
    return " ".join(parts)
