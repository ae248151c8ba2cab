"""Whether more train rows would help: macro-F1 on validation rows by the number of train rows, and where that leads.

Decides: nothing. A probe (logistic regression on frozen embeddings) and one fine-tuned approach are fitted on shares of
the train rows as the pipeline trains them (augmented examples come with their source rows), several times, and scored
on the reference labels of the validation rows (the given label where there is none), by whose given labels fine-tuning
also stops early, as in `finetune`. A subset is stratified by label, of whole split groups, with one of each label at
least; within a draw, each is part of the next. An inverse power law extrapolates (`assay/statistics/power_law.py`).

Reads `data/augmented/train.parquet`, `data/split/{train,validation}.parquet` and base models; writes
`metrics/ablation/learning_curve.json` and `metrics/plots/learning_curve.csv`.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.classifiers.fit import fit_seed
from assay.classifiers.fits import Data, Rows, read_rows
from assay.compute.device import Compute, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_text
from assay.core.params import Params, load_params
from assay.core.progress import progress, quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.fine_tuning.params import Approach, FineTuned
from assay.probes import number_values, weighted_probe
from assay.statistics.intervals import Floats, Integers, Z
from assay.statistics.label_curves import MORE_ROWS, measure_labels, score_labels
from assay.statistics.power_law import extrapolate

TRAIN = Path("data/augmented/train.parquet")
GROUPS = Path("data/split/train.parquet")
VALIDATION = Path("data/split/validation.parquet")
METRICS = Path("metrics/ablation/learning_curve.json")
PLOT = Path("metrics/plots/learning_curve.csv")


class LearningCurveParams(Params):
    """The `learning_curve` section of `params.yaml`: `samples` of the bootstrap, `C` of the probe."""

    shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=3)
    probe_draws: int = Field(ge=2, le=100)
    approach: str
    draws: int = Field(ge=2, le=100)
    C: float = Field(gt=0)
    reach: float = Field(ge=2, le=10)
    samples: int = Field(ge=100, le=100_000)


def subset_keys(labels: Integers, groups: Integers, random: np.random.Generator) -> Floats:
    """A key in [0, 1) of each row, `(n,)` like labels and groups: a subset is the rows whose key is below its share.

    Rows of a group have one key, which counts for the label of its first row.
    """
    _, first, of_row = np.unique(groups, return_index=True, return_inverse=True)
    keys = np.zeros(len(first))
    for label in np.unique(labels[first]):
        members = random.permutation(np.flatnonzero(labels[first] == label))
        keys[members[1:]] = (np.arange(1, len(members)) + random.uniform(-0.5, 0.5)) / len(members)
    return np.asarray(keys[of_row])


def measure_curve(
    name: str, sizes: Floats, scored: list[tuple[Floats, Floats]], reach: float, samples: int, seed: int
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Metrics of a curve and what is plotted of it; `scored` by draw and size, as `score_labels` gives them."""
    errors = np.array([label_errors.mean() for label_errors, _ in scored]).reshape(-1, len(sizes))
    moved = np.array([one.mean(axis=1) for _, one in scored]).reshape(*errors.shape, -1).mean(axis=0)
    targets = sizes[-1] * np.concatenate([np.geomspace(sizes[0] / sizes[-1], 1, 30), np.linspace(1, reach, 101), [2]])
    found = extrapolate(sizes, errors, moved @ moved.T, targets, samples, generator(seed, "learning_curve", name))
    gain, low, high = 100 * found.gains[:, -1]
    said = f"{gain:+.1f} points of macro-F1 from twice the rows (90% band {low:+.1f} to {high:+.1f})"
    a_point = np.flatnonzero(found.gains[0, 30:-1] >= 0.01)
    scores, ends = 1 - errors.mean(axis=0), 1 - found.errors[[0, 2, 1]]
    low95, high95 = (np.clip(scores + sign * Z * found.deviations, 0, 1) for sign in (-1, 1))
    points = list(zip(sizes, scores, low95, high95, strict=True))
    metrics = {
        "conclusion": said if low > 0 else f"not shown that more rows help: {said}",
        "draws": len(errors),
        "law": dict(zip(("floor", "scale", "exponent"), found.law, strict=True)),
        "points": {
            f"{int(rows)}_rows": {"macro_f1": score, "macro_f1_ci95_low": least, "macro_f1_ci95_high": most}
            for rows, score, least, most in points
        },
        "twice": dict(zip(("macro_f1", "macro_f1_band90_low", "macro_f1_band90_high"), ends[:, -1], strict=True))
        | {"gain_points": gain, "gain_points_band90_low": low, "gain_points_band90_high": high},
        **({"more_rows_for_a_point": int(targets[30 + a_point[0]] - sizes[-1])} if low > 0 and len(a_point) else {}),
    }
    table = [(name, "point", *point) for point in points] + [
        (name, "law", rows, *of_law) for rows, of_law in zip(targets[:-1], ends.T, strict=False)
    ]
    return metrics, pl.DataFrame(table, ["model", "kind", "rows", "macro_f1", "low", "high"], orient="row")


def main() -> None:
    """Fit both models on every subset, and say where their curves lead."""
    params, seed = load_params("learning_curve", LearningCurveParams), load_params("seed", int)
    embed, compute = load_params("embed", EmbedParams), load_params("compute", Compute)
    tuned: Approach = load_params(f"finetune.{params.approach}", Approach)  # type: ignore[arg-type]
    if not isinstance(tuned, FineTuned):
        raise InputError(f"params.yaml: `learning_curve.approach` = {params.approach!r}: name one that is fine-tuned")
    quiet_libraries()
    groups = pl.read_parquet(GROUPS, columns=["id", "split_group"]).rename({"id": "source_row"})
    table = pl.read_parquet(TRAIN).with_columns(source_row=pl.coalesce("parent_id", "id"))
    table = table.join(groups, on="source_row", how="left", maintain_order="left")
    held_out, classes = pl.read_parquet(VALIDATION), sorted(table["label"].unique())
    if held_out.is_empty():
        raise InputError(f"{VALIDATION}: no rows to score on; raise `split.validation_fraction` or add data")
    train, validation = read_rows(table, classes, TRAIN), read_rows(held_out, classes, VALIDATION)
    better = held_out.with_columns(label=pl.coalesce("reference_label", "label"))
    truth, truth_groups = read_rows(better, classes, VALIDATION).targets, number_values(held_out["split_group"])
    texts = [*train.texts, *validation.texts]
    embedded, _ = embedded_texts(texts, embed, prepare_device(compute, exact=True))
    features, scored_on = np.split(embedded.embeddings, [len(train.ids)])
    device = prepare_device(compute)

    def probe(rows: Integers, _: int) -> Floats:
        of, numbers = (features[rows], train.targets[rows], train.weights[rows]), range(len(classes))
        with threadpool_limits(limits=1, user_api="blas"):
            return weighted_probe(*of, scored_on, numbers, params.C)

    def fine_tuned(rows: Integers, seed: int) -> Floats:
        ids, texts, labels = ([column[row] for row in rows] for column in (train.ids, train.texts, train.labels))
        data = Data(Rows(ids, texts, labels, train.targets[rows], train.weights[rows]), validation, classes)
        return fit_seed(tuned, data, device, seed, None).validation_logits.astype(np.float64)

    original, shares = table["parent_id"].is_null().to_numpy(), [*sorted(set(params.shares)), 1.0]
    metrics: dict[str, Any] = {"rows_train": int(original.sum()), "examples": int((~original).sum())}
    metrics["rows_validation"] = len(truth)
    plots = []
    for name, predict, draws in (("probe", probe, params.probe_draws), (params.approach, fine_tuned, params.draws)):
        randoms = [generator(seed, "learning_curve", str(draw)) for draw in range(draws)]
        keys = [subset_keys(train.targets, number_values(table["split_group"]), random) for random in randoms]
        fits, scored = [(draw, share) for draw in range(draws) for share in shares], []
        for draw, share in progress(fits, f"learning_curve {name}", len(fits), "fit"):
            own_seed = derived_seed(seed, "learning_curve", name, str(draw), str(share))
            predicted = predict(np.flatnonzero(keys[draw] < share), own_seed).argmax(axis=1)
            scored.append(score_labels(truth, predicted, truth_groups))
        sizes = np.array([np.mean([((key < share) & original).sum() for key in keys]) for share in shares])
        metrics[name], plot = measure_curve(name, sizes, scored, params.reach, params.samples, seed)
        print(f"learning_curve: {name}: {metrics[name]['conclusion']}", flush=True)
        if name == "probe":
            present, of_label = np.unique(truth), np.bincount(train.targets[original], minlength=len(classes))
            names, exponent = [classes[one] for one in present], metrics[name]["law"]["exponent"]
            metrics["labels"] = measure_labels(names, of_label[present], sizes / sizes[-1], scored, exponent)
        plots.append(plot)
    for label, one in list(metrics["labels"].items())[:3]:
        print(f"learning_curve: {MORE_ROWS} more rows of {label!r}: {one['gain_points']:+.2f} points of macro-F1")
    write_text(PLOT, pl.concat(plots).write_csv(float_precision=6))
    write_metrics(METRICS, metrics, "rows_train", "rows_validation", "probe.twice.macro_f1")


if __name__ == "__main__":
    run_stage(main)
