"""What each section of the report shows: from metrics and tables to the values of the template.

A function named after a section gives the values that the section needs; `shown` values are the first rows of tables.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import polars as pl

from assay.core.results import lookup
from assay.report import plots
from assay.report.augmentation import show_attacks
from assay.report.examples import drop_redacted, examples_by_rule
from assay.report.numbers import number, score
from assay.report.summary import ranked, show_interval
from assay.report.wording import AGREEMENT, GRADES, PROFILED, RATERS, SHOWN_REMOVALS
from assay.statistics.intervals import MIN_SHARE_ROWS, wilson_estimate
from assay.statistics.metrics_dict import estimate_of, interval_metrics

MAX_PAIRS = 10
"""Pairs of semantic duplicates shown."""
MAX_ROWS = 10
"""Rows shown of a table; and groups of near-duplicates with differing labels."""
MAX_ROWS_OF_A_GROUP = 5
Tables = Mapping[str, pl.DataFrame]
Values = dict[str, Any]


def comparison(summary: dict[str, Any], costs: Mapping[str, Values], evaluated: Mapping[str, Values]) -> Values:
    """Scores and costs of every approach; of some there may be no costs."""
    rows = ranked(summary)

    def intervals(name: str) -> list[plots.Interval]:
        found = ((approach, estimate_of(scores, name)) for approach, scores in rows)
        return [
            plots.Interval(of, one.value, one.low, one.high, of in summary["baselines"]) for of, one in found if one
        ]

    points = [
        (costs[one.name]["train_seconds"], one)
        for one in intervals("macro_f1")
        if "train_seconds" in costs.get(one.name, {})
    ]
    x_label = "training time, seconds (logarithmic)"
    return {
        "ranked": rows,
        "compared": comparison_rows(summary),
        "costs": {name: evaluated[name] | costs.get(name, {}) for name, _ in rows},
        "score_plots": {
            "Macro-F1": plots.dot_and_interval(intervals("macro_f1"), "Macro-F1 with 95% intervals"),
            "Accuracy": plots.dot_and_interval(intervals("accuracy"), "Accuracy with 95% intervals"),
        },
        "cost_plot": plots.log_scatter(points, x_label, "macro-F1", "Macro-F1 against training time")
        if points
        else None,
    }


def comparison_rows(summary: dict[str, Any]) -> list[list[str]]:
    """One row per approach and baseline, best first, then the raters: name, macro-F1 and accuracy with their intervals,
    the difference to the best with its paired interval, Holm's p, and the verdict."""
    found, rows = summary["verdicts"], []
    for name, scores in ranked(summary):
        shown = f"{name} (baseline)" if name in summary["baselines"] else name
        beside = ["–", "–", "best"]
        if to_best := found["to_best"].get(name):
            p = "< 0.001" if to_best["p_holm"] < 0.001 else f"{to_best['p_holm']:.3f}"
            beside = [show_interval(to_best, "difference"), p, to_best["verdict"]]
        rows.append((shown, scores, beside))
    rows += [(RATERS[name], scores, ["–"] * 3) for name, scores in summary["raters"].items()]
    return [[name, *(show_interval(of, key) for key in ("macro_f1", "accuracy")), *beside] for name, of, beside in rows]


def errors(best: str, evaluated: Values, predictions: pl.DataFrame) -> Values:
    """Where the best approach is wrong, from its metrics of `evaluate` and its `actual` and `predicted` labels."""
    labels, counts = count_confusions(predictions)
    return {
        "heat_map": plots.confusion_heat_map(labels, counts, f"Confusion matrix of {best}"),
        "per_class": [
            (label, score(scores["f1"]), *show_shares(label, labels, counts), number(scores["support"]))
            for label, scores in sorted(evaluated["per_class"].items(), key=lambda item: (item[1]["f1"], item[0]))
        ],
    }


def show_shares(label: str, labels: list[str], counts: list[list[int]]) -> tuple[str, str]:
    """Precision and recall of a label by the confusion matrix, with Wilson's intervals; a count where rows are few."""
    if label not in labels:
        return "0 of 0", "0 of 0"
    place = labels.index(label)
    right = counts[place][place]

    def show(rows: int) -> str:
        if rows < MIN_SHARE_ROWS:
            return f"{right} of {rows}"
        return show_interval(interval_metrics("share", wilson_estimate(right, rows)), "share")

    return show(sum(row[place] for row in counts)), show(sum(counts[place]))


def count_confusions(rows: pl.DataFrame) -> tuple[list[str], list[list[int]]]:
    """The labels, and the rows by `actual` and `predicted` label, shape `(k, k)`."""
    labels = sorted({*rows["actual"], *rows["predicted"]})
    counts = Counter(rows.select("actual", "predicted").iter_rows())
    return labels, [[counts[actual, predicted] for predicted in labels] for actual in labels]


def collection(tables: Tables, stages: Mapping[str, Values]) -> Values:
    """What was collected, source by source, and how far its annotators agree."""
    return {
        "profile": stages["profile"],
        "profiled": profile_table(stages["profile"]),
        "sources": tables["sources"].to_dicts(),
        "least_similar": tables["least_alike"].head(MAX_ROWS).to_dicts(),
        "semantic_pairs": tables["semantic_pairs"].head(MAX_PAIRS).to_dicts(),
        "agreement": explain(stages["annotation_qa"], AGREEMENT),
        "disputed": tables["disagreement"].head(MAX_ROWS).to_dicts(),
    }


def profile_table(profile: Values) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The profile as a table: the names of its columns (`all`, then every source), and a row for each of `PROFILED`."""
    columns = {"all": profile} | profile.get("per_source", {})
    rows = []
    for key, name in PROFILED.items():
        cells = [_profiled(lookup(values, key)) for values in columns.values()]
        if any(cell != "–" for cell in cells):
            rows.append((name, cells))
    return list(columns), rows


def _profiled(found: Any) -> str:
    if isinstance(found, dict):
        return ", ".join(number(found[quantile]) for quantile in ("q05", "q50", "q95"))
    return number(found)


def cleaning(tables: Tables, examples_per_rule: int) -> Values:
    """Examples of what each cleaning rule changed and removed, and near-duplicates whose labels differ."""
    changed = tables["changed"]
    kept = tables["records"].select(pl.col("id").alias("kept_id"), pl.col("text").alias("after"))
    removed = tables["removed"].drop("after").join(kept, on="kept_id", how="left")
    may_be_shown = removed.filter(pl.col("rule").is_in(SHOWN_REMOVALS))
    return {
        "changed": examples_by_rule(changed, drop_redacted(changed), examples_per_rule),
        "removed": examples_by_rule(removed, may_be_shown, examples_per_rule),
        "conflicts": conflicts(tables["duplicate_groups"], MAX_ROWS),
    }


def conflicts(groups: pl.DataFrame, at_most: int) -> list[list[dict[str, Any]]]:
    """The largest groups of near-duplicates whose labels differ: for each its rows, the kept one first."""
    found = groups.filter("labels_differ").with_columns(rows=pl.len().over("near_duplicate_group"))
    ordered = found.sort("rows", "near_duplicate_group", "is_kept", descending=[True, False, True], maintain_order=True)
    parts = ordered.partition_by("near_duplicate_group", maintain_order=True)
    return [group.head(MAX_ROWS_OF_A_GROUP).to_dicts() for group in parts[:at_most]]


def explain(values: Values, explanations: Mapping[str, tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Metrics that are there as (name, value with its interval, meaning), by the dotted paths that are explained."""
    rows = []
    for key, (name, means) in explanations.items():
        parent, _, last = key.rpartition(".")
        found = lookup(values, parent) if parent else values
        if isinstance(found, dict) and found.get(last) is not None:
            rows.append((name, show_interval(found, last), means))
    return rows


def label_errors(tables: Tables, stages: Mapping[str, Values]) -> Values:
    """Label errors found, and how well."""
    return {
        "grades": explain(stages["label_errors"], GRADES),
        "flagged": flagged_rows(tables["label_scores"], tables["records"], MAX_ROWS),
    }


def flagged_rows(scores: pl.DataFrame, records: pl.DataFrame, at_most: int) -> list[dict[str, Any]]:
    """The flagged label errors of lowest quality: text, given, suggested and reference label, quality."""
    return (
        scores.filter("is_label_error")
        .sort("label_quality", "id")
        .head(at_most)
        .select("id", "label", "suggested_label", "label_quality")
        .join(records.select("id", "text", "reference_label"), on="id", how="left", maintain_order="left")
        .to_dicts()
    )


def robustness(found: Mapping[str, Values], attacks: Tables, summary: dict[str, Any]) -> Values:
    """What typing errors, other words and attacks do to each approach, by its metrics and how its attacks ended."""
    measured = {name: found[name] for name, _ in ranked(summary) if name in found}
    attacks = {name: attacks[name] for name in measured if name in attacks}
    recipes, names = (
        list(dict.fromkeys(name for one in measured.values() for name in one[kind]))
        for kind in ("perturbations", "attacks")
    )
    return {
        "perturbed": recipes,
        "robustness": measured,
        "attacks": names,
        "attack_examples": show_attacks(attacks, names),
    }
