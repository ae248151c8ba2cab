"""What was collected: how much of it, how even and long, in which languages, real or made, and on what terms.

Decides nothing. It is measured on the rows that are left after corrections, source by source and in total, so that a
reviewer sees what a change of the data brings in: `make diff` compares the metrics with those of the base revision.

Reads `data/ingested/sources.parquet`, `data/corrected/records.parquet`, `data/embeddings/embeddings.parquet` and
`data/augmented/train.parquet`. Writes `metrics/profile.json`, and to `data/profile/`:

- `sources.parquet`: where each source comes from, and its rows on the way;
- `least_alike.parquet`: the rows that are least similar to any others.

How to read the metrics: docs/pipeline.md, "Profile of the data".
"""

import sys
import time
from pathlib import Path

import polars as pl

from assay import corpus_profile
from assay.compute.device import Compute, prepare_device
from assay.core.errors import run_stage
from assay.core.outputs import write_json, write_tables
from assay.core.params import load_params
from assay.core.results import write_metrics
from assay.core.seeds import keyed_uniform
from assay.embeddings.table import EMBEDDINGS, embeddings_of
from assay.text.language import UNDETERMINED

SOURCES = Path("data/ingested/sources.parquet")
RECORDS = Path("data/corrected/records.parquet")
AUGMENTED = Path("data/augmented/train.parquet")
OUTPUT = Path("data/profile")
METRICS = Path("metrics/profile.json")
COST = Path("metrics/cost/profile.json")


def main() -> None:
    """Profile the data."""
    params = load_params("profile", corpus_profile.ProfileParams)
    seed = load_params("seed", int)
    device = prepare_device(load_params("compute", Compute))
    sources = pl.read_parquet(SOURCES)
    records = pl.read_parquet(RECORDS, columns=["id", "text", "label", "source", "authenticity"])
    embeddings = embeddings_of(records["id"], pl.read_parquet(EMBEDDINGS), RECORDS)
    examples = pl.read_parquet(AUGMENTED, columns=["parent_id", "authenticity"]).filter(
        pl.col("authenticity") == "augmented"
    )
    by_source = examples.join(records, left_on="parent_id", right_on="id", how="left")["source"].value_counts()

    draws = keyed_uniform(records["id"], seed, "profile", "reference_rows")
    started = time.perf_counter()
    rows = corpus_profile.measure_rows(records, embeddings, params, device.device, draws)
    per_label = rows["label"].drop_nulls().value_counts().sort("label")
    found = corpus_profile.profile_sources(sources, rows, dict(by_source.iter_rows()), per_label.height)
    per_source = found.pop("per_source")
    metrics = {
        **found,
        "sources": sources.height,
        "rows_without_label": rows["label"].null_count(),
        "labels": per_label.height,
        "labels_below_minimum": int((per_label["count"] < params.min_rows_per_label).sum()),
        "per_source": per_source,
        "per_label": {label: {"rows": count} for label, count in per_label.iter_rows()},
    }
    seconds = time.perf_counter() - started
    tables = {
        "sources": corpus_profile.tabulate_sources(sources, rows),
        "least_alike": corpus_profile.find_least_similar(rows),
    }
    write_tables(OUTPUT, tables)
    if params.encoder_languages is not None:
        shares: dict[str, float] = metrics["language_share"]
        others = {name: one for name, one in shares.items() if name not in (*params.encoder_languages, UNDETERMINED)}
        metrics["rows_in_other_languages_share"] = sum(others.values())
        if sum(others.values()) > 0.5:
            print(
                f"profile: {sum(others.values()):.0%} of rows look {'/'.join(list(others)[:3])}, the encoder is "
                f"{'/'.join(params.encoder_languages)}: set an `hf:` asset such as intfloat/multilingual-e5-small for "
                "`embed.model` and `finetune`, and its languages in `profile.encoder_languages`",
                file=sys.stderr,
            )
    write_metrics(METRICS, metrics, "rows", "labels", "labels_below_minimum")
    write_json(COST, {"profile_seconds": seconds})


if __name__ == "__main__":
    run_stage(main)
