"""Make augmented examples of train rows by recipes, and filter them, as docs/augmentation.md says.

An example is drawn by a generator of its own, seeded from the project seed, the recipe and the source's id; so it
depends on nothing else, however the work is distributed. At the end no train row may be a near-duplicate of a
validation or test row, the original ones included; where the data brings its division, such original rows are only
counted on standard error.

Legend: `n` train rows, `e` examples, `d` dimensions.
"""

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import joblib
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from assay.augmentation.apply import augment_texts, hide_tokens, show_tokens
from assay.augmentation.checks import LabelPreservation, list_placeholders, probe_examples, rank_of_label
from assay.augmentation.recipes import Recipes
from assay.augmentation.textattack_import import write_textattack_data
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError
from assay.core.outputs import partial_path
from assay.core.params import Params, load_params
from assay.core.removed_rows import Filtered, removed_rows
from assay.core.row_ids import variant
from assay.core.seeds import SeedKey, derived_seed, keyed_uniform
from assay.duplicates.near_duplicates import IDENTICAL, NearDuplicateParams, near_matches
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.embeddings.nearest import nearest_reference
from assay.embeddings.table import EMBEDDINGS, LAYERS, embeddings_of
from assay.probes import number_values

TRAIN = Path("data/label_errors/train.parquet")
HELD_OUT = (Path("data/split/validation.parquet"), Path("data/split/test.parquet"))
SCRATCH = Path("scratch")
"""In the project, which machines of a cluster share."""

REASONS = ("identical_to_parent", "duplicate", "placeholder_changed", "near_held_out", "meaning_changed", "label_lost")
"""Why an example is removed; the first that fits counts."""

MAX_EXAMPLES_PER_ROW = 20
"""By one recipe, however rare the row's label."""

EXAMPLES_SCHEMA = pl.Schema(
    dict.fromkeys(("id", "text", "label", "parent_id", "recipe"), pl.String) | {"seed": pl.UInt64}
)


class AugmentParams(Params):
    """The `augment` section of `params.yaml`.

    An example as similar to a held-out row as `max_jaccard_to_held_out` or `max_cosine_to_held_out` is removed.
    """

    wordnet: str
    own_tokens: list[Annotated[str, Field(min_length=1)]]
    recipes: Recipes
    balance: float = Field(ge=0, le=1)
    preserve: LabelPreservation
    max_jaccard_to_held_out: float = Field(gt=0, le=1)
    max_cosine_to_held_out: float = Field(gt=0, le=1)
    workers: int = Field(ge=1, le=1024)


@dataclass(frozen=True)
class Around:
    """Params of other sections of `params.yaml`; `is_given`: the data brings its division into splits."""

    embed: EmbedParams
    near_duplicates: NearDuplicateParams | None
    min_cosine: float
    compute: Compute
    is_given: bool


@dataclass(frozen=True)
class Inputs:
    """What examples are made of and kept away from.

    Attributes:
        train: `id`, `text`, `label`, `split_group`.
        train_vectors: embeddings of length 1, shape `(n, d)`.
        train_layers: states of the encoder's last layers, for the probe, shape `(n, d)`.
        held_out: `id`, `text` of the validation and test rows.
        held_out_vectors: their embeddings, shape `(r, d)`.
    """

    train: pl.DataFrame
    train_vectors: NDArray[np.float32]
    train_layers: NDArray[np.float32]
    held_out: pl.DataFrame
    held_out_vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Made:
    """What recipes made of train rows.

    Attributes:
        examples: all of them, with what `filter_examples` goes by.
        seconds: that it took to make them, TextAttack's import included.
        largest_jaccard: of a row that is trained on, original or example, to a held-out row; likewise `largest_cosine`.
    """

    examples: pl.DataFrame
    filtered: Filtered
    seconds: float
    largest_jaccard: float
    largest_cosine: float


def load_around() -> Around:
    """Load the params of other sections."""
    return Around(
        load_params("embed", EmbedParams),
        load_params("clean.near_duplicates", NearDuplicateParams | None),  # type: ignore[arg-type]
        load_params("semantic_duplicates.min_cosine", float),
        load_params("compute", Compute),
        load_params("split.given_column", str | None) is not None,  # type: ignore[arg-type]
    )


def read_inputs() -> Inputs:
    """The train rows (no reference label) and the held-out ones, and what `embed` wrote of both.

    An `InputError` where it has no row.
    """
    columns = ["id", "text", "label", "authenticity", "label_weight", "split_group"]
    train = pl.read_parquet(TRAIN, columns=columns)
    held_out = pl.concat(pl.read_parquet(path, columns=["id", "text"]) for path in HELD_OUT)
    table = pl.read_parquet(EMBEDDINGS)
    return Inputs(
        train,
        embeddings_of(train["id"], table, TRAIN),
        embeddings_of(train["id"], pl.read_parquet(LAYERS), TRAIN),
        held_out,
        embeddings_of(held_out["id"], table, HELD_OUT[1]),
    )


def examples_per_row(labels: pl.Series, share_of_rows: float, all_shares: float, balance: float) -> pl.Series:
    """How many examples of each row a recipe is to make on average, as Float64.

    What a label lacks is shared out to the recipes as their shares of rows are: with a `balance` of 1, up to as many
    rows of each label as of the most frequent; with 0, nothing.
    """
    rows = pl.len().over("label")
    extra = labels.to_frame("label").select(balance * (rows.max() - rows) / rows).to_series()
    share = share_of_rows + extra * (share_of_rows / all_shares if all_shares else 0.0)
    return share.clip(0, MAX_EXAMPLES_PER_ROW)


def plan_examples(train: pl.DataFrame, recipe: str, counts: pl.Series, seed: SeedKey) -> pl.DataFrame:
    """The examples that a recipe will make, in the form of `EXAMPLES_SCHEMA`, with the text of the source.

    `counts` says how many of each row on average, shape `(n,)`; what is not whole is drawn for.
    """
    drawn = keyed_uniform(train["id"], *seed, recipe) < counts - counts.floor()
    numbers = (counts.floor() + drawn.cast(pl.Float64)).cast(pl.Int64)
    planned = (
        train.select(parent_id="id", text="text", label="label", number=pl.int_ranges(1, numbers + 1))
        .explode("number")
        .filter(pl.col("number").is_not_null())
        .sort("number", maintain_order=True)
    )
    # The first example of a row has no number.
    ids = [
        variant(parent, recipe, *([number] if number > 1 else []))
        for parent, number in planned.select("parent_id", "number").iter_rows()
    ]
    seeds = [derived_seed(*seed, recipe, id_) for id_ in ids]
    id_column, seed_column = pl.Series("id", ids, dtype=pl.String), pl.Series("seed", seeds, dtype=pl.UInt64)
    made = planned.with_columns(id_column, seed_column, recipe=pl.lit(recipe))
    return made.select(EXAMPLES_SCHEMA.names())


def connect_workers(compute: Compute) -> AbstractContextManager[object]:
    """Where joblib distributes work to, while the context lasts; an `InputError` where that is Ray, not installed."""
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


def run_recipes(train: pl.DataFrame, params: AugmentParams, compute: Compute, seed: SeedKey) -> pl.DataFrame:
    """The examples of all recipes with their altered texts, in the form of `EXAMPLES_SCHEMA`."""
    recipes = [recipe for recipe in params.recipes if recipe.share_of_rows > 0]
    all_shares = sum(recipe.share_of_rows for recipe in recipes)
    parts = []
    SCRATCH.mkdir(exist_ok=True)
    with partial_path(SCRATCH.resolve() / "augment") as scratch, connect_workers(compute):
        scratch.mkdir()
        if recipes:
            write_textattack_data(Path(params.wordnet), scratch)
        for recipe in recipes:
            counts = examples_per_row(train["label"], recipe.share_of_rows, all_shares, params.balance)
            planned = plan_examples(train, recipe.name, counts, seed)
            texts = [hide_tokens(text, params.own_tokens) for text in planned["text"]]
            altered = augment_texts(texts, planned["seed"].to_list(), recipe, scratch, params.workers)
            made = [show_tokens(text, params.own_tokens) for text in altered]
            parts.append(planned.with_columns(pl.Series("text", made, dtype=pl.String)))
    return pl.concat([EXAMPLES_SCHEMA.to_frame(), *parts])


def filter_examples(examples: pl.DataFrame, train: pl.DataFrame, params: AugmentParams) -> Filtered:
    """Keep the examples that are new, far enough from the held-out rows, and true to their sources.

    They are judged by `jaccard_to_held_out`, `cosine_to_held_out`, `cosine_to_parent`, and `places_lost`: how many
    labels are likelier than the given one that were not for the source.
    """
    parents = train.select(parent_id="id", parent_text="text")
    joined = examples.join(parents, on="parent_id", how="left", maintain_order="left")
    texts = joined.select("text", "parent_text").rows()
    hidden = [[list_placeholders(hide_tokens(text, params.own_tokens)) for text in pair] for pair in texts]
    has_others = [of_text != of_parent for of_text, of_parent in hidden]
    conditions: dict[str, pl.Expr | pl.Series] = {
        "identical_to_parent": pl.col("text") == pl.col("parent_text"),
        "duplicate": pl.col("text").is_in(train["text"].implode()) | pl.col("text").is_first_distinct().not_(),
        "placeholder_changed": pl.Series(has_others, dtype=pl.Boolean),
        "near_held_out": (pl.col("jaccard_to_held_out") >= params.max_jaccard_to_held_out)
        | (pl.col("cosine_to_held_out") >= params.max_cosine_to_held_out),
        "meaning_changed": pl.col("cosine_to_parent") < params.preserve.min_cosine_to_parent,
        "label_lost": pl.col("places_lost") > 0,
    }
    checked = joined.with_columns(
        pl.coalesce(pl.when(conditions[reason]).then(pl.lit(reason)) for reason in REASONS).alias("rule")
    )
    return Filtered(
        checked.filter(pl.col("rule").is_null()),
        removed_rows(checked.filter(pl.col("rule").is_not_null()), pl.col("rule")),
    )


def refuse_leakage(
    train: pl.DataFrame,
    held_out: pl.DataFrame,
    similarity: NDArray[np.float64],
    closest: NDArray[np.int64],
    limit: float,
    measure: str,
    is_given: bool,
) -> None:
    """Raise an `InputError`, with the closest pair, if a train row is a near-duplicate of a validation or test row.

    Args:
        is_given: the data brings its division; then the number of such rows is printed, and that is all.
        similarity: of each train row to its closest held-out row, named `measure`, shape `(n,)`.
        closest: the number of that row, shape `(n,)`.
        limit: similarity from which it is a near-duplicate.
    """
    if not len(similarity) or similarity.max() < limit:
        return
    worst = int(similarity.argmax())
    other = held_out.row(int(closest[worst]), named=True)
    row = train.row(worst, named=True)
    found = (
        f"{TRAIN}: {int((similarity >= limit).sum())} train row(s) are near-duplicates of validation or test rows; the"
        f" closest, {row['id']!r} and {other['id']!r}, have a {measure} of {similarity[worst]:.3f}: {row['text']!r} /"
        f" {other['text']!r}"
    )
    if is_given:
        print(f"augment: {found}; the division is that of the data", file=sys.stderr)
        return
    raise InputError(
        f"{found}. Run `clean`, `semantic_duplicates` and `split` again; if it stays, lower"
        " `clean.near_duplicates.min_jaccard` or `semantic_duplicates.min_cosine`"
    )


def make_examples(inputs: Inputs, params: AugmentParams, around: Around, seed: SeedKey) -> Made:
    """Make examples of train rows, and keep those that are new, true to their sources and far from held-out rows.

    Raises:
        InputError: an original row is a near-duplicate of a held-out row.
    """
    train, held_out, near = inputs.train, inputs.held_out, around.near_duplicates or IDENTICAL
    # By numbers in full precision, so that the same examples are kept on any machine.
    device = prepare_device(around.compute, exact=True)
    started = time.perf_counter()
    examples = run_recipes(train, params, around.compute, seed)
    seconds = time.perf_counter() - started

    lowest = near.model_copy(update={"min_jaccard": min(params.max_jaccard_to_held_out, near.min_jaccard)})
    closest = near_matches(pl.concat([train["text"], examples["text"]]), held_out["text"], lowest)
    # Cleaning keeps original rows apart at its own threshold, if it has one; that of the examples may be lower.
    max_jaccard = max(params.max_jaccard_to_held_out, near.min_jaccard) if around.near_duplicates else np.inf
    of_train, index = (closest[name].to_numpy()[: train.height] for name in ("jaccard", "index"))
    refuse_leakage(train, held_out, of_train, index, max_jaccard, "Jaccard similarity", around.is_given)
    cosines, nearest = nearest_reference(inputs.train_vectors, inputs.held_out_vectors)
    max_cosine = max(params.max_cosine_to_held_out, around.min_cosine)
    refuse_leakage(train, held_out, cosines, nearest, max_cosine, "cosine of embeddings", around.is_given)

    examples = examples.with_columns(jaccard_to_held_out=closest["jaccard"][train.height :])
    examples = measure_examples(examples, inputs, params.preserve, around.embed, device, seed)
    filtered = filter_examples(examples, train, params)
    largest_jaccard = float(max([*of_train, *filtered.kept["jaccard_to_held_out"]], default=0))
    largest_cosine = float(max([*cosines, *filtered.kept["cosine_to_held_out"]], default=0))
    return Made(examples, filtered, seconds, largest_jaccard, largest_cosine)


def measure_examples(
    examples: pl.DataFrame,
    inputs: Inputs,
    preserve: LabelPreservation,
    embedding: EmbedParams,
    device: Device,
    seed: SeedKey,
) -> pl.DataFrame:
    """The examples with `cosine_to_parent`, `cosine_to_held_out`, `places_lost`; null where nothing was altered."""
    train = inputs.train
    texts = dict(train.select("id", "text").iter_rows())
    is_changed = [text != texts[parent] for text, parent in examples.select("text", "parent_id").iter_rows()]
    changed = examples.filter(pl.Series(is_changed, dtype=pl.Boolean))
    if not changed.height:
        nothing = pl.lit(None, pl.Float64)
        return examples.with_columns(cosine_to_parent=nothing, cosine_to_held_out=nothing, places_lost=nothing)
    number = {id_: index for index, id_ in enumerate(train["id"])}
    parents = np.array([number[parent] for parent in changed["parent_id"]], dtype=np.int64)
    embedded, _ = embedded_texts(changed["text"].to_list(), embedding, device)
    to_held_out, _ = nearest_reference(embedded.embeddings, inputs.held_out_vectors)
    to_parent = np.einsum("ed,ed->e", embedded.embeddings, inputs.train_vectors[parents])
    labels, folds_seed = number_values(train["label"]), derived_seed(*seed, "folds")
    of_originals, of_examples = probe_examples(
        inputs.train_layers, embedded.layers, parents, labels, train["split_group"], preserve, folds_seed
    )
    lost = rank_of_label(of_examples, labels[parents]) - rank_of_label(of_originals, labels)[parents]
    measured = changed.select(
        "id",
        cosine_to_parent=pl.Series(to_parent.astype(np.float64)),
        cosine_to_held_out=pl.Series(to_held_out),
        places_lost=pl.Series(lost),
    )
    return examples.join(measured, on="id", how="left", maintain_order="left")


def append_examples(train: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """The original rows, and after them the examples, in the form of `data/augmented/train.parquet`.

    An example has its source's label, and can be trusted as far. Two rows of one id are an `InputError`.
    """
    weights = train.select(parent_id="id", label_weight="label_weight")
    examples = kept.select(EXAMPLES_SCHEMA.names()).with_columns(authenticity=pl.lit("augmented"))
    examples = examples.join(weights, on="parent_id", how="left", maintain_order="left")
    # The columns that original rows lack come out as null.
    out = pl.concat([train.select("id", "text", "label", "authenticity", "label_weight"), examples], how="diagonal")
    out = out.select(examples.columns)
    if not out["id"].is_unique().all():
        raise InputError(
            f"{TRAIN}: ids end as those of augmented examples do (`~synonym`), and are no longer unique; change them"
        )
    return out
