"""New train rows, made from old ones by TextAttack.

Decides: which train rows get an altered copy, and which copies are let in. Looks at validation and test rows only to
keep copies away from them.

Reads `data/label_errors/train.parquet`, `data/split/{validation,test}.parquet` and WordNet; writes
`data/augmented/train.parquet` (`id`, `text`, `label`, `parent_id`, `recipe`, `seed`, `authenticity`; `parent_id`,
`recipe` and `seed` are null for the original rows, which come first, and copies are of authenticity `augmented`) and
`data/augmented/removed.parquet` (copies that were not let in: `before` is their text).

1. A recipe takes the rows whose keyed draw lies below `share_of_rows`, and alters `share_of_words` of a row's words, at
   least one. A copy has its parent's given label.
2. TextAttack draws from the global generators of Python and NumPy. Both are seeded for each copy from the project seed,
   the recipe and the parent's id; so a copy depends on nothing else, however the work is dealt out. That seed is kept
   with the row.
3. A copy is removed that equals its parent (`identical_to_parent`: there was no word to alter), another row
   (`duplicate`), or that is too close to a validation or test row (`near_held_out`).
4. At the end no train row may be a near-duplicate of a validation or test row, the original ones included.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import joblib
import polars as pl
from pydantic import Field, field_validator

from stages.lib.artifacts import REMOVED_SCHEMA, output_folder, write_json, write_parquet
from stages.lib.errors import InputError, run_stage
from stages.lib.near_duplicates import NearMatches, near_matches
from stages.lib.params import Params, load_params
from stages.lib.progress import progress
from stages.lib.randomness import derived_seed, keyed_uniform
from stages.lib.textattack_copies import RecipeName, altered_copies
from stages.lib.textattack_import import write_textattack_data

TRAIN = Path("data/label_errors/train.parquet")
HELD_OUT = (Path("data/split/validation.parquet"), Path("data/split/test.parquet"))
OUTPUT = Path("data/augmented")
METRICS = Path("metrics/augment.json")

ROWS_PER_CHUNK = 50
"""Rows that a worker takes at a time: half a second of work."""

REASONS = ("identical_to_parent", "duplicate", "near_held_out")
"""Why a copy is not let in; the first that fits counts."""

Share = Annotated[float, Field(gt=0, le=1)]

COPIES_SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "text": pl.String,
        "label": pl.String,
        "parent_id": pl.String,
        "recipe": pl.String,
        "seed": pl.UInt64,
    }
)


class Recipe(Params):
    """One way to alter a text, the share of rows that get a copy, and the share of a row's words that are altered."""

    name: RecipeName
    share_of_rows: Share
    share_of_words: Share


class AugmentParams(Params):
    """The `augment` section of `params.yaml`."""

    wordnet: str
    recipes: list[Recipe]
    max_jaccard_to_held_out: float = Field(gt=0, le=1)
    workers: int = Field(ge=1, le=256)

    @field_validator("recipes")
    @classmethod
    def _once(cls, recipes: list[Recipe]) -> list[Recipe]:
        names = [recipe.name for recipe in recipes]
        if len(set(names)) < len(names):
            raise ValueError("a recipe is named twice; a row gets one copy of each")
        return recipes


class NearDuplicateParams(Params):
    """`clean.near_duplicates`: how near-duplicates are found, the same here as there."""

    shingle_unit: Literal["character", "word"]
    shingle_size: int = Field(ge=1, le=100)
    permutations: int = Field(ge=16, le=4096)
    min_jaccard: float = Field(gt=0, le=1)


@dataclass(frozen=True)
class Sifted:
    """Copies that are let in, and those that are not in the form of `removed.parquet`."""

    kept: pl.DataFrame
    removed: pl.DataFrame


def plan_copies(train: pl.DataFrame, recipe: str, share_of_rows: float, seed: int) -> pl.DataFrame:
    """The copies that a recipe will make: their schema with the text of the parent.

    Args:
        train: `id`, `text`, `label`.
        recipe: name of the recipe.
        share_of_rows: rows with a draw below it get a copy.
        seed: the project seed.
    """
    parents = train.filter(keyed_uniform(train["id"], seed, "augment", recipe) < share_of_rows)
    seeds = [derived_seed(seed, "augment", recipe, id_) for id_ in parents["id"]]
    return parents.select(
        pl.concat_str("id", pl.lit(f"~{recipe}")).alias("id"),
        "text",
        "label",
        pl.col("id").alias("parent_id"),
        pl.lit(recipe).alias("recipe"),
        pl.Series("seed", seeds, dtype=pl.UInt64),
    ).match_to_schema(COPIES_SCHEMA)


def alter_all(copies: pl.DataFrame, recipe: Recipe, scratch: Path, workers: int) -> pl.Series:
    """Altered texts of the planned copies, in their order, whatever the number of worker processes."""
    chunks = list(copies.iter_slices(ROWS_PER_CHUNK))
    results: Iterator[list[str]] = joblib.Parallel(n_jobs=workers, return_as="generator")(
        joblib.delayed(altered_copies)(
            chunk["text"].to_list(), chunk["seed"].to_list(), recipe.name, recipe.share_of_words, scratch
        )
        for chunk in chunks
    )
    done = progress(results, f"augment {recipe.name}", total=len(chunks), unit="chunk")
    return pl.Series("text", [text for part in done for text in part], dtype=pl.String)


def sift_copies(
    copies: pl.DataFrame, train: pl.DataFrame, jaccard_to_held_out: pl.Series, max_jaccard: float
) -> Sifted:
    """Let in the copies that are new and far enough from the held-out rows; the first reason that fits counts.

    Args:
        copies: with the altered texts.
        train: the original rows: `id`, `text`.
        jaccard_to_held_out: of each copy to the closest held-out row.
        max_jaccard: a copy at least this close is removed.
    """
    parents = train.select(pl.col("id").alias("parent_id"), pl.col("text").alias("parent_text"))
    judged = copies.join(parents, on="parent_id", how="left", maintain_order="left").with_columns(
        pl.when(pl.col("text") == pl.col("parent_text"))
        .then(pl.lit("identical_to_parent"))
        .when(pl.col("text").is_in(train["text"].implode()) | pl.col("text").is_first_distinct().not_())
        .then(pl.lit("duplicate"))
        .when(jaccard_to_held_out >= max_jaccard)
        .then(pl.lit("near_held_out"))
        .alias("rule")
    )
    removed = judged.filter(pl.col("rule").is_not_null()).select(
        "id", "rule", pl.col("text").alias("before"), pl.lit(None, pl.String).alias("after")
    )
    return Sifted(
        judged.filter(pl.col("rule").is_null()).select(COPIES_SCHEMA.names()), removed.match_to_schema(REMOVED_SCHEMA)
    )


def refuse_leakage(train: pl.DataFrame, held_out: pl.DataFrame, closest: NearMatches, max_jaccard: float) -> None:
    """Refuse a train row that is a near-duplicate of a validation or test row.

    Args:
        train: `id`, `text`.
        held_out: `id`, `text`.
        closest: for each train row its closest held-out row.
        max_jaccard: similarity from which it is a near-duplicate.

    Raises:
        InputError: there is one; names the closest pair.
    """
    if not len(closest.jaccard) or closest.jaccard.max() < max_jaccard:
        return
    worst = int(closest.jaccard.argmax())
    other = held_out.row(int(closest.index[worst]), named=True)
    row = train.row(worst, named=True)
    raise InputError(
        f"{TRAIN}: {int((closest.jaccard >= max_jaccard).sum())} train row(s) are near-duplicates of validation or test"
        f" rows; the closest, {row['id']!r} and {other['id']!r}, have a Jaccard similarity of"
        f" {closest.jaccard[worst]:.3f}: {row['text']!r} / {other['text']!r}. Run `clean` and `split` again; if it"
        " stays, lower `clean.near_duplicates.min_jaccard`"
    )


def main() -> None:
    """Augment the train rows."""
    params = load_params("augment", AugmentParams)
    near = load_params("clean.near_duplicates", NearDuplicateParams)
    seed = load_params("seed", int)
    train = pl.read_parquet(TRAIN, columns=["id", "text", "label", "authenticity", "label_weight"])
    held_out = pl.concat(pl.read_parquet(path, columns=["id", "text"]) for path in HELD_OUT)

    started = time.perf_counter()
    parts = []
    if params.recipes:
        with tempfile.TemporaryDirectory(prefix="assay-augment-") as scratch:
            write_textattack_data(Path(params.wordnet), Path(scratch))
            for recipe in params.recipes:
                planned = plan_copies(train, recipe.name, recipe.share_of_rows, seed)
                parts.append(planned.with_columns(alter_all(planned, recipe, Path(scratch), params.workers)))
    copies = pl.concat([COPIES_SCHEMA.to_frame(), *parts])
    seconds = time.perf_counter() - started

    closest = near_matches(
        pl.concat([train["text"], copies["text"]]),
        held_out["text"],
        shingle_unit=near.shingle_unit,
        shingle_size=near.shingle_size,
        permutations=near.permutations,
        min_jaccard=min(params.max_jaccard_to_held_out, near.min_jaccard),
    )
    # Cleaning keeps original rows apart at its own threshold; that of the copies may be lower.
    originals = NearMatches(closest.jaccard[: train.height], closest.index[: train.height])
    refuse_leakage(train, held_out, originals, max(params.max_jaccard_to_held_out, near.min_jaccard))
    jaccard = pl.Series(closest.jaccard[train.height :])
    sifted = sift_copies(copies, train, jaccard, params.max_jaccard_to_held_out)
    out = pl.concat(
        [
            train.with_columns(
                pl.lit(None, pl.String).alias("parent_id"),
                pl.lit(None, pl.String).alias("recipe"),
                pl.lit(None, pl.UInt64).alias("seed"),
            ).select(*COPIES_SCHEMA.names(), "authenticity", "label_weight"),
            # A copy has its parent's label, and can be trusted as far.
            sifted.kept.with_columns(authenticity=pl.lit("augmented")).join(
                train.select(parent_id="id", label_weight="label_weight"),
                on="parent_id",
                how="left",
                maintain_order="left",
            ),
        ]
    )
    if not out["id"].is_unique().all():
        raise InputError(f"{TRAIN}: ids end as those of copies do (`~synonym`), and are no longer unique; change them")

    similarity = pl.DataFrame({"id": pl.concat([train["id"], copies["id"]]), "jaccard": closest.jaccard})
    largest_jaccard = similarity.join(out, on="id", how="semi")["jaccard"].max()
    counts = {rule: sifted.removed.filter(pl.col("rule") == rule).height for rule in REASONS}
    with output_folder(OUTPUT) as folder:
        write_parquet(out, folder / "train.parquet")
        write_parquet(sifted.removed, folder / "removed.parquet")
    write_json(
        METRICS,
        {
            "rows_in": train.height + copies.height,
            "rows_out": out.height,
            "removed": counts,
            "original_rows": train.height,
            "new_rows": sifted.kept.height,
            "new_rows_share": sifted.kept.height / out.height,
            "per_recipe": {
                recipe.name: {
                    "made": copies.filter(pl.col("recipe") == recipe.name).height,
                    "let_in": sifted.kept.filter(pl.col("recipe") == recipe.name).height,
                }
                for recipe in params.recipes
            },
            "largest_jaccard_to_held_out": largest_jaccard,
            "augment_seconds": seconds,
            "rows_per_second": copies.height / seconds,
        },
    )


if __name__ == "__main__":
    run_stage(main)
