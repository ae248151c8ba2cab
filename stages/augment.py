"""New train rows, made from old ones by TextAttack.

Decides: which train rows get an augmented example, and which examples are kept (`assay/augmentation/make_examples.py`
says how). Uses validation and test rows only to keep examples away from them, and no label of theirs.

Reads `data/label_errors/train.parquet`, `data/split/{validation,test}.parquet`, `data/embeddings/`, the base encoder
and WordNet; writes
- `data/augmented/train.parquet` (`id`, `text`, `label`, `parent_id`, `recipe`, `seed`, `authenticity`, `label_weight`;
  `parent_id`, `recipe` and `seed` are null for the original rows, which come first, and examples are of authenticity
  `augmented`);
- `data/augmented/removed.parquet`: examples that were removed: `before` is their text;
- `data/augmented/pairs.csv`: sources and examples side by side, sampled by hash, for a person to read.
"""

from pathlib import Path

import polars as pl

from assay.augmentation.make_examples import (
    REASONS,
    AugmentParams,
    append_examples,
    load_around,
    make_examples,
    read_inputs,
)
from assay.core.errors import run_stage
from assay.core.outputs import output_folder, write_json, write_parquet, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import keyed_uniform

OUTPUT = Path("data/augmented")
METRICS = Path("metrics/augment.json")
COSTS = Path("metrics/cost/augment.json")
PAIRS = 100


def sample_pairs(kept: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Sources and examples side by side, of every recipe the same number as far as there are so many."""
    drawn = kept.with_columns(draw=keyed_uniform(kept["id"], seed, "augment", "pairs"))
    turn = pl.col("draw").rank("ordinal").over("recipe")
    sampled = drawn.sort(turn, "recipe").head(PAIRS).sort("recipe", "parent_id")
    cosine = pl.col("cosine_to_parent").round(3)
    return sampled.select("recipe", "label", "parent_id", before="parent_text", after="text", cosine=cosine)


def count_outcomes(recipe: str, examples: pl.DataFrame, kept: pl.DataFrame, removed: pl.DataFrame) -> dict[str, int]:
    """How many examples of a recipe were made and kept, and how many were removed for each reason."""
    made = examples.filter(pl.col("recipe") == recipe)
    reasons = removed.join(made.select("id"), on="id", how="semi")["rule"]
    return {
        "made": made.height,
        "let_in": kept.filter(pl.col("recipe") == recipe).height,
        **{reason: int((reasons == reason).sum()) for reason in REASONS},
    }


def main() -> None:
    """Augment the train rows."""
    params = load_params("augment", AugmentParams)
    around = load_around()
    seed = load_params("seed", int)
    quiet_libraries()
    inputs = read_inputs()
    train = inputs.train
    made = make_examples(inputs, params, around, (seed, "augment"))
    kept, removed = made.filtered.kept, made.filtered.removed
    out = append_examples(train, kept)
    with output_folder(OUTPUT) as folder:
        write_parquet(out, folder / "train.parquet")
        write_parquet(removed, folder / "removed.parquet")
        write_text(folder / "pairs.csv", sample_pairs(kept, seed).write_csv())
    metrics = {
        "rows_in": train.height + made.examples.height,
        "rows_out": out.height,
        "removed": {rule: removed.filter(pl.col("rule") == rule).height for rule in REASONS},
        "original_rows": train.height,
        "new_rows": kept.height,
        "per_recipe": {one.name: count_outcomes(one.name, made.examples, kept, removed) for one in params.recipes},
        "rows_per_label": dict(sorted(out["label"].value_counts().rows())),
    }
    write_metrics(METRICS, metrics, "original_rows", "new_rows")
    write_json(COSTS, {"augment_seconds": made.seconds, "rows_per_second": made.examples.height / made.seconds})


if __name__ == "__main__":
    run_stage(main)
