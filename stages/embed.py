"""Frozen sentence embeddings of every row, computed once for all the stages that use them.

Decides: nothing; texts only, no labels, so rows that will be in the test split may be embedded too. It comes before the
split because semantic duplicates must be found before rows are assigned to splits.

Reads `data/clean/{records,unlabelled}.parquet` and the base encoder; writes, in the order of the records,
`data/embeddings/embeddings.parquet` (`id`, `embedding`: unit-length float32 vectors of the last layer) and
`data/embeddings/layers.parquet` (`id`, `embedding`: those of the last layers side by side, for label-error detection).
"""

import time
from pathlib import Path

import polars as pl

from assay.compute.device import Compute, prepare_device
from assay.core.errors import run_stage
from assay.core.outputs import output_folder, write_json, write_parquet
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.embeddings.encoder import EmbedParams, embedded_texts

TABLES = [Path("data/clean/records.parquet"), Path("data/clean/unlabelled.parquet")]
OUTPUT = Path("data/embeddings")
METRICS = Path("metrics/embed.json")
COST = Path("metrics/cost/embed.json")


def main() -> None:
    """Embed the texts of all rows."""
    params = load_params("embed", EmbedParams)
    device = prepare_device(load_params("compute", Compute), exact=True)
    quiet_libraries()
    table = pl.concat(pl.read_parquet(path, columns=["id", "text"]) for path in TABLES)

    started = time.perf_counter()
    embedded, rows = embedded_texts(table["text"].to_list(), params, device)
    seconds = time.perf_counter() - started

    with output_folder(OUTPUT) as folder:
        for name, vectors in (("embeddings", embedded.embeddings), ("layers", embedded.layers)):
            column = pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))
            write_parquet(table.select("id", column), folder / f"{name}.parquet")
    write_metrics(
        METRICS,
        {
            "rows_in": table.height,
            "rows_out": table.height,
            "removed": {},
            "dimensions": embedded.embeddings.shape[1],
            "layer_dimensions": embedded.layers.shape[1],
            "tokens": int(rows.lengths.sum()),
            "truncated_rows": int((rows.lengths == params.max_length_tokens).sum()),
        },
        "dimensions",
        "truncated_rows",
    )
    write_json(COST, {"embed_seconds": seconds, "rows_per_second": table.height / seconds})


if __name__ == "__main__":
    run_stage(main)
