"""Params that tests share, and changes of those that a test wrote into the current folder."""

from pathlib import Path
from typing import Any

import yaml

COMPUTE = {"device": "cpu", "precision": "float32", "threads": 1, "processes": 1, "checkpoint_seconds": 600.0}
COMPUTE |= {"backend": "processes"}


def block_at(params: Any, path: str) -> Any:
    """The block at a dotted path of keys and places; an empty path is the top."""
    for key in filter(None, path.split(".")):
        params = params[int(key) if isinstance(params, list) else key]
    return params


def change(section: str, **settings: Any) -> None:
    """Put other settings into a section of `params.yaml`, a dotted path."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    block = block_at(params, section)
    block |= settings
    Path("params.yaml").write_text(yaml.safe_dump(params))
