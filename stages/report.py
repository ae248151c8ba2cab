"""Which way of fine-tuning won, by how much, at what cost, and what happened to the data on the way.

Reads the metrics of every stage, the predictions in `metrics/predictions/` and `data/predictions/`, the test rows with
their ratings, and the tables of the data stages; writes `metrics/summary.json` (every approach and baseline with its
scores and sizes, the verdicts, where the best errs, what raters score on the same rows, rows in and out by stage) and
`report/index.html`, one page without scripts that needs no network and is the same, byte for byte, for the same inputs
at the same commit, which it names.

How approaches are ranked and compared: docs/statistics.md. What is switched off is not shown; what did not run on these
data and params (`assay/core/results.py`) is left out, and named.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json, write_text
from assay.core.params import Params, load_params
from assay.core.results import NOT_RUN, metrics_files, read_own, write_metrics
from assay.core.seeds import generator
from assay.label_errors.contradicted_rows import list_contradicted, read_test_predictions
from assay.report import sections
from assay.report.augmentation import show_augmented
from assay.report.comparison import compare_approaches, say_verdict, score_raters, score_sources
from assay.report.error_analysis import show_errors, slice_rows, summarise_errors
from assay.report.language_models import read_generation
from assay.report.page import code_version, render
from assay.report.summary import COSTS, METRICS, REPORT, ROW_STAGES, SUMMARY, Measured, summarise
from assay.splitting.target_labels import group_numbers, read_test_rows
from assay.statistics.predictions import Predictions, predictions_file, read_predictions

TABLES = {
    **{name: f"clean/{name}" for name in ("changed", "removed", "records", "duplicate_groups")},
    **{name: f"profile/{name}" for name in ("sources", "least_alike")},
    "semantic_pairs": "semantic_duplicates/pairs",
    "disagreement": "annotation_qa/disagreement",
    "label_scores": "label_errors/scores",
}
"""Tables that are shown, below `data/`."""
DECIDED = Path("data/corrected/changed.parquet")


class ReportParams(Params):
    """The `report` section of `params.yaml`."""

    title: str = Field(min_length=1)
    examples_per_rule: int = Field(ge=0, le=100)


class Asset(Params):
    """What the report says of an asset; `fetch` checks the rest of its keys."""

    model_config = Params.model_config | {"extra": "ignore"}

    source: str
    sha256: str | None
    path: str
    licence: str | None
    cite: str | None


def read_all_own(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The metrics of these names in a folder, as far as they are of these data and params."""
    found = {name: read_own(folder / f"{name}.json") for name in names}
    return {name: metrics for name, metrics in found.items() if metrics is not None}


def read_stage(stage: str) -> dict[str, Any]:
    """The metrics of a stage that nothing switches off. Raises `InputError`: they are not of these data and params."""
    file = METRICS / f"{stage}.json"
    if (found := read_own(file)) is None:
        raise InputError(
            f"{file}: not of these data and params, by its `run_id`; run `make repro`, and if that finds nothing to do,"
            f" `.venv/bin/dvc repro --force --single-item {stage.replace('/', '@')}`"
        )
    return found


def read_measured(approaches: list[str], optional: dict[str, list[str]], assets: Iterable[str]) -> Measured:
    """Read what the stages measured on these data and params, as far as it is switched on."""
    finetune = read_all_own(METRICS / "finetune", approaches)
    evaluate = read_all_own(METRICS / "evaluate", finetune)
    robustness = read_all_own(METRICS / "robustness", optional.get("robustness", []))
    train_cost, inference_cost = (
        {name: read_json(file) for name in evaluate if (file := COSTS / stage / f"{name}.json").is_file()}
        for stage in ("finetune", "evaluate")
    )
    looked_at = ("optional", "robustness", "sft")
    return Measured(
        stages={stage: read_stage(stage) for stage in (*ROW_STAGES, "profile")},
        finetune=finetune,
        evaluate={name: evaluate.get(name, {"left_out": NOT_RUN}) for name in approaches},
        cost={name: train_cost.get(name, {}) | inference_cost.get(name, {}) for name in evaluate},
        robustness={name: one for name, one in robustness.items() if name in evaluate and "left_out" not in one},
        fetch={name: read_stage(f"fetch/{name}") for name in assets},
        not_run=[
            stage for stage, file in metrics_files().items() if file.parent.name in looked_at and read_own(file) is None
        ],
    )


def read_all_predictions(approaches: Iterable[str]) -> dict[str, Predictions]:
    """The predicted labels of the test rows by approach, skipped ones aside. Raises `InputError`: a file is missing."""
    found = {}
    for name in approaches:
        file = predictions_file(name)
        if not file.is_file():
            raise InputError(f"{file} is missing; run `.venv/bin/dvc repro --force --single-item evaluate@{name}`")
        found[name] = read_predictions(file.read_text(encoding="utf-8"))
    return {name: one for name, one in found.items() if one is not None}


def used_assets(assets: dict[str, Asset], has_language_models: bool) -> dict[str, Asset]:
    """The assets that hold what the stages shown read."""
    paths = {load_params(param, str) for param in ("ingest.path", "embed.model", "augment.wordnet")}
    of_language_models = {load_params(param, str) for param in ("instruct_data.path", "language_model")}
    paths |= of_language_models if has_language_models else set()
    paths |= {str(block.get("model")) for block in load_params("finetune", dict[str, dict[str, Any]]).values()}
    return {name: one for name, one in assets.items() if any(f"{path}/".startswith(f"{one.path}/") for path in paths)}


def main() -> None:
    """Write the summary and the report."""
    params = load_params("report", ReportParams)
    seed = load_params("seed", int)
    optional = load_params("optional", dict[str, list[str]])
    assets = load_params("fetch.assets", dict[str, Asset])
    approaches = load_params("approaches", list[str])
    measured = read_measured(approaches, optional, assets)
    if not approaches:
        raise InputError(f"params.yaml: `approaches` = {approaches} leaves nothing to compare; name at least one")

    summary = summarise(measured, {name: load_params(f"finetune.{name}.method", str) for name in measured.evaluate})
    predictions = read_all_predictions(summary["approaches"] | summary["baselines"])
    test, ratings = read_test_rows(), pl.read_parquet("data/clean/ratings.parquet", columns=["id", "label"])
    summary["verdicts"] = compare_approaches(predictions, generator(seed, "report", "verdicts"))
    summary["raters"] = score_raters(test, ratings, group_numbers(test), generator(seed, "report", "raters"))
    summary["per_source"] = score_sources(predictions)
    best = summary["verdicts"]["best"]
    by_approach = read_test_predictions(predictions, test)
    denied = list_contradicted(by_approach)
    decided = pl.read_parquet(DECIDED, columns=["id", "rule"]).join(test, on="id", how="semi")
    slices = slice_rows(test, load_params("profile.min_language_probability", float))
    summary["error_analysis"] = summarise_errors(by_approach[best], slices, group_numbers(test), denied, decided)
    tables = {name: pl.read_parquet(f"data/{path}.parquet") for name, path in TABLES.items()}
    tables["augmented_pairs"] = pl.read_csv("data/augmented/pairs.csv", infer_schema=False)
    attacks = {name: Path("data/robustness") / name / "attacks.parquet" for name in measured.robustness}
    ended = {name: pl.read_parquet(file) for name, file in attacks.items() if file.is_file()}
    confusion = pl.read_csv(METRICS / f"plots/confusion/{best}.csv", infer_schema=False)
    generation = read_generation(
        load_params("generation_models", dict[str, str]), load_params("sft_approaches", list[str])
    )
    page = render(
        "template.html",
        {"title": params.title, "verdict": say_verdict(summary), "best": best, "summary": summary, "seed": seed}
        | {"stages": measured.stages, "not_run": measured.not_run, "generation": generation, "fetch": measured.fetch}
        | {"code_version": code_version(), "assets": used_assets(assets, generation is not None)}
        | {"augmented_examples": show_augmented(tables["augmented_pairs"])}
        | sections.comparison(summary, measured.cost, measured.evaluate)
        | sections.errors(best, measured.evaluate[best], confusion)
        | show_errors(by_approach[best], denied)
        | sections.collection(tables, measured.stages)
        | sections.cleaning(tables, params.examples_per_rule)
        | sections.label_errors(tables, measured.stages)
        | sections.robustness(measured.robustness, ended, summary),
    )
    write_text(REPORT, page)
    write_metrics(SUMMARY, summary, f"approaches.{best}.macro_f1", f"baselines.{best}.macro_f1")


if __name__ == "__main__":
    run_stage(main)
