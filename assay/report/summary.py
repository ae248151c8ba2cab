"""The comparison of the approaches, and the rows through the data stages: what `metrics/summary.json` holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.errors import InputError
from assay.report.numbers import number, score
from assay.report.plots import Flow
from assay.statistics.metrics_dict import HIGH, LOW

METRICS = Path("metrics")
SUMMARY = METRICS / "summary.json"
COSTS = METRICS / "cost"
REPORT = Path("report/index.html")
BASELINE_METHODS = ("majority", "tfidf")
SCORES = ("accuracy", "macro_f1", "expected_calibration_error")
SIZES = ("trainable_parameters", "total_parameters", "artefact_mib")
ROW_STAGES = (
    *("ingest", "clean", "embed", "correct", "semantic_duplicates"),
    *("annotation_qa", "split", "label_errors", "augment"),
)
"""Data stages in the order of the DAG."""
FLOW_STAGES = ("ingest", "clean", "correct", "semantic_duplicates", "split", "label_errors", "augment")
"""Those that may change the number of rows."""
Scores = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What the stages measured, by approach or asset, as far as they are switched on and their metrics lie there.

    `stages` are those of the data, `profile`, and the optional ones about labels and augmented examples. `cost` is that
    of `finetune` and `evaluate`. A skipped approach has its reason in `evaluate`, as `left_out`. `not_run` names the
    optional stages that are switched on and did not run on these data and params.
    """

    stages: dict[str, dict[str, Any]]
    finetune: dict[str, dict[str, Any]]
    evaluate: dict[str, dict[str, Any]]
    cost: dict[str, dict[str, Any]]
    robustness: dict[str, dict[str, Any]]
    fetch: dict[str, dict[str, Any]]
    not_run: list[str]


@dataclass(frozen=True)
class Verdict:
    """The approach with the highest macro-F1, and what can be said of it beside the next one."""

    best: str
    sentence: str


def summarise(measured: Measured, methods: Mapping[str, str]) -> dict[str, Any]:
    """What `metrics/summary.json` holds: nothing that a clock measured, so that it is the same again.

    `methods` are those of the approaches compared, in their order in `params.yaml`.

    Raises `InputError`: a metric that the comparison needs is missing.
    """
    kept = ["rows", "seeds", *(name + end for name in SCORES for end in ("", LOW, HIGH))]
    compared = {
        name: {key: _metric(measured.evaluate[name], key, f"evaluate/{name}") for key in kept}
        | {key: _metric(measured.finetune[name], key, f"finetune/{name}") for key in SIZES}
        for name in methods
        if "left_out" not in measured.evaluate[name]
    }
    if not compared:
        raise InputError("params.yaml: no approach of `approaches` could be evaluated; name one that this machine runs")
    return {
        "approaches": {name: one for name, one in compared.items() if methods[name] not in BASELINE_METHODS},
        "baselines": {name: one for name, one in compared.items() if methods[name] in BASELINE_METHODS},
        "left_out": {name: one["left_out"] for name, one in measured.evaluate.items() if "left_out" in one},
        "labels": len(_metric(measured.evaluate[(first := next(iter(compared)))], "per_class", f"evaluate/{first}")),
        "ratings": _metric(measured.stages["annotation_qa"], "ratings", "annotation_qa"),
        "data": {
            stage: {key: _metric(measured.stages[stage], key, stage) for key in ("rows_in", "rows_out", "removed")}
            for stage in ROW_STAGES
        },
    }


def _metric(values: dict[str, Any], key: str, file: str) -> Any:
    try:
        return values[key]
    except KeyError:
        raise InputError(f"{METRICS}/{file}.json: `{key}` is missing; run its stage again: `make repro`") from None


def ranked(summary: dict[str, Any]) -> list[tuple[str, Scores]]:
    """Approaches and baselines by macro-F1, highest first; the same score by name."""
    everything = [*summary["approaches"].items(), *summary["baselines"].items()]
    return sorted(everything, key=lambda item: (-item[1]["macro_f1"], item[0]))


def show_interval(scores: Mapping[str, Any], name: str) -> str:
    """A score and its 95% interval, `–` where there is no such score."""
    if scores.get(name) is None:
        return "–"
    return f"{score(scores[name])} [{score(scores[name + LOW])}, {score(scores[name + HIGH])}]"


def verdict(summary: dict[str, Any]) -> Verdict:
    """Which approach won, by how much over the next, and whether their 95% intervals overlap."""
    (best, first), *others = ranked(summary)
    macro_f1, rows = show_interval(first, "macro_f1"), number(first["rows"])
    opening = f"{best} has the highest macro-F1, {macro_f1} on {rows} test rows"
    if best in summary["baselines"] and summary["approaches"]:
        opening = f"No way of fine-tuning beats the baselines: {opening}"
    if not others:
        return Verdict(best, f"{opening}. There is nothing to compare it with.")
    runner_up, second = others[0]
    difference = score(first["macro_f1"] - second["macro_f1"])
    sure = "The two 95% intervals do not overlap."
    if second["macro_f1" + HIGH] >= first["macro_f1" + LOW]:
        sure = "The two 95% intervals overlap, so this test split alone does not settle which of the two is better."
    return Verdict(best, f"{opening}: {difference} above {runner_up}, {show_interval(second, 'macro_f1')}. {sure}")


def flows(summary: dict[str, Any]) -> list[Flow]:
    """Rows through the data stages, from the raw files to the train rows."""
    bars = [Flow("raw", summary["data"]["ingest"]["rows_in"], 0, 0)]
    train_only = False
    before = bars[0].kept
    for stage in FLOW_STAGES:
        rows = summary["data"][stage]
        train_only = train_only or rows["rows_in"] < before
        # Augmented examples count among the rows that `augment` takes in; it adds those that pass to the rows before.
        made = max(0, rows["rows_out"] - before) if stage == "augment" else 0
        before = rows["rows_out"]
        name = f"{stage} (train)" if train_only else stage
        bars.append(Flow(name, rows["rows_out"] - made, made, sum(rows["removed"].values())))
    return bars
