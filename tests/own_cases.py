"""The tables of a test file, which stand in a YAML file beside it."""

from pathlib import Path
from typing import Any

import yaml


def read_cases(test_file: str) -> Any:
    """The tables by name: those of `test_x.py` are in `x_cases.yaml`."""
    path = Path(test_file)
    return yaml.safe_load(path.with_name(f"{path.stem.removeprefix('test_')}_cases.yaml").read_text(encoding="utf-8"))
