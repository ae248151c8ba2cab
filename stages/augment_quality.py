"""Whether augmented examples still have their labels, by a model that was trained on better ones.

Decides: nothing. Of each recipe some examples are sampled by hash. A logistic regression on the frozen encoder, trained
on the consensus labels of the train rows (`reference_label`, which no stage that makes training data may see) without
the source example and its split group, predicts sources and augmented examples; the predictions are compared.

`label_kept` is the share of examples whose predicted label is that of their sources, right or wrong; `label_right` that
of examples with the consensus label, among those whose sources have it. With 95% Wilson intervals (Wilson 1927).

Reads `data/augmented/train.parquet`, `data/split/train.parquet`, `data/embeddings/layers.parquet` and the base encoder;
writes `metrics/optional/augment_quality.json`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from assay.augmentation.checks import ProbeParams, probe_examples
from assay.compute.device import Compute, prepare_device
from assay.core.errors import run_stage
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, keyed_uniform
from assay.embeddings.encoder import EmbedParams, embedded_texts
from assay.embeddings.table import LAYERS, embeddings_of
from assay.probes import number_values
from assay.statistics.intervals import wilson_estimate
from assay.statistics.metrics_dict import Estimate, interval_metrics

AUGMENTED = Path("data/augmented/train.parquet")
SPLIT = Path("data/split/train.parquet")
METRICS = Path("metrics/optional/augment_quality.json")


class AugmentQualityParams(ProbeParams):
    """The `augment_quality` section of `params.yaml`."""

    pairs_per_recipe: int = Field(ge=1)


def sample_examples(augmented: pl.DataFrame, pairs_per_recipe: int, seed: int) -> pl.DataFrame:
    """So many examples of each recipe, all of them where there are fewer, sampled by hash."""
    examples = augmented.filter(pl.col("recipe").is_not_null())
    turns = examples.with_columns(draw=keyed_uniform(examples["id"], seed, "augment_quality")).select(
        pl.col("draw").rank("ordinal").over("recipe")
    )
    return examples.filter(turns.to_series() <= pairs_per_recipe)


def estimate_share(of: NDArray[np.bool_]) -> Estimate:
    """The share of true values, shape `(n,)`; of none it can be anything."""
    return wilson_estimate(int(of.sum()), len(of)) if len(of) else Estimate(0.0, 0.0, 1.0)


def main() -> None:
    """Check a sample of the examples of each recipe."""
    params = load_params("augment_quality", AugmentQualityParams)
    embedding = load_params("embed", EmbedParams)
    seed = load_params("seed", int)
    device = prepare_device(load_params("compute", Compute), exact=True)
    quiet_libraries()
    train = pl.read_parquet(SPLIT).with_columns(consensus=pl.coalesce("reference_label", "label"))
    examples = sample_examples(pl.read_parquet(AUGMENTED), params.pairs_per_recipe, seed)
    metrics: dict[str, Any] = {"pairs": examples.height, "per_recipe": {}}
    number = {id_: index for index, id_ in enumerate(train["id"])}
    parents = np.array([number[parent] for parent in examples["parent_id"]], dtype=np.int64)
    codes = number_values(train["consensus"])
    layers = embeddings_of(train["id"], pl.read_parquet(LAYERS), SPLIT)
    embedded, _ = embedded_texts(examples["text"].to_list(), embedding, device)
    folds_seed = derived_seed(seed, "augment_quality", "folds")
    of_rows, of_examples = probe_examples(
        layers, embedded.layers, parents, codes, train["split_group"], params, folds_seed
    )
    before, after = of_rows[parents].argmax(axis=1), of_examples.argmax(axis=1)
    for recipe in sorted(examples["recipe"].unique()):
        of_recipe = (examples["recipe"] == recipe).to_numpy()
        is_right = of_recipe & (before == codes[parents])
        metrics["per_recipe"][recipe] = {
            "pairs": int(of_recipe.sum()),
            **interval_metrics("label_kept", estimate_share((after == before)[of_recipe])),
            "pairs_of_right_parents": int(is_right.sum()),
            **interval_metrics("label_right", estimate_share((after == codes[parents])[is_right])),
        }
    write_metrics(METRICS, metrics, "pairs", "per_recipe.*.label_kept")


if __name__ == "__main__":
    run_stage(main)
