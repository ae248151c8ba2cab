"""The params that the template is committed with: what tests of the pipeline start from, whatever a fork's own are.

They are a copy, `tests/template_params.yaml`, which `make figures` compares with `params.yaml`. Sections and optional
stages that a fork has added are taken from its own.
"""

from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("template_params.yaml")
OWN = Path(__file__).parents[1] / "params.yaml"


def read_template_params() -> dict[str, Any]:
    """All sections, in the order of the file; new objects at each call."""
    own, template = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (OWN, FILE))
    return {**own, **template, "optional": {**own["optional"], **template["optional"]}}
