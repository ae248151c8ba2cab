"""What each data step bought a probe on frozen embeddings, by cross-validation over train and validation rows.

Decides: nothing. Reads no test row. Logistic regressions are trained on all folds but one and scored on that one, by
its reference labels (the given ones where there are none), with each step, without it, and with a random control of its
size (`assay/ablation.py`); the same rows are scored. docs/ablation.md lists the steps, and says how to read
it. The detector of label errors runs on the rows of each fold that train, without fine-tuning, so that labels of
evaluated rows have no part in it.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.ablation import BASE, CONTROL, Booleans, Design, Side, compare_steps, predict_variants
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.embeddings.table import EMBEDDINGS, LAYERS, embeddings_of
from assay.label_errors.actions import Action, LabelErrorsParams, apply_action, build_rows, build_score_table
from assay.label_errors.detector import detect
from assay.probes import Floats, Integers, grouped_folds, number_values
from assay.statistics.classification import score_predictions
from assay.statistics.metrics_dict import metrics_of
from assay.statistics.verdicts import SAMPLES

SPLIT, CLEAN = Path("data/split"), Path("data/clean")
INGESTED = Path("data/ingested/records.parquet")
REMOVED_BY_PEOPLE = Path("data/corrected/removed.parquet")
AUGMENTED = Path("data/augmented/train.parquet")
METRICS = Path("metrics/ablation/ablation.json")
IN_BASE = ("cleaning", "near_duplicates", "corrections")
"""Steps that the rows of the splits have been through."""
COLUMNS = ("id", "text", "label", "split_group", "step")


class AblationParams(Params):
    """The `ablation` section of `params.yaml`; `C` is of the probe, `controls` are draws in a repeat."""

    folds: int = Field(ge=2, le=100)
    repeats: int = Field(ge=1, le=100)
    controls: int = Field(ge=2, le=100)
    C: float = Field(gt=0)


def rows_beside(rows: pl.DataFrame, ingested: pl.DataFrame, clean: pl.DataFrame) -> pl.DataFrame:
    """Rows that do not train now, each with the `step` that removed or made it; without a label they are skipped.

    Their group is that of the row that stands for them, of their near-duplicates, or of their source; else their own.
    """
    removed = pl.read_parquet(CLEAN / "removed.parquet").select("id", "kept_id", cleaned="before")
    removed = removed.join(ingested.select("id", "text", "label"), on="id", how="inner", maintain_order="left")
    groups = rows.select("split_group", kept_id="id")
    by_rules = removed.filter(pl.col("kept_id").is_null()).with_columns(split_group="id", step=pl.lit("cleaning"))
    # One that a test row stands for, or a row that a later step removed, belongs to neither train nor validation.
    similar = removed.join(groups, on="kept_id", how="inner", maintain_order="left")
    similar = similar.with_columns(text="cleaned", step=pl.lit("near_duplicates"))
    by_people = clean.join(pl.read_parquet(REMOVED_BY_PEOPLE, columns=["id"]), on="id", how="semi")
    near = rows.select("near_duplicate_group", "split_group").unique("near_duplicate_group", keep="first")
    by_people = by_people.join(near, on="near_duplicate_group", how="left", maintain_order="left")
    by_people = by_people.with_columns(split_group=pl.coalesce("split_group", "id"), step=pl.lit("corrections"))
    examples = pl.read_parquet(AUGMENTED).filter(pl.col("parent_id").is_not_null()).select("id", "text", "parent_id")
    parents = rows.select("label", "split_group", parent_id="id")
    examples = examples.join(parents, on="parent_id", how="inner", maintain_order="left")
    found = [by_rules, similar, by_people, examples.with_columns(step=pl.lit("augmentation"))]
    beside = pl.concat(one.select(COLUMNS) for one in found)
    if unlabelled := beside["label"].null_count():
        print(f"ablation: {unlabelled} removed row(s) without a label stay out", file=sys.stderr)
    return beside.drop_nulls("label")


def embed_pool(
    pool: pl.DataFrame, raw: pl.Series, is_raw: pl.Series, embed: EmbedParams, device: Device
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings `(m, d)` of the texts, and the same with those of `raw` where a row `is_raw`; new where not known."""
    known = pl.read_parquet(EMBEDDINGS)
    is_known = pool["id"].is_in(known["id"].implode())
    features = np.zeros((pool.height, known["embedding"].to_numpy().shape[1]), dtype=np.float32)
    features[is_known.to_numpy()] = embeddings_of(pool["id"].filter(is_known), known, SPLIT)
    raw_features = features
    if texts := [*pool["text"].filter(~is_known), *raw.filter(is_raw)]:
        embedded = embedded_texts(texts, embed, device)[0].embeddings
        features[~is_known.to_numpy()] = embedded[: int((~is_known).sum())]
        if is_raw.any():
            raw_features = features.copy()
            raw_features[is_raw.to_numpy()] = embedded[int((~is_known).sum()) :]
    return features, raw_features


def one_hot(labels: pl.Series, names: list[str]) -> Floats:
    """1 for the label of each row, `(n, k)`; all 0 where there is none."""
    return np.stack([(labels == name).fill_null(value=False).to_numpy() for name in names], axis=1).astype(np.float64)


def rater_shares(rows: pl.DataFrame, names: list[str]) -> Floats:
    """The share of a row's raters that gave each label, `(n, k)`; the given label where nobody rated."""
    ratings = pl.read_parquet(CLEAN / "ratings.parquet", columns=["id", "label"])
    counts = ratings.group_by("id").agg((pl.col("label") == name).sum().alias(f"n{i}") for i, name in enumerate(names))
    counted = rows.select("id").join(counts, on="id", how="left", maintain_order="left").drop("id")
    votes = counted.fill_null(0).to_numpy().astype(np.float64)
    votes = np.where(votes.any(axis=1, keepdims=True), votes, one_hot(rows["label"], names))
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


def act_on_errors(
    rows: pl.DataFrame, may_train: Booleans, names: list[str], actions: list[Action], device: Device, seed: int
) -> dict[Action, Floats]:
    """Targets `(n, k)` after each action on what the detector finds among the rows that may train, `(n,)`."""
    params = load_params("label_errors", LabelErrorsParams)
    train = rows.filter(may_train)
    features = embeddings_of(train["id"], pl.read_parquet(LAYERS), SPLIT)
    seen = build_rows(train, features, params.evidence)
    detection = detect(seen, params.without_finetuning(), device, (seed, "ablation", "label_errors"))
    scores = build_score_table(train, train["label"].unique().sort().to_list(), detection)
    found = {}
    for action in actions:
        acted = apply_action(train, scores, action, params.min_relabel_probability).train
        left = rows.select("id").join(acted.select("id", "label", "label_weight"), on="id", how="left")
        found[action] = one_hot(left["label"], names) * left["label_weight"].fill_null(0.0).to_numpy()[:, None]
    return found


def summarise(
    classes: dict[str, Integers],
    changes: dict[str, dict[str, float]],
    tests: dict[tuple[str, str], dict[str, Any]],
    truth: Integers,
    groups: Integers,
) -> dict[str, Any]:
    """The changes, scores and tests of each step that has predicted classes."""
    found: dict[str, Any] = {}
    for name in [one for one in changes if one in classes]:
        sides = (BASE, name) if name in IN_BASE else (name, BASE)
        variants = zip(("with", "without", "control"), (*sides, CONTROL + name), strict=True)
        scores = {side: score_predictions(truth, classes[of], groups) for side, of in variants if of in classes}
        found[name] = {"a_fold": changes[name]} | {side: metrics_of(one) for side, one in scores.items()}
        found[name] |= {f"with_minus_{against}": test for (of, against), test in tests.items() if of == name}
    return found


def conclude(steps: dict[str, Any]) -> str:
    """One sentence: which steps are told from their control, or from no step where there is none, or that none is."""
    told, beyond = list[str](), "beyond a random control of the same size"
    for name, one in steps.items():
        test = one.get("with_minus_control", one["with_minus_without"])
        if test["verdict"] != "not decided":
            against = beyond if "with_minus_control" in one else "than without it"
            told.append(f"{name} is {test['verdict']} by {test['difference']:+.3f} {against}")
    if told:
        return f"{'; '.join(told)}. No other step is shown to help or harm."
    return f"No step is shown to help or harm {beyond} ({', '.join(steps) or 'none could be tested'})."


def main() -> None:
    """Compare the steps."""
    params, action = load_params("ablation", AblationParams), load_params("label_errors", LabelErrorsParams).action
    seed, embed = load_params("seed", int), load_params("embed", EmbedParams)
    device = prepare_device(load_params("compute", Compute), exact=True)
    quiet_libraries()
    rows = pl.concat([pl.read_parquet(SPLIT / f"{name}.parquet") for name in ("train", "validation")])
    ingested, clean = pl.read_parquet(INGESTED), pl.read_parquet(CLEAN / "records.parquet")
    beside = rows_beside(rows, ingested, clean)
    pool, n = pl.concat([rows.with_columns(step=pl.lit(BASE)).select(COLUMNS), beside]), rows.height
    raw = pool.select("id").join(ingested.select("id", raw="text"), on="id", how="left", maintain_order="left")["raw"]
    before = pool.select("id").join(clean.select("id", before="label"), on="id", how="left", maintain_order="left")
    rows = rows.with_columns(target=pl.coalesce("reference_label", "label"))
    names = sorted({*pool["label"], *rows["target"], *before["before"].drop_nulls()})

    is_raw = (raw != pool["text"]).fill_null(value=False) & (pool["step"] == BASE)
    features, raw_features = embed_pool(pool, raw, is_raw, embed, device)
    given, step = one_hot(pool["label"], names), pool["step"].to_numpy()

    def side(targets: Floats, extra: str = BASE, of: NDArray[np.float32] = features) -> Side:
        """Evaluated rows with these targets, and the rows beside them of a step with their labels."""
        return Side(of, np.concatenate([targets, given[n:] * (step[n:] == extra)[:, None]]))

    base = side(given[:n])
    fixed = {
        "cleaning": side(given[:n], "cleaning", raw_features),
        "near_duplicates": side(given[:n], "near_duplicates"),
        "corrections": side(one_hot(before["before"][:n], names), "corrections"),
        "augmentation": side(given[:n], "augmentation"),
        "target_consensus": side(one_hot(rows["target"], names)),
        "target_soft": side(rater_shares(rows, names)),
    }
    actions: list[Action] = list(dict.fromkeys(["drop", *([action] if action in ("relabel", "weight") else [])]))

    def steps(may_train: Booleans) -> dict[str, Side]:
        found = act_on_errors(rows, may_train[:n], names, actions, device, seed)
        return fixed | {f"label_errors_{name}": side(targets) for name, targets in found.items()}

    labels, groups = number_values(rows["label"]), number_values(pool["split_group"])
    seeds = [derived_seed(seed, "ablation", "folds", str(repeat)) for repeat in range(params.repeats)]
    repeats = [grouped_folds(labels, groups[:n], params.folds, one) for one in seeds]
    if not all(repeats):
        raise InputError(f"{SPLIT}: {n} rows of train and validation, and no label in two groups: there are no folds")
    compared = [*fixed, *(f"label_errors_{name}" for name in actions)]
    controls = {name: 0 if name.startswith("target_") else params.controls for name in compared}
    # Several threads add up in another order, and the last bits of the scores would depend on the machine.
    with threadpool_limits(limits=1, user_api="blas"):
        design = Design(IN_BASE, controls, groups, repeats, params.C)
        predicted, changes = predict_variants(base, steps, design, (seed, "ablation"))
    nothing = [name for name, one in changes.items() if not sum(one.values())]
    # Texts may differ where no row does: then there is no control.
    gone = {CONTROL + name for name in nothing} | {name for name in nothing if name != "cleaning" or not is_raw.any()}
    scored = np.flatnonzero((predicted[BASE] >= 0).all(axis=0))
    classes = {name: one[:, scored] for name, one in predicted.items() if name not in gone}
    truth = np.array([names.index(label) for label in rows["target"]])[scored]
    random = generator(seed, "ablation", "bootstrap")
    decided_on, tests = compare_steps(truth, groups[scored], classes, IN_BASE, SAMPLES, random)
    found = summarise(classes, changes, tests, truth, groups[scored])
    metrics = {
        "rows": n,
        "rows_not_scored": n - len(scored),
        "rows_with_reference_label": rows["reference_label"].count(),
        "texts_changed_by_cleaning": int(is_raw.sum()),
        "action": action,
        "decided_on": decided_on,
        "tests": len(tests),
        "changes_nothing": sorted(gone & changes.keys()),
        "conclusion": conclude(found),
        "steps": found,
    }
    if not metrics["rows_with_reference_label"]:
        print("ablation: there are no reference labels: scores are on the given labels", file=sys.stderr)
    print(f"ablation: {metrics['conclusion']}")
    write_metrics(METRICS, metrics, "rows", *(f"steps.{name}.with_minus_control.difference" for name in found))


if __name__ == "__main__":
    run_stage(main)
