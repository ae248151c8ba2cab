"""Params that tests share, and changes of those that a test wrote into the current folder."""

from pathlib import Path
from typing import Any

import yaml

COMPUTE = {"device": "cpu", "precision": "float32", "threads": 1, "checkpoint_seconds": 600.0, "backend": "processes"}


def change(section: str, **settings: Any) -> None:
    """Put other settings into a section of `params.yaml`, a dotted path; an empty one is the top."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    block = params
    for key in filter(None, section.split(".")):
        block = block[key]
    block |= settings
    Path("params.yaml").write_text(yaml.safe_dump(params))
