"""New train rows, made from old ones by TextAttack.

Decides: which train rows get an altered copy, and which copies are let in. Looks at validation and test rows only to
keep copies away from them, and at no label of theirs.

Reads `data/label_errors/train.parquet`, `data/split/{validation,test}.parquet`, `data/embeddings/`, the base encoder
and WordNet; writes
- `data/augmented/train.parquet` (`id`, `text`, `label`, `parent_id`, `recipe`, `seed`, `authenticity`, `label_weight`;
  `parent_id`, `recipe` and `seed` are null for the original rows, which come first, and copies are of authenticity
  `augmented`);
- `data/augmented/removed.parquet`: copies that were not let in: `before` is their text;
- `data/augmented/pairs.csv`: parents and copies side by side, drawn by seed, for a person to read.

1. A recipe takes the rows whose keyed draw lies below `share_of_rows`. With `balance`, rows of rarer labels get more
   copies, up to that share of what they lack to the most frequent label. A copy has its parent's given label.
2. A copy is drawn by a generator of its own, seeded from the project seed, the recipe and the parent's id; so it
   depends on nothing else, however the work is dealt out. That seed is kept with the row.
3. A copy is removed, for the first reason that fits, that
   - equals its parent (`identical_to_parent`: there was nothing to alter), or another row (`duplicate`);
   - has other placeholders than its parent (`placeholder_changed`);
   - is too close to a validation or test row, by its characters or by its meaning (`near_held_out`);
   - has moved too far from its parent in the space of the frozen encoder (`meaning_changed`);
   - loses its label: to a probe that saw neither the parent nor its semantic group, more labels are likelier than the
     given one than were for the parent (`label_lost`).
4. At the end no train row may be a near-duplicate of a validation or test row, the original ones included.
"""

import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import joblib
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from assay.augmentation.apply import copies_of
from assay.augmentation.checks import largest_cosines, place_of_label, placeholders_of, probed
from assay.augmentation.recipes import Recipes, require_models
from assay.augmentation.textattack_import import write_textattack_data
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import output_folder, write_json, write_parquet, write_text
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.core.seeds import derived_seed, keyed_uniform
from assay.duplicates.linking import NearMatches, near_matches
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.embeddings.table import EMBEDDINGS, LAYERS, embeddings_of

TRAIN = Path("data/label_errors/train.parquet")
HELD_OUT = (Path("data/split/validation.parquet"), Path("data/split/test.parquet"))
OUTPUT = Path("data/augmented")
METRICS = Path("metrics/augment.json")
SCRATCH = Path("scratch")
"""In the project, which machines of a cluster share."""

REASONS = (
    "identical_to_parent",
    "duplicate",
    "placeholder_changed",
    "near_held_out",
    "meaning_changed",
    "label_lost",
)
"""Why a copy is not let in; the first that fits counts."""

MOST_COPIES = 20
"""Of a row by one recipe, however rare its label."""

PAIRS = 100

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


class LabelPreservation(Params):
    """What a copy must keep of its parent."""

    min_cosine_to_parent: float = Field(ge=-1, le=1)
    probe_folds: int = Field(ge=2, le=100)
    probe_C: float = Field(gt=0)


class AugmentParams(Params):
    """The `augment` section of `params.yaml`."""

    wordnet: str
    recipes: Recipes
    balance: float = Field(ge=0, le=1)
    preserve: LabelPreservation
    max_jaccard_to_held_out: float = Field(gt=0, le=1)
    max_cosine_to_held_out: float = Field(gt=0, le=1)
    workers: int = Field(ge=1, le=1024)


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


def copies_per_row(labels: pl.Series, share_of_rows: float, all_shares: float, balance: float) -> pl.Series:
    """How many copies of each row a recipe is to make on average, as Float64.

    With `balance`, what a label lacks is shared out to the recipes as their shares of rows are.

    Args:
        labels: of the train rows.
        share_of_rows: of the recipe.
        all_shares: of all recipes together.
        balance: 0 for the share alone; 1 for as many rows of each label as of the most frequent.
    """
    counts = labels.value_counts(name="rows").with_columns(
        extra=balance * (pl.col("rows").max() - pl.col("rows")) / pl.col("rows")
    )
    extra = labels.to_frame("label").join(counts.rename({labels.name: "label"}), on="label", maintain_order="left")
    share = share_of_rows + extra["extra"] * (share_of_rows / all_shares if all_shares else 0.0)
    return share.clip(0, MOST_COPIES)


def plan_copies(train: pl.DataFrame, recipe: str, copies: pl.Series, seed: int) -> pl.DataFrame:
    """The copies that a recipe will make: their schema with the text of the parent.

    Args:
        train: `id`, `text`, `label`.
        recipe: name of the recipe.
        copies: of each row on average, shape `(rows,)`; what is not whole is drawn for.
        seed: the project seed.
    """
    drawn = keyed_uniform(train["id"], seed, "augment", recipe) < copies - copies.floor()
    numbers = (copies.floor() + drawn.cast(pl.Float64)).cast(pl.Int64)
    planned = (
        train.select("id", "text", "label", number=pl.int_ranges(numbers))
        .explode("number")
        .filter(pl.col("number").is_not_null())
        .sort("number", maintain_order=True)
    )
    again = pl.when(pl.col("number") > 0).then(pl.format("~{}", pl.col("number") + 1)).otherwise(pl.lit(""))
    planned = planned.select(
        pl.concat_str("id", pl.lit(f"~{recipe}"), again).alias("id"),
        "text",
        "label",
        pl.col("id").alias("parent_id"),
        pl.lit(recipe).alias("recipe"),
    )
    seeds = [derived_seed(seed, "augment", recipe, id_) for id_ in planned["id"]]
    return planned.with_columns(pl.Series("seed", seeds, dtype=pl.UInt64)).match_to_schema(COPIES_SCHEMA)


def backend_of_workers(compute: Compute) -> AbstractContextManager[object]:
    """Where joblib deals work out to, while the context lasts.

    Raises:
        InputError: Ray is asked for and not installed.
    """
    if compute.backend == "processes":
        return nullcontext()
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise InputError(
            "params.yaml: `compute.backend` = 'ray', but there is no package ray: `.venv/bin/pip install -e '.[ray]'`"
        ) from error
    # The cluster of RAY_ADDRESS, or one that is started here and ends with this process.
    ray.init(include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    register_ray()  # type: ignore[no-untyped-call]
    context: AbstractContextManager[object] = joblib.parallel_config(backend="ray")
    return context


def sift_copies(
    copies: pl.DataFrame,
    train: pl.DataFrame,
    max_jaccard: float,
    max_cosine: float,
    min_cosine_to_parent: float,
) -> Sifted:
    """Let in the copies that are new, far enough from the held-out rows, and true to their parents.

    Args:
        copies: with the altered texts, and `jaccard_to_held_out`, `cosine_to_held_out`, `cosine_to_parent`, and
            `places_lost`: how many labels are likelier than the given one that were not for the parent.
        train: the original rows: `id`, `text`.
        max_jaccard: a copy at least this close to a held-out row is removed.
        max_cosine: the same, by meaning.
        min_cosine_to_parent: a copy further than this from its parent is removed.
    """
    parents = train.select(pl.col("id").alias("parent_id"), pl.col("text").alias("parent_text"))
    joined = copies.join(parents, on="parent_id", how="left", maintain_order="left")
    has_others = [
        placeholders_of(text) != placeholders_of(parent) for text, parent in joined.select("text", "parent_text").rows()
    ]
    conditions: dict[str, pl.Expr | pl.Series] = {
        "identical_to_parent": pl.col("text") == pl.col("parent_text"),
        "duplicate": pl.col("text").is_in(train["text"].implode()) | pl.col("text").is_first_distinct().not_(),
        "placeholder_changed": pl.Series(has_others, dtype=pl.Boolean),
        "near_held_out": (pl.col("jaccard_to_held_out") >= max_jaccard) | (pl.col("cosine_to_held_out") >= max_cosine),
        "meaning_changed": pl.col("cosine_to_parent") < min_cosine_to_parent,
        "label_lost": pl.col("places_lost") > 0,
    }
    judged = joined.with_columns(
        pl.coalesce(pl.when(conditions[reason]).then(pl.lit(reason)) for reason in REASONS).alias("rule")
    )
    removed = judged.filter(pl.col("rule").is_not_null()).select(
        "id", "rule", pl.col("text").alias("before"), pl.lit(None, pl.String).alias("after")
    )
    return Sifted(judged.filter(pl.col("rule").is_null()), removed.match_to_schema(REMOVED_SCHEMA))


def refuse_leakage(
    train: pl.DataFrame,
    held_out: pl.DataFrame,
    likeness: NDArray[np.float64],
    closest: NDArray[np.int64],
    limit: float,
    measure: str,
) -> None:
    """Refuse a train row that is a near-duplicate of a validation or test row.

    Args:
        train: `id`, `text`.
        held_out: `id`, `text`.
        likeness: of each train row to its closest held-out row.
        closest: the number of that row.
        limit: likeness from which it is a near-duplicate.
        measure: what the likeness is, for the message.

    Raises:
        InputError: there is one; names the closest pair.
    """
    if not len(likeness) or likeness.max() < limit:
        return
    worst = int(likeness.argmax())
    other = held_out.row(int(closest[worst]), named=True)
    row = train.row(worst, named=True)
    raise InputError(
        f"{TRAIN}: {int((likeness >= limit).sum())} train row(s) are near-duplicates of validation or test rows; the"
        f" closest, {row['id']!r} and {other['id']!r}, have a {measure} of {likeness[worst]:.3f}: {row['text']!r} /"
        f" {other['text']!r}. Run `clean`, `semantic_duplicates` and `split` again; if it stays, lower"
        " `clean.near_duplicates.min_jaccard` or `semantic_duplicates.min_cosine`"
    )


def pairs_to_read(kept: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Parents and copies side by side, of every recipe the same number as far as there are so many."""
    drawn = kept.with_columns(draw=keyed_uniform(kept["id"], seed, "augment", "pairs"))
    turn = pl.col("draw").rank("ordinal").over("recipe")
    return (
        drawn.sort(turn, "recipe")
        .head(PAIRS)
        .sort("recipe", "parent_id")
        .select(
            "recipe",
            "label",
            "parent_id",
            before="parent_text",
            after="text",
            cosine=pl.col("cosine_to_parent").round(3),
        )
    )


@dataclass(frozen=True)
class Made:
    """What recipes made of train rows.

    Attributes:
        copies: all of them, with what `sift_copies` goes by.
        sifted: those that are let in, and those that are not.
        seconds: that it took to make them, TextAttack's import included.
        largest_jaccard: of a row that is trained on, original or copy, to a held-out row.
        largest_cosine: the same, by meaning.
    """

    copies: pl.DataFrame
    sifted: Sifted
    seconds: float
    largest_jaccard: float
    largest_cosine: float


def made_copies(
    train: pl.DataFrame, held_out: pl.DataFrame, params: AugmentParams, compute: Compute, seed: int
) -> Made:
    """Make copies of train rows, and let in those that are new, true to their parents and far from held-out rows.

    Args:
        train: `id`, `text`, `label`, `semantic_group`.
        held_out: `id`, `text` of the validation and test rows.
        params: the recipes, and what a copy must keep.
        compute: where models run, and where workers are.
        seed: the project seed.

    Raises:
        InputError: an original row is a near-duplicate of a held-out row.
    """
    embedding = load_params("embed", EmbedParams)
    near = load_params("clean.near_duplicates", NearDuplicateParams)
    min_cosine_of_groups = load_params("semantic_duplicates.min_cosine", float)
    # By numbers in full precision, so that the same copies are let in on any machine.
    device = prepare_device(compute, exact=True)

    started = time.perf_counter()
    recipes = [recipe for recipe in params.recipes if recipe.share_of_rows > 0]
    all_shares = sum(recipe.share_of_rows for recipe in recipes)
    parts = []
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="augment-", dir=SCRATCH.resolve()) as scratch, backend_of_workers(compute):
        if recipes:
            write_textattack_data(Path(params.wordnet), Path(scratch))
        for recipe in recipes:
            wanted = copies_per_row(train["label"], recipe.share_of_rows, all_shares, params.balance)
            planned = plan_copies(train, recipe.name, wanted, seed)
            texts, seeds = planned["text"].to_list(), planned["seed"].to_list()
            altered = copies_of(texts, seeds, recipe, Path(scratch), params.workers, device)
            parts.append(planned.with_columns(pl.Series("text", altered, dtype=pl.String)))
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
    of_train = NearMatches(closest.jaccard[: train.height], closest.index[: train.height])
    # Cleaning keeps original rows apart at its own threshold; that of the copies may be lower.
    max_jaccard = max(params.max_jaccard_to_held_out, near.min_jaccard)
    refuse_leakage(train, held_out, of_train.jaccard, of_train.index, max_jaccard, "Jaccard similarity")

    table = pl.read_parquet(EMBEDDINGS)
    train_vectors = embeddings_of(train["id"], table, TRAIN)
    held_out_vectors = embeddings_of(held_out["id"], table, HELD_OUT[1])
    cosines, nearest = largest_cosines(train_vectors, held_out_vectors)
    max_cosine = max(params.max_cosine_to_held_out, min_cosine_of_groups)
    refuse_leakage(train, held_out, cosines, nearest, max_cosine, "cosine of embeddings")

    copies = copies.with_columns(jaccard_to_held_out=pl.Series(closest.jaccard[train.height :], dtype=pl.Float64))
    copies = judged_copies(copies, train, train_vectors, held_out_vectors, embedding, params.preserve, device, seed)
    sifted = sift_copies(
        copies,
        train,
        params.max_jaccard_to_held_out,
        params.max_cosine_to_held_out,
        params.preserve.min_cosine_to_parent,
    )
    kept = sifted.kept
    return Made(
        copies,
        sifted,
        seconds,
        float(max([*of_train.jaccard, *kept["jaccard_to_held_out"]], default=0)),
        float(max([*cosines, *kept["cosine_to_held_out"]], default=0)),
    )


def judged_copies(
    copies: pl.DataFrame,
    train: pl.DataFrame,
    train_vectors: NDArray[np.float32],
    held_out_vectors: NDArray[np.float32],
    embedding: EmbedParams,
    preserve: LabelPreservation,
    device: Device,
    seed: int,
) -> pl.DataFrame:
    """The copies with `cosine_to_parent`, `cosine_to_held_out` and `places_lost`; null where nothing was altered."""
    texts = dict(train.select("id", "text").iter_rows())
    is_changed = [text != texts[parent] for text, parent in copies.select("text", "parent_id").iter_rows()]
    changed = copies.filter(pl.Series(is_changed, dtype=pl.Boolean))
    if not changed.height:
        nothing = pl.lit(None, pl.Float64)
        return copies.with_columns(cosine_to_parent=nothing, cosine_to_held_out=nothing, places_lost=nothing)
    number = {id_: index for index, id_ in enumerate(train["id"])}
    parents = np.array([number[parent] for parent in changed["parent_id"]], dtype=np.int64)
    of_copies, _ = embedded_texts(changed["text"].to_list(), embedding, device)
    to_held_out, _ = largest_cosines(of_copies.embeddings, held_out_vectors)
    to_parent = np.einsum("cd,cd->c", of_copies.embeddings, train_vectors[parents])
    labels = train["label"].rank("dense").to_numpy().astype(np.int64) - 1
    layers = embeddings_of(train["id"], pl.read_parquet(LAYERS), TRAIN)
    of_originals, of_each = probed(
        layers,
        of_copies.layers,
        parents,
        labels,
        train["semantic_group"],
        folds=preserve.probe_folds,
        C=preserve.probe_C,
        seed=derived_seed(seed, "augment", "folds"),
    )
    lost = place_of_label(of_each, labels[parents]) - place_of_label(of_originals, labels)[parents]
    judged = changed.select(
        "id",
        cosine_to_parent=pl.Series(to_parent.astype(np.float64)),
        cosine_to_held_out=pl.Series(to_held_out),
        places_lost=pl.Series(lost),
    )
    return copies.join(judged, on="id", how="left", maintain_order="left")


def recipe_counts(recipe: str, copies: pl.DataFrame, kept: pl.DataFrame, removed: pl.DataFrame) -> dict[str, int]:
    """How many copies of a recipe were made and let in, and how many were removed for each reason."""
    made = copies.filter(pl.col("recipe") == recipe)
    reasons = removed.join(made.select("id"), on="id", how="semi")["rule"]
    return {
        "made": made.height,
        "let_in": kept.filter(pl.col("recipe") == recipe).height,
        **{reason: int((reasons == reason).sum()) for reason in REASONS},
    }


def with_copies(train: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """The original rows, and after them the copies, in the form of `data/augmented/train.parquet`.

    A copy has its parent's label, and can be trusted as far.

    Raises:
        InputError: two rows have one id.
    """
    nothing = {"parent_id": pl.String, "recipe": pl.String, "seed": pl.UInt64}
    originals = train.with_columns(pl.lit(None, kind).alias(name) for name, kind in nothing.items())
    weights = train.select(parent_id="id", label_weight="label_weight")
    copies = kept.select(COPIES_SCHEMA.names()).with_columns(authenticity=pl.lit("augmented"))
    out = pl.concat(
        [
            originals.select(*COPIES_SCHEMA.names(), "authenticity", "label_weight"),
            copies.join(weights, on="parent_id", how="left", maintain_order="left"),
        ]
    )
    if not out["id"].is_unique().all():
        raise InputError(f"{TRAIN}: ids end as those of copies do (`~synonym`), and are no longer unique; change them")
    return out


def main() -> None:
    """Augment the train rows."""
    params = load_params("augment", AugmentParams)
    require_models(params.recipes)
    compute = load_params("compute", Compute)
    seed = load_params("seed", int)
    quiet_libraries()
    columns = ["id", "text", "label", "authenticity", "label_weight", "semantic_group"]
    train = pl.read_parquet(TRAIN, columns=columns)
    held_out = pl.concat(pl.read_parquet(path, columns=["id", "text"]) for path in HELD_OUT)
    made = made_copies(train, held_out, params, compute, seed)
    kept, removed = made.sifted.kept, made.sifted.removed
    out = with_copies(train, kept)
    with output_folder(OUTPUT) as folder:
        write_parquet(out, folder / "train.parquet")
        write_parquet(removed, folder / "removed.parquet")
        write_text(folder / "pairs.csv", pairs_to_read(kept, seed).write_csv())
    write_json(
        METRICS,
        {
            "rows_in": train.height + made.copies.height,
            "rows_out": out.height,
            "removed": {rule: removed.filter(pl.col("rule") == rule).height for rule in REASONS},
            "original_rows": train.height,
            "new_rows": kept.height,
            "new_rows_share": kept.height / max(1, out.height),
            "per_recipe": {
                recipe.name: recipe_counts(recipe.name, made.copies, kept, removed) for recipe in params.recipes
            },
            "rows_per_label": dict(sorted(out["label"].value_counts().rows())),
            "largest_jaccard_to_held_out": made.largest_jaccard,
            "largest_cosine_to_held_out": made.largest_cosine,
            "augment_seconds": made.seconds,
            "rows_per_second": made.copies.height / made.seconds,
        },
    )


if __name__ == "__main__":
    run_stage(main)
