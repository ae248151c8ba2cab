"""Marks metrics that a test wrote as those of the data and params beside them."""

from pathlib import Path

import yaml

from assay.core.outputs import read_json, write_json
from assay.core.results import RUN_ID, read_pipeline, run_id


def stamp_run_ids(root: Path) -> None:
    """Give every metrics file below `root` the id of its `params.yaml`."""
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    for file in (root / "metrics").rglob("*.json"):
        metrics = read_json(file)
        if found := run_id(file.relative_to(root), read_pipeline(), params):
            write_json(file, metrics | {RUN_ID: found})
