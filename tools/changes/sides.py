"""The two sides of a comparison: a base revision and the working tree, of each the small files that git tracks.

Not by `dvc params diff` and `dvc metrics diff`: those refuse a revision whose `dvc.yaml` no longer parses, know no
intervals, and drop values that are no numbers.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from assay.core.results import RUN_ID, find_stage, is_on, lookup, read_pipeline, run_id, stage_name
from tools.changes.revisions import git

SUMMARY = "metrics/summary.json"
"""Repeats what is in the others."""
COST = "metrics/cost/"
PREDICTIONS = "metrics/predictions/"
MISSING = object()
"""A value that one side does not have; None is a value of YAML."""

Key = tuple[str, ...]
Flat = dict[Key, Any]


@dataclass(frozen=True)
class Side:
    """What is compared, of one side. `lock` is None where there is no `dvc.lock`.

    `left_out` are files that could not be parsed, and stages that are on and whose metrics are of other data or params;
    `predictions` the text of the file of each approach, of a language model as `generation/<model>`.
    """

    params: Any
    metrics: Flat
    lock: dict[str, Any] | None
    left_out: list[str]
    predictions: dict[str, str] = field(default_factory=dict)
    is_other_data: bool = False


def flatten(value: Any, prefix: Key = ()) -> Flat:
    """Leaves of nested dicts by path. A list is a leaf, unless its items are dicts: they go by `name`, or by place."""
    if isinstance(value, dict) and value:
        return {path: leaf for key, item in value.items() for path, leaf in flatten(item, (*prefix, str(key))).items()}
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        named = {str(item.get("name", place)): item for place, item in enumerate(value)}
        # Names that occur twice would hide each other.
        items = named if len(named) == len(value) else {str(place): item for place, item in enumerate(value)}
        return flatten(items, prefix)
    return {prefix: value}


def own_files(files: dict[str, Any], pipeline: dict[str, Any], params: Any) -> tuple[list[str], list[str]]:
    """The metrics files of one side that are its own, and the stages that are on and whose metrics are not.

    By the id in each (`assay/core/results.py`). A side where no file has one is older than the ids, and is believed.
    """
    if not isinstance(params, dict) or not params:
        return list(files), []
    named = {path: find_stage(path, pipeline) for path in files}
    has_ids = any(isinstance(value, dict) and RUN_ID in value for value in files.values())
    foreign = {
        named[path]
        for path, value in files.items()
        if has_ids and not path.startswith(COST) and flatten(value).get((RUN_ID,)) != run_id(path, pipeline, params)
    }
    on = [path for path in files if is_on(path, pipeline, params)]
    left_out = sorted({stage_name(*found) for path in on if (found := named[path]) and found in foreign})
    return [path for path in on if named[path] not in foreign], left_out


def parsed(files: dict[str, str | None]) -> Side:
    """One side, from the text of its files; None stands for a file that is not there."""
    unreadable = []
    values: dict[str, Any] = {}
    for path, text in files.items():
        if text is None:
            continue
        try:
            values[path] = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
        except (json.JSONDecodeError, yaml.YAMLError):
            unreadable.append(path)
    params, lock = values.get("params.yaml") or {}, values.get("dvc.lock")
    measured = {path: value for path, value in values.items() if path.endswith(".json") and path != SUMMARY}
    own, not_run = own_files(measured, values.get("dvc.yaml") or read_pipeline(), params)
    names = {path: path.removeprefix("metrics/").removesuffix(".json") for path in own}
    tables = {path for path in own if path.startswith(PREDICTIONS)}
    metrics = {
        (name, *key): leaf
        for path, name in names.items()
        if path not in tables
        for key, leaf in flatten(measured[path]).items()
        # An empty dict is a leaf of `flatten`, and no metric.
        if leaf != {} and key != (RUN_ID,)
    }
    kept = {name.removeprefix("predictions/"): files[path] or "" for path, name in names.items() if path in tables}
    return Side(params, metrics, lock if isinstance(lock, dict) else None, [*unreadable, *not_run], kept)


def without_other_data(old: Side, new: Side) -> Side:
    """The base as it is compared: without a source in common, of its params what is the same, and no more."""

    def sources(params: Any) -> set[str]:
        sections = {"ingest", *(["instruct_data"] if lookup(params, "optional.instruct_data") else [])}
        return {key[2] for key in flatten(params) if len(key) > 3 and key[0] in sections and key[1] == "sources"}

    before, after = sources(old.params), sources(new.params)
    if not before or not after or before & after:
        return old
    return Side(shared(old.params, new.params), {}, {"stages": {}}, old.left_out, is_other_data=True)


def shared(old: Any, new: Any) -> Any:
    """What two trees of params have in common, in the order of the second."""
    if isinstance(old, dict) and isinstance(new, dict):
        both = {key: shared(old[key], new[key]) for key in new if key in old}
        return {key: value for key, value in both.items() if value is not MISSING and (value != {} or new[key] == {})}
    return new if old == new else MISSING


def read_sides(commit: str, root: Path) -> tuple[Side, Side]:
    """The base revision as it is compared, and the working tree, committed or not."""
    always = ("params.yaml", "dvc.yaml", "dvc.lock")
    listed = (git("ls-tree", "-r", "-z", "--name-only", commit, "--", "metrics/") or "").split("\0")
    found = [path.relative_to(root).as_posix() for path in (root / "metrics").rglob("*.json")]
    files = [path for path in (*always, *sorted(found)) if (root / path).is_file()]
    new = parsed({path: (root / path).read_text(encoding="utf-8") for path in files})
    kept = sorted(path for path in listed if path.endswith(".json"))
    return without_other_data(parsed({path: git("show", f"{commit}:./{path}") for path in (*always, *kept)}), new), new
