"""Delete what stages made that are switched off now, so that no report shows it: part of `make repro`.

Taking an approach or an optional stage from its list in `params.yaml` takes the stage out of the pipeline; DVC leaves
its outputs where they are. What `dvc.lock` says that such a stage made is deleted here, with a line for each path, and
its entry in `dvc.lock` goes. Data and models stay in DVC's cache: switched on again, a stage whose inputs are the same
is restored from there without a run.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from assay.core.errors import InputError
from assay.core.outputs import discard
from tools.run.lock_guard import EMPTY, GOOD_COPY, LOCK, read_text, replace_text, split_entries

TEXTS: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
"""What optional stages `need`, and what is said where lists do not go together."""


def require_consistent_lists(params: dict[str, Any]) -> None:
    """Raise `InputError`, which names both, where a list of `params.yaml` needs what another has switched off."""
    optional = params["optional"]
    for name in ("robustness", "review_queue"):
        if unknown := [approach for approach in optional[name] if approach not in params["approaches"]]:
            raise InputError(TEXTS["unknown"].format(name=name, unknown=", ".join(unknown)))
    needs = {f"optional.{name}": (optional[name], needed) for name, needed in TEXTS["needs"].items()}
    needs |= {name: (params[name], "instruct_data") for name in ("sft_approaches", "generation_models")}
    for name, (entries, needed) in needs.items():
        if entries and not optional[needed]:
            raise InputError(TEXTS["needed"].format(name=name, needed=needed))
    sft = {f"models/sft/{name}": name for name in params["sft_approaches"]}
    made = {*sft, *(f"models/{name}" for name in ("dpo", "rloo", "ppo") if optional[name])}
    for name in ("dpo", "rloo", "ppo"):
        if optional[name] and (init := params[name]["init"]) not in sft.values():
            raise InputError(TEXTS["init"].format(name=name, init=init))
    for name, folder in params["generation_models"].items():
        if folder.startswith(("models/sft/", "models/dpo", "models/rloo", "models/ppo")) and folder not in made:
            raise InputError(TEXTS["off"].format(name=name, folder=folder))


def delete_stale(entries: dict[str, Any], stages: set[str], outputs: set[str]) -> list[str]:
    """Delete the outputs and entries of stages of `dvc.lock` that are not in the pipeline; returns their names."""
    stale = [name for name in entries if name not in stages]
    for name in stale:
        for out in entries.pop(name).get("outs", []):
            path = Path(out["path"])
            # A link whose file has gone from DVC's cache is there, too.
            if os.path.lexists(path) and not any(f"{live}/".startswith(f"{path}/") for live in outputs):
                discard(path)
                print(f"{name} is off: deleted {path}")
    return stale


def delete_stale_outputs(stages: list[Any]) -> None:
    """Delete what `dvc.lock` has of stages that are not among those of `dvc.yaml`, and their entries.

    To be called while the repository's lock is held, so that no DVC process writes `dvc.lock`.
    """
    text = read_text(LOCK)
    blocks = split_entries(text)
    names = {stage.addressing for stage in stages}
    if blocks.keys() <= names:
        return
    outputs = {out.def_path for stage in stages for out in stage.outs}
    for name in delete_stale(yaml.safe_load(text)["stages"], names, outputs):
        text = text.replace(blocks.pop(name), "")
    for path in (LOCK, GOOD_COPY):
        replace_text(path, text if blocks else EMPTY)
