"""Results of stages: what one wrote, and marks that metrics are of the data and params beside them."""

from pathlib import Path
from typing import Any

import polars as pl
import yaml

from assay.core.outputs import read_json, write_json
from assay.core.results import RUN_ID, read_pipeline, run_id


def read_outputs(folder: str, stage: str) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    """The tables that a stage wrote into a folder of the current one, by name, and its metrics."""
    tables = {path.stem: pl.read_parquet(path) for path in Path(folder).glob("*.parquet")}
    return tables, read_json(f"metrics/{stage}.json")


def stamp_run_ids(root: Path) -> None:
    """Give every metrics file below `root` the id of its `params.yaml`."""
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    for file in (root / "metrics").rglob("*.json"):
        metrics = read_json(file)
        if found := run_id(file.relative_to(root), read_pipeline(), params):
            write_json(file, metrics | {RUN_ID: found})
