"""Which way of fine-tuning won, by how much, at what cost, and what happened to the data on the way.

Decides nothing: it compares what the other stages measured.

Reads the metrics of every stage, `metrics/plots/confusion/<approach>.csv`, `data/clean/` and `data/label_errors/`;
writes `metrics/summary.json` (every approach and baseline with its scores and costs, rows in and out by stage) and
`report/index.html`, one page without scripts that needs no network and is the same, byte for byte, for the same inputs.

1. Approaches are ranked by macro-F1 on the test split. That two 95% intervals overlap, or do not, is said and no more:
   it is no test of the difference, since all approaches are scored on the same rows.
2. What may be shown of a text is decided in `assay/report/examples.py`.
"""

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field

from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json, write_json, write_text
from assay.core.params import Params, load_params
from assay.report.augmentation import attack_examples, attack_names, changes, copy_examples, recipe_copies
from assay.report.examples import cut, examples_by_rule, visible, without_redacted
from assay.report.language_models import DIFFERENCES, read_generation
from assay.report.plots import (
    Flow,
    Interval,
    Point,
    before_and_after,
    confusion_heat_map,
    counted_bars,
    dot_and_interval,
    log_scatter,
    number,
    row_flow,
    score,
    waterfall,
)

METRICS = Path("metrics")
SUMMARY = METRICS / "summary.json"
REPORT = Path("report/index.html")
TEMPLATE = Path(__file__).parents[1] / "assay/report/template.html"
CLEAN = Path("data/clean")
LABEL_ERRORS = Path("data/label_errors")
DISAGREEMENT = Path("data/annotation_qa/disagreement.parquet")
PROFILE = Path("data/profile")
SEMANTIC = Path("data/semantic_duplicates")
COPIES = Path("data/augmented/pairs.csv")
ATTACKS = Path("data/robustness")

BASELINE_METHODS = ("majority", "tfidf")
SCORES = ("accuracy", "macro_f1", "expected_calibration_error")
COSTS = ("train_seconds", "peak_memory_mib", "trainable_parameters", "total_parameters", "artefact_mib")
ROW_STAGES = (
    "ingest",
    "clean",
    "embed",
    "correct",
    "semantic_duplicates",
    "annotation_qa",
    "split",
    "label_errors",
    "augment",
)
"""Data stages in the order of the DAG."""
LABEL_STAGES = ("injected_noise", "label_effect", "augment_quality")
"""Stages that measure and leave the rows as they are."""
FLOW_STAGES = ("ingest", "clean", "correct", "semantic_duplicates", "split", "label_errors", "augment")
"""Those that may change the number of rows."""
LIBRARIES = (
    "accelerate",
    "bitsandbytes",
    "cleanlab",
    "dvc",
    "nltk",
    "numpy",
    "peft",
    "polars",
    "scikit-learn",
    "textattack",
    "torch",
    "transformers",
    "trl",
)
MAX_PAIRS = 10
"""Pairs of labels shown that are confused most."""
SHOWN_REMOVALS = (
    "min_characters",
    "max_characters",
    "max_tokens",
    "language",
    "exact_duplicate",
    "near_duplicate",
)
"""Rules that remove rows once they are clean; what others removed may hold personal data, and is counted alone."""
MAX_LABEL_ERRORS = 10
MAX_DISPUTED = 10
MAX_CONFLICTS = 10
"""Groups of near duplicates with differing labels that are shown."""
MAX_ROWS_OF_A_GROUP = 5
MAX_BOILERPLATE_LINES = 20
MAX_PAIRS_THAT_SAY_THE_SAME = 10
MAX_LEAST_ALIKE = 10
PROFILED = {
    "rows": ("rows after cleaning", "figure"),
    "normalised_label_entropy": ("balance of the labels (entropy; 1 is even)", "figure"),
    "characters": ("characters a text: 5%, median, 95%", "quantiles"),
    "words": ("words a text: 5%, median, 95%", "quantiles"),
    "tokens": ("tokens a text: 5%, median, 95%", "quantiles"),
    "vocabulary.types": ("different words", "figure"),
    "vocabulary.distinct_1": ("distinct-1, share of words not seen before (same number of words each)", "figure"),
    "vocabulary.distinct_2": ("distinct-2, the same of pairs of words", "figure"),
    "spread.pairwise_distance": ("spread: mean cosine distance of two texts", "figure"),
    "centroid_cosine": ("relevance: cosine of its centre and that of all", "figure"),
    "outlier_share": ("share of texts that are like no other", "figure"),
    "authenticity.real": ("real rows", "figure"),
    "authenticity.generated": ("generated rows", "figure"),
    "authenticity.augmented": ("augmented rows (train)", "figure"),
}
"""Figures of the profile that the report shows: what they are called, and how they are written."""
AGREEMENT = {
    "fleiss_kappa": (
        "Fleiss' kappa",
        "How far raters agree on a label beyond chance, each row counting once: 0 is chance, 1 is full agreement.",
    ),
    "krippendorff_alpha_nominal": (
        "Krippendorff's alpha, labels",
        "The same question, each rating counting once. Above 0.8 is called reliable, below 0.667 not even tentative.",
    ),
    "krippendorff_alpha_interval": (
        "Krippendorff's alpha, ratings as numbers",
        "As above, but two raters who are one point apart disagree less than two who are five apart.",
    ),
    "krippendorff_alpha_ordinal": (
        "Krippendorff's alpha, labels in order",
        "As for labels, but neighbouring labels are less far apart.",
    ),
    "mean_pairwise_cohen_kappa": (
        "Mean pairwise Cohen's kappa",
        "Agreement beyond chance of two raters, averaged over pairs of raters.",
    ),
    "mean_pairwise_cohen_kappa_quadratic": (
        "Mean pairwise Cohen's kappa, quadratic weights",
        "As above, two labels apart counting four times one.",
    ),
    "single_rater_accuracy": (
        "Single rater against the others",
        "How often one rater gives the label that most of the row's other raters give.",
    ),
    "single_rater_accuracy_against_reference": (
        "Single rater against the reference",
        "How often one rater gives the reference label: about what a model trained on single ratings is taught.",
    ),
    "label_agrees_with_reference": (
        "Given label against the reference",
        "Share of rows whose given label is the reference label; the rest is label noise.",
    ),
    "consensus_agrees_with_reference": (
        "Consensus against the reference",
        "Share of rows on which the most frequent label is the reference label.",
    ),
    "crowdlab.agrees_with_consensus": (
        "CROWDLAB against the consensus",
        "Share of rows on which CROWDLAB, which weighs raters and a model, gives the most frequent label.",
    ),
}
GRADES = {
    "grade.noise_rate": ("Label noise", "Share of the train rows whose given label is not the reference label."),
    "grade.precision": ("Precision", "Of the rows flagged, the share whose label is indeed wrong."),
    "grade.recall": ("Recall", "Of the rows whose label is wrong, the share flagged."),
    "grade.label_quality.average_precision": (
        "Average precision",
        "Quality of the order in which rows would be reviewed; random order gives the label noise above.",
    ),
    "grade.label_quality.auroc": ("AUROC", "Chance that a wrong row comes before a right one; 0.5 is random."),
    "grade.label_quality.precision_at_5pct": (
        "Precision of the 5% trusted least",
        "What a person who reviews so many rows finds wrong.",
    ),
    "grade.label_quality.recall_at_5pct": ("Recall of the 5% trusted least", "How much of what is wrong they find."),
    "noise_rate_of_kept_rows": ("Label noise of the rows kept", "The first figure again, after this stage."),
}
EFFECTS = {
    "uncorrected": ("Labels as they were given", "Macro-F1 of a linear probe on the test rows."),
    "detector_off": ("The detector's action off", "The same probe, on the labels after people's corrections."),
    "detector_on": ("The detector's action on", "The same, after label_errors."),
    "detector_off_minus_uncorrected": ("What corrections bring", "The difference, paired on test rows and seeds."),
    "detector_on_minus_detector_off": ("What the action brings", "The difference, paired on test rows and seeds."),
}


class ReportParams(Params):
    """The `report` section of `params.yaml`."""

    title: str = Field(min_length=1)
    examples_per_rule: int = Field(ge=0, le=100)


class Asset(BaseModel):
    """What the report says of an asset; `fetch` checks the rest of its keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    source: str
    sha256: str | None
    licence: str | None
    cite: str | None


class Approach(BaseModel):
    """What the report needs to know of an approach; `finetune` checks the rest of its keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    method: str


@dataclass(frozen=True)
class Metrics:
    """What each stage measured; `finetune`, `evaluate` and `robustness` by approach, `fetch` by asset."""

    stages: dict[str, dict[str, Any]]
    profile: dict[str, Any]
    finetune: dict[str, dict[str, Any]]
    evaluate: dict[str, dict[str, Any]]
    fetch: dict[str, dict[str, Any]]
    robustness: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Verdict:
    """The approach with the highest macro-F1, and the next one, None where there is no other."""

    best: str
    runner_up: str | None
    difference: float
    intervals_overlap: bool
    sentence: str


@dataclass(frozen=True)
class Confusion:
    """Test rows by actual and predicted label, shape `(k, k)`."""

    labels: list[str]
    counts: list[list[int]]


def summarise(metrics: Metrics, approaches: dict[str, Approach]) -> dict[str, Any]:
    """What `metrics/summary.json` holds.

    Args:
        metrics: of every stage.
        approaches: those compared, in their order in `params.yaml`.

    Raises:
        InputError: a metric that the comparison needs is missing.
    """
    compared = {
        name: {
            "rows": _metric(metrics.evaluate[name], "rows", f"evaluate/{name}"),
            "seeds": _metric(metrics.evaluate[name], "seeds", f"evaluate/{name}"),
            **{
                score_name + end: _metric(metrics.evaluate[name], score_name + end, f"evaluate/{name}")
                for score_name in SCORES
                for end in ("", "_ci95_low", "_ci95_high")
            },
            **{cost: _metric(metrics.finetune[name], cost, f"finetune/{name}") for cost in COSTS},
            "inference_ms_per_row": _metric(metrics.evaluate[name], "inference_ms_per_row", f"evaluate/{name}"),
        }
        for name in approaches
        if "left_out" not in metrics.evaluate[name]
    }
    is_baseline = {name: approach.method in BASELINE_METHODS for name, approach in approaches.items()}
    return {
        "approaches": {name: scores for name, scores in compared.items() if not is_baseline[name]},
        "baselines": {name: scores for name, scores in compared.items() if is_baseline[name]},
        "left_out": {name: scores["left_out"] for name, scores in metrics.evaluate.items() if "left_out" in scores},
        "data": {
            stage: {key: _metric(metrics.stages[stage], key, stage) for key in ("rows_in", "rows_out", "removed")}
            for stage in ROW_STAGES
        },
    }


def _metric(values: dict[str, Any], key: str, file: str) -> Any:
    try:
        return values[key]
    except KeyError:
        raise InputError(f"{METRICS}/{file}.json: `{key}` is missing; run its stage again: `make repro`") from None


def ranked(summary: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Approaches and baselines by macro-F1, highest first; the same score by name."""
    everything = [*summary["approaches"].items(), *summary["baselines"].items()]
    return sorted(everything, key=lambda item: (-item[1]["macro_f1"], item[0]))


def verdict(summary: dict[str, Any]) -> Verdict:
    """Which approach won, by how much over the next, and whether their 95% intervals overlap."""
    (best, first), *others = ranked(summary)

    def macro_f1(scores: dict[str, Any]) -> str:
        low, high = scores["macro_f1_ci95_low"], scores["macro_f1_ci95_high"]
        return f"{score(scores['macro_f1'])} [{score(low)}, {score(high)}]"

    opening = f"{best} has the highest macro-F1, {macro_f1(first)} on {number(first['rows'])} test rows"
    if best in summary["baselines"]:
        opening = f"No way of fine-tuning beats the baselines: {opening}"
    if not others:
        return Verdict(best, None, 0.0, False, f"{opening}. There is nothing to compare it with.")
    runner_up, second = others[0]
    difference = first["macro_f1"] - second["macro_f1"]
    overlap = second["macro_f1_ci95_high"] >= first["macro_f1_ci95_low"]
    sure = (
        "The two 95% intervals overlap, so this test split alone does not settle which of the two is better."
        if overlap
        else "The two 95% intervals do not overlap."
    )
    sentence = f"{opening}: {score(difference)} above {runner_up}, {macro_f1(second)}. {sure}"
    return Verdict(best, runner_up, difference, overlap, sentence)


def confusion(rows: pl.DataFrame) -> Confusion:
    """Count `actual` and `predicted`, one row per test row."""
    labels = sorted({*rows["actual"], *rows["predicted"]})
    place = {label: index for index, label in enumerate(labels)}
    counts = [[0] * len(labels) for _ in labels]
    for actual, predicted, count in rows.group_by("actual", "predicted").len().iter_rows():
        counts[place[actual]][place[predicted]] = count
    return Confusion(labels, counts)


def confused_pairs(matrix: Confusion, at_most: int) -> list[tuple[str, str, int, float]]:
    """Pairs (actual, predicted, rows, share of the actual label's rows) that differ, most rows first."""
    pairs = [
        (actual, predicted, count, count / sum(row))
        for actual, row in zip(matrix.labels, matrix.counts, strict=True)
        for predicted, count in zip(matrix.labels, row, strict=True)
        if count and actual != predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:at_most]


def flagged_rows(scores: pl.DataFrame, records: pl.DataFrame, at_most: int) -> list[dict[str, Any]]:
    """The flagged label errors of lowest quality: text, given, suggested and reference label, quality."""
    return (
        scores.filter("is_label_error")
        .sort("label_quality", "id")
        .head(at_most)
        .select("id", "label", "suggested_label", "label_quality")
        .join(records.select("id", "text", "reference_label"), on="id", how="left", maintain_order="left")
        .with_columns(pl.col("text").map_elements(cut, return_dtype=pl.String))
        .to_dicts()
    )


def disputed_rows(disagreement: pl.DataFrame, at_most: int) -> list[dict[str, Any]]:
    """The rows on which the annotators disagree most: text, votes of each label, disagreement."""
    votes = [name for name in disagreement.columns if name.startswith("ratings_")]
    return [
        {
            "id": row["id"],
            "text": cut(row["text"]),
            "votes": ", ".join(f"{row[name]} {name.removeprefix('ratings_')}" for name in votes if row[name]),
            "disagreement": row["disagreement"],
        }
        for row in disagreement.head(at_most).to_dicts()
    ]


def conflicts(groups: pl.DataFrame, at_most: int) -> list[list[dict[str, Any]]]:
    """The largest groups of near duplicates whose labels differ: for each its rows, the kept one first."""
    found = groups.filter("labels_differ").with_columns(rows=pl.len().over("near_duplicate_group"))
    ordered = found.sort("rows", "near_duplicate_group", "is_kept", descending=[True, False, True], maintain_order=True)
    shown = ordered.with_columns(pl.col("text").map_elements(cut, return_dtype=pl.String)).partition_by(
        "near_duplicate_group", maintain_order=True
    )
    return [group.head(MAX_ROWS_OF_A_GROUP).to_dicts() for group in shown[:at_most]]


def flows(summary: dict[str, Any]) -> list[Flow]:
    """Rows through the data stages, from the raw files to the train rows."""
    bars = [Flow("raw", summary["data"]["ingest"]["rows_in"], 0, 0)]
    train_only = False
    before = bars[0].kept
    for stage in FLOW_STAGES:
        rows = summary["data"][stage]
        removed = sum(rows["removed"].values())
        train_only = train_only or rows["rows_in"] < before
        # Copies count among the rows that `augment` takes in; those let in are what it adds to the rows before.
        made = max(0, rows["rows_out"] - before) if stage == "augment" else 0
        before = rows["rows_out"]
        bars.append(Flow(f"{stage} (train)" if train_only else stage, rows["rows_out"] - made, made, removed))
    return bars


def explained(values: dict[str, Any], explanations: dict[str, tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Figures that are there as (name, value, what it means), in the order of the explanations.

    A key may be a dotted path; an interval is shown where the figure has one.
    """
    rows = []
    for key, (name, means) in explanations.items():
        found = _at(values, key)
        if found is not None:
            low, high = _at(values, f"{key}_ci95_low"), _at(values, f"{key}_ci95_high")
            interval = "" if low is None or high is None else f" [{score(low)}, {score(high)}]"
            rows.append((name, score(found) + interval, means))
    return rows


def effect_rows(effect: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What corrections and the detector's action are worth, with intervals: as `explained`."""
    flat = {
        name + key.removeprefix("macro_f1"): value for name in EFFECTS for key, value in effect.get(name, {}).items()
    }
    return explained(flat, EFFECTS)


def effect_sentence(effect: dict[str, Any]) -> str:
    """Whether the detector's action helped, as far as the interval says."""
    found = effect["detector_on_minus_detector_off"]
    low, high = found["macro_f1_ci95_low"], found["macro_f1_ci95_high"]
    if low > 0:
        return "The detector's action helped the probe: the whole interval of the difference is above 0."
    if high < 0:
        return "The detector's action harmed the probe: the whole interval of the difference is below 0."
    return "Whether the detector's action helps the probe cannot be told from these rows: the interval holds 0."


def injected_rows(injected: dict[str, Any]) -> list[dict[str, Any]]:
    """Grades on injected noise: `kind`, `share` and the figures, a row for each."""
    return [
        {"kind": kind.replace("_", " "), "share": share.replace("pct", "%")} | figures
        for kind, shares in injected.items()
        if isinstance(shares, dict)
        for share, figures in shares.items()
    ]


def _at(values: dict[str, Any], path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    found: Any = values
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def profile_table(profile: dict[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The profile as a table: the names of its columns (`all`, then every source), and a row for each of `PROFILED`."""
    columns = {"all": profile} | profile.get("per_source", {})
    rows = []
    for key, (name, kind) in PROFILED.items():
        cells = [_profiled(values, key, kind) for values in columns.values()]
        if any(cell != "–" for cell in cells):
            rows.append((name, cells))
    return list(columns), rows


def _profiled(values: dict[str, Any], key: str, kind: str) -> str:
    found = _at(values, key)
    if found is None:
        return "–"
    if kind == "quantiles":
        return ", ".join(number(found[quantile]) for quantile in ("q05", "q50", "q95"))
    return number(found)


def flat_figures(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Every figure of nested metrics as (dotted path, value)."""
    return [
        figure
        for key, value in values.items()
        for figure in (
            flat_figures(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else [(f"{prefix}{key}", number(value) if isinstance(value, int | float) else str(value))]
        )
    ]


def library_versions(names: Sequence[str]) -> list[tuple[str, str]]:
    """Python and the libraries installed now."""
    found = [("Python", platform.python_version())]
    for name in names:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append((name, "not installed"))
    return found


def read_metrics(approaches: Sequence[str], assets: Sequence[str]) -> Metrics:
    """Read the metrics of every stage."""
    return Metrics(
        stages={stage: read_json(METRICS / f"{stage}.json") for stage in (*ROW_STAGES, *LABEL_STAGES)},
        profile=read_json(METRICS / "profile.json"),
        finetune={name: read_json(METRICS / "finetune" / f"{name}.json") for name in approaches},
        evaluate={name: read_json(METRICS / "evaluate" / f"{name}.json") for name in approaches},
        fetch={name: read_json(METRICS / "fetch" / f"{name}.json") for name in assets},
        robustness={name: read_json(METRICS / "robustness" / f"{name}.json") for name in approaches},
    )


def plots(summary: dict[str, Any], clean: dict[str, Any]) -> dict[str, Markup]:
    """The plots of scores, costs and rows by name; `clean` are the metrics of that stage."""
    rows = ranked(summary)
    baselines = summary["baselines"]

    def intervals(name: str) -> list[Interval]:
        return [
            Interval(
                approach, scores[name], scores[f"{name}_ci95_low"], scores[f"{name}_ci95_high"], approach in baselines
            )
            for approach, scores in rows
        ]

    points = [
        Point(
            approach,
            scores["train_seconds"],
            scores["macro_f1"],
            scores["macro_f1_ci95_low"],
            scores["macro_f1_ci95_high"],
            approach in baselines,
        )
        for approach, scores in rows
    ]
    return {
        "macro_f1": dot_and_interval(intervals("macro_f1"), "Macro-F1 with 95% intervals"),
        "accuracy": dot_and_interval(intervals("accuracy"), "Accuracy with 95% intervals"),
        "cost": log_scatter(
            points, "training time, seconds (logarithmic)", "macro-F1", "Macro-F1 against training time"
        ),
        "flow": row_flow(flows(summary), "Rows through the data stages"),
        "waterfall": waterfall(
            clean["rows_in"],
            [(rule, rows) for rule, rows in clean["removed"].items() if rows],
            "Rows that cleaning took out",
        ),
        "changed": counted_bars(
            [(rule, rows) for rule, rows in clean.get("changed", {}).items() if rows], "Changes by cleaning rule"
        ),
    }


def render(template: str, values: dict[str, Any]) -> str:
    """Fill the template; every value that is not `Markup` is escaped, and a name that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "score": score, "visible": visible}
    return environment.from_string(template).render(values)


def main() -> None:
    """Write the summary and the report."""
    params = load_params("report", ReportParams)
    seed = load_params("seed", int)
    names = load_params("approaches", list[str])
    approaches = {name: load_params(f"finetune.{name}", Approach) for name in names}
    assets = load_params("fetch.assets", dict[str, Asset])
    if not names:
        raise InputError("params.yaml: `approaches` = [] leaves nothing to compare; name at least one")
    metrics = read_metrics(names, list(assets))
    summary = summarise(metrics, approaches)
    winner = verdict(summary)

    changed = pl.read_parquet(CLEAN / "changed.parquet")
    records = pl.read_parquet(CLEAN / "records.parquet", columns=["id", "text", "reference_label"])
    kept = records.select(pl.col("id").alias("kept_id"), pl.col("text").alias("after"))
    removed = pl.read_parquet(CLEAN / "removed.parquet").drop("after").join(kept, on="kept_id", how="left")
    label_scores = pl.read_parquet(LABEL_ERRORS / "scores.parquet")
    matrix = confusion(pl.read_csv(METRICS / "plots" / "confusion" / f"{winner.best}.csv", infer_schema=False))
    bearing = {name: metrics.robustness[name] for name, _ in ranked(summary)}
    ended = {name: pl.read_parquet(ATTACKS / name / "attacks.parquet") for name in bearing}
    attacks = attack_names(bearing)
    per_class = sorted(metrics.evaluate[winner.best]["per_class"].items(), key=lambda item: (item[1]["f1"], item[0]))

    page = render(
        TEMPLATE.read_text(encoding="utf-8"),
        {
            "title": params.title,
            "seed": seed,
            "verdict": winner,
            "summary": summary,
            "ranked": ranked(summary),
            "methods": {name: approach.method for name, approach in approaches.items()},
            "plots": plots(summary, metrics.stages["clean"]),
            "heat_map": confusion_heat_map(matrix.labels, matrix.counts, f"Confusion matrix of {winner.best}"),
            "labels": matrix.labels,
            "confused": confused_pairs(matrix, MAX_PAIRS),
            "per_class": per_class,
            "changed": examples_by_rule(changed, without_redacted(changed), params.examples_per_rule),
            "removed": examples_by_rule(
                removed, removed.filter(pl.col("rule").is_in(SHOWN_REMOVALS)), params.examples_per_rule
            ),
            "cleaning": metrics.stages["clean"],
            "semantic": metrics.stages["semantic_duplicates"],
            "same": pl.read_parquet(SEMANTIC / "pairs.parquet").head(MAX_PAIRS_THAT_SAY_THE_SAME).to_dicts(),
            "profile": metrics.profile,
            "profiled": profile_table(metrics.profile),
            "sources": pl.read_parquet(PROFILE / "sources.parquet").to_dicts(),
            "languages": pl.read_parquet(PROFILE / "languages.parquet").to_dicts(),
            "label_rows": pl.read_parquet(PROFILE / "labels.parquet").filter(pl.col("source").is_null()).to_dicts(),
            "least_alike": pl.read_parquet(PROFILE / "least_alike.parquet").head(MAX_LEAST_ALIKE).to_dicts(),
            "conflicts": conflicts(pl.read_parquet(CLEAN / "duplicate_groups.parquet"), MAX_CONFLICTS),
            "boilerplate": pl.read_parquet(CLEAN / "boilerplate.parquet").head(MAX_BOILERPLATE_LINES).to_dicts(),
            "agreement": explained(metrics.stages["annotation_qa"], AGREEMENT),
            "annotation": metrics.stages["annotation_qa"],
            "label_errors": metrics.stages["label_errors"],
            "grades": explained(metrics.stages["label_errors"], GRADES),
            "corrections": metrics.stages["correct"],
            "effect": effect_rows(metrics.stages["label_effect"]),
            "effect_sentence": effect_sentence(metrics.stages["label_effect"]),
            "injected": injected_rows(metrics.stages["injected_noise"]),
            "copies": recipe_copies(metrics.stages["augment"], metrics.stages["augment_quality"]),
            "augment": metrics.stages["augment"],
            "copy_examples": copy_examples(pl.read_csv(COPIES, infer_schema=False)),
            "perturbed": {
                name: before_and_after(rows, f"Accuracy before and after {name}")
                for name, rows in changes(bearing).items()
            },
            "robustness": bearing,
            "attacks": attacks,
            "attack_examples": attack_examples(ended, attacks),
            "generation": read_generation(
                load_params("generation_models", dict[str, str]), load_params("sft_approaches", list[str])
            ),
            "generation_differences": [name for _, _, name in DIFFERENCES],
            "disputed": disputed_rows(pl.read_parquet(DISAGREEMENT), MAX_DISPUTED),
            "flagged": flagged_rows(label_scores, records, MAX_LABEL_ERRORS),
            "assets": assets,
            "fetch": metrics.fetch,
            "libraries": library_versions(LIBRARIES),
            "figures": {
                stage: flat_figures(values) for stage, values in (metrics.stages | {"profile": metrics.profile}).items()
            },
        },
    )
    write_json(SUMMARY, summary)
    write_text(REPORT, page)


if __name__ == "__main__":
    run_stage(main)
