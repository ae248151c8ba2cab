"""Write the budgets for a box with a GPU into `params.yaml`: `make gpu-params`.

They are in `tools/params/gpu_params.yaml`, or in the file named: a mapping like `params.yaml` with the keys that
change, each of which must be in `params.yaml` already. Comments stay. `git diff params.yaml` shows what changed, `git
checkout params.yaml` takes it back.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_text
from assay.statistics.metrics_dict import leaves
from tools.params.round_trip import edited

PARAMS = Path("params.yaml")
BUDGETS = Path("tools/params/gpu_params.yaml")


def with_budgets(text: str, budgets: dict[str, Any], file: Path) -> tuple[str, list[str]]:
    """The params file with the budgets of a file, and a line for each value that is another one.

    Raises `InputError`: a key is not in the params file, or a value there is a mapping.
    """
    changes: list[str] = []

    def edit(document: Any) -> None:
        for dotted, value in leaves(budgets) if budgets else ():
            keys, block = dotted.split("."), document
            for depth, key in enumerate(keys):
                if not isinstance(block, dict) or key not in block:
                    raise InputError(f"{file}: `{'.'.join(keys[: depth + 1])}` is no key of params.yaml; correct it")
                if depth < len(keys) - 1:
                    block = block[key]
            before = block[keys[-1]]
            if isinstance(before, dict):
                raise InputError(f"{file}: `{dotted}` is a mapping in params.yaml; give the keys within it")
            if before != value:
                changes.append(f"{dotted}: {before} → {value}")
                block[keys[-1]] = value

    return edited(text, edit), changes


def main() -> None:
    """Change the params file."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.params.gpu_params",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", nargs="?", type=Path, default=BUDGETS, help=f"default: {BUDGETS}")
    file = parser.parse_args().file
    if not file.is_file():
        raise InputError(f"{file}: no such file; the one that comes with the project is {BUDGETS}")
    budgets = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(budgets, dict):
        raise InputError(f"{file}: a mapping like params.yaml is needed, and this is {type(budgets).__name__}")
    text, changes = with_budgets(PARAMS.read_text(encoding="utf-8"), budgets, file)
    if changes:
        write_text(PARAMS, text)
    print("\n".join(changes) if changes else f"{PARAMS} has these values already")


if __name__ == "__main__":
    run_stage(main)
