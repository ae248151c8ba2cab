"""Params with everything switched on: what tests of the pipeline start from, whatever a fork's own are.

They are a copy, `tests/template_params.yaml`, of the template's params with the preset `full` in them.
`python -m tests.template_params` writes it, and `make figures` compares. Sections and optional stages that a fork has
added are taken from its own.
"""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools.params.preset import write_preset

FILE = Path(__file__).with_name("template_params.yaml")
OWN = Path(__file__).parents[1] / "params.yaml"
FULL = Path(__file__).parents[1] / "presets/full.yaml"


@cache
def parse(path: Path) -> dict[str, Any]:
    params: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return params


def read_template_params() -> dict[str, Any]:
    """All sections, in the order of the file; new objects at each call."""
    own, template = copy.deepcopy((parse(OWN), parse(FILE)))
    for approach in ("lora", "full"):
        del template["finetune"][approach]["seeds"]  # one fit of each is enough for tests
    return {**own, **template, "optional": {**own["optional"], **template["optional"]}}


def sections(**changed: Any) -> dict[str, Any]:
    """Sections by name, each with other values in it; what is no block, such as `seed`, is given whole."""
    template = read_template_params()
    return {name: template[name] | value if isinstance(value, dict) else value for name, value in changed.items()}


def full_params() -> str:
    """The text of `params.yaml` with the preset `full` in it."""
    return write_preset(OWN.read_text(encoding="utf-8"), FULL)[0]


if __name__ == "__main__":
    FILE.write_text(full_params(), encoding="utf-8")
