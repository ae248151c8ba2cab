"""The scores of the approaches, and the rows through the data stages: what `metrics/summary.json` holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.errors import InputError
from assay.fine_tuning.params import BASELINES
from assay.report.numbers import score
from assay.statistics.metrics_dict import HIGH, LOW, estimate_of

METRICS = Path("metrics")
SUMMARY = METRICS / "summary.json"
COSTS = METRICS / "cost"
REPORT = Path("report/index.html")
SCORES = ("macro_f1", "accuracy", "brier_score", "log_loss")
CALIBRATION = tuple(f"calibration_error{end}" for end in ("", "_if_calibrated", "_if_calibrated_95pct"))
ENDS = tuple(name + end for name in SCORES for end in (LOW, HIGH, "_without_ci95"))
TRAINED = ("trainable_parameters", "total_parameters", "artefact_mib", "last_epoch_gain")
ROW_STAGES = (
    *("ingest", "clean", "embed", "correct", "semantic_duplicates"),
    *("annotation_qa", "split", "label_errors", "augment"),
)
"""Data stages in the order of the DAG."""
Scores = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What the stages measured, by approach or asset, as far as they are switched on and their metrics lie there.

    `stages` are those of the data, and `profile`. `cost` is that of `finetune` and
    `evaluate`. A skipped approach has its reason in `evaluate`, as `left_out`. `not_run` names the optional stages that
    are switched on and did not run on these data and params.
    """

    stages: dict[str, dict[str, Any]]
    finetune: dict[str, dict[str, Any]]
    evaluate: dict[str, dict[str, Any]]
    cost: dict[str, dict[str, Any]]
    robustness: dict[str, dict[str, Any]]
    fetch: dict[str, dict[str, Any]]
    not_run: list[str]


def summarise(measured: Measured, methods: Mapping[str, str]) -> dict[str, Any]:
    """What `metrics/summary.json` holds: nothing that a clock measured, so that it is the same again.

    `methods` are those of the approaches compared, in their order in `params.yaml`.

    Raises `InputError`: a metric that the comparison needs is missing.
    """
    compared = {
        name: {
            key: _metric(measured.evaluate[name], key, f"evaluate/{name}")
            for key in ("rows", "seeds", *SCORES, *CALIBRATION)
        }
        | {key: found for key in ENDS if (found := measured.evaluate[name].get(key)) is not None}
        | seed_range(_metric(measured.evaluate[name], "per_seed", f"evaluate/{name}"))
        | {key: _metric(measured.finetune[name], key, f"finetune/{name}") for key in TRAINED}
        for name in methods
        if "left_out" not in measured.evaluate[name]
    }
    if not compared:
        raise InputError("params.yaml: no approach of `approaches` could be evaluated; name one that this machine runs")
    return {
        "approaches": {name: one for name, one in compared.items() if methods[name] not in BASELINES},
        "baselines": {name: one for name, one in compared.items() if methods[name] in BASELINES},
        "left_out": {name: one["left_out"] for name, one in measured.evaluate.items() if "left_out" in one},
        "labels": len(_metric(measured.evaluate[(first := next(iter(compared)))], "per_class", f"evaluate/{first}")),
        "few_test_rows": _metric(measured.evaluate[first], "few_test_rows", f"evaluate/{first}"),
        "ratings": _metric(measured.stages["annotation_qa"], "ratings", "annotation_qa"),
        "data": {
            stage: {key: _metric(measured.stages[stage], key, stage) for key in ("rows_in", "rows_out", "removed")}
            for stage in ROW_STAGES
        },
    }


def seed_range(per_seed: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The least and the greatest macro-F1 and accuracy of several seeds: a spread, no interval; of one seed nothing."""
    ends = (("_seed_min", min), ("_seed_max", max)) if len(per_seed) > 1 else ()
    return {
        f"{name}{end}": of(one[name] for one in per_seed.values())
        for name in ("macro_f1", "accuracy")
        for end, of in ends
    }


def _metric(values: dict[str, Any], key: str, file: str) -> Any:
    try:
        return values[key]
    except KeyError:
        raise InputError(f"{METRICS}/{file}.json: `{key}` is missing; run its stage again: `make repro`") from None


def ranked(summary: dict[str, Any]) -> list[tuple[str, Scores]]:
    """Approaches and baselines by the score that decides, highest first; the same score by name."""
    everything = summary["approaches"] | summary["baselines"]
    return [(name, everything[name]) for name in (summary["verdicts"]["best"], *summary["verdicts"]["to_best"])]


def show_interval(scores: Mapping[str, Any], name: str) -> str:
    """A score and its 95% interval as far as it has one, `–` where there is no such score."""
    if (found := estimate_of(scores, name)) is None:
        return "–"
    ends = "" if found.low is None or found.high is None else f" [{score(found.low)}, {score(found.high)}]"
    return score(found.value) + ends
