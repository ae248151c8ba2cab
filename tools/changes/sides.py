"""The two sides of a comparison: a base revision and the working tree, of each the small files that git tracks.

Not by `dvc params diff` and `dvc metrics diff`: those refuse a revision whose `dvc.yaml` no longer parses, know no
intervals, and drop values that are no numbers.
"""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from assay.core.params import parse_yaml
from assay.core.results import RUN_ID, find_stage, is_on, join_stages, lookup, read_pipeline, run_id, stage_name
from tools.changes.revisions import git

SUMMARY = "metrics/summary.json"
"""Repeats what is in the others."""
COST = "metrics/cost/"
PREDICTIONS = "metrics/predictions/"
PIPELINES = ("dvc.yaml", "ablation/dvc.yaml")
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
    has_ids = any(isinstance(value, dict) and RUN_ID in value for value in files.values())
    named = {path: find_stage(path, pipeline) for path in files if is_on(path, pipeline, params)}
    foreign = {
        found
        for path, found in named.items()
        if found
        and has_ids
        and not path.startswith(COST)
        and flatten(files[path]).get((RUN_ID,)) != run_id(path, pipeline, params)
    }
    return [path for path in named if named[path] not in foreign], sorted(stage_name(*found) for found in foreign)


def parsed(files: dict[str, str]) -> Side:
    """One side, from the text of its files."""
    unreadable = []
    values: dict[str, Any] = {}
    for path, text in files.items():
        try:
            # DVC writes 0.00001 as `1e-05`, which is a number in YAML 1.2 alone.
            load = YAML(typ="safe").load if path == "dvc.lock" else partial(parse_yaml, path=Path(path))
            values[path] = json.loads(text) if path.endswith(".json") else load(text)
        except (ValueError, YAMLError):
            unreadable.append(path)
    params, lock = values.get("params.yaml") or {}, values.get("dvc.lock")
    measured = {path: value for path, value in values.items() if path.endswith(".json") and path != SUMMARY}
    pipelines = [values[path] for path in PIPELINES if values.get(path)]
    own, not_run = own_files(measured, join_stages(pipelines) if pipelines else read_pipeline(), params)
    predictions = {
        path.removeprefix(PREDICTIONS).removesuffix(".json"): files[path]
        for path in own
        if path.startswith(PREDICTIONS)
    }
    metrics = {
        (path.removeprefix("metrics/").removesuffix(".json"), *key): leaf
        for path in own
        if not path.startswith(PREDICTIONS)
        for key, leaf in flatten(measured[path]).items()
        # An empty dict is a leaf of `flatten`, and no metric.
        if leaf != {} and key != (RUN_ID,)
    }
    return Side(params, metrics, lock if isinstance(lock, dict) else None, [*unreadable, *not_run], predictions)


def sources_of(params: Any) -> set[str]:
    """Names of the sources of both tracks, as far as they are on."""
    tracks = ["ingest", *(["instruct_data"] if lookup(params, "optional.instruct_data") else [])]
    return {key[2] for key in flatten(params) if len(key) > 3 and key[0] in tracks and key[1] == "sources"}


def read_sides(commit: str) -> tuple[Side, Side]:
    """The base revision and the working tree, committed or not; of a base without a source in common nothing."""
    always = ("params.yaml", *PIPELINES, "dvc.lock")
    listed = (git("ls-tree", "-r", "-z", "--name-only", commit, "--", "metrics/") or "").split("\0")
    kept = sorted(path for path in listed if path.endswith(".json"))
    texts = {path: git("show", f"{commit}:./{path}") for path in (*always, *kept)}
    old = parsed({path: text for path, text in texts.items() if text is not None})
    files = [*map(Path, always), *sorted(Path("metrics").rglob("*.json"))]
    new = parsed(
        {path.as_posix(): path.read_text(encoding="utf-8", errors="replace") for path in files if path.is_file()}
    )
    before, after = sources_of(old.params), sources_of(new.params)
    if before and after and not before & after:
        old = Side(new.params, {}, {}, old.left_out, is_other_data=True)
    return old, new
