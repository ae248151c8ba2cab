"""Metrics files: which data and params each is of (`run_id`), whether those are the ones of now, and what came out.

A fork inherits the template's `metrics/`; until its own run has replaced them, they are somebody else's results. The id
is the first 12 hexadecimal digits of the SHA-256 of canonical JSON of

1. the data, as params name it: the names of `ingest.sources`, and the `sha256` of the asset that `ingest.path` lies in
   (null for a folder of one's own). In the generative track the same of `instruct_data`, and that of `ingest` only if
   there is a `label_task`. `fetch` has neither: it makes the data.
2. the params that the stage declares in `dvc.yaml`, with their values.

No content is hashed: DVC does not rerun a stage whose inputs came out equal, so an id of the raw files would call a
right result foreign. Whether a file is up to date is for DVC to say (`dvc status`); the id says whose it is.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from assay.core.outputs import read_json, write_json
from assay.core.params import PARAMS_FILE, read_yaml

RUN_ID = "run_id"
PIPELINE = Path(__file__).parents[2] / "dvc.yaml"
ABLATION = PIPELINE.parent / "ablation/dvc.yaml"
"""A second pipeline, of experiments on what the first one made: `make ablation`."""
NOT_RUN = "not run on these data and params; `make repro`"
GENERATIVE = (
    *("instruct_data", "sft", "preferences", "reward", "dpo", "rloo", "ppo"),
    *("evaluate_generation", "compare_generation", "memorisation"),
)
"""Stages whose data is that of `instruct_data`."""
DIGITS = 12


def lookup(tree: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def find_stage(file: Path | str, pipeline: dict[str, Any]) -> tuple[str, str | None] | None:
    """The stage of `dvc.yaml` that makes a metrics file, and the entry of its list, if the file is named after one.

    None where no stage makes it. `file` is relative to the top of the repository.
    """
    for stage, entry in pipeline["stages"].items():
        for metrics in entry.get("do", entry).get("metrics", []):
            pattern = re.sub(r"\\\$\\\{[^}]*\\\}", "([^/]+)", re.escape(next(iter(metrics))))
            if found := re.fullmatch(pattern, Path(file).as_posix()):
                return stage, found.group(1) if found.groups() else None
    return None


def run_id(file: Path | str, pipeline: dict[str, Any], params: dict[str, Any]) -> str | None:
    """The id of a metrics file by `dvc.yaml` and params, None where no stage makes it."""
    if (found := find_stage(file, pipeline)) is None:
        return None
    stage, item = found
    entry = pipeline["stages"][stage]
    declared = sorted(
        re.sub(r"\$\{([^}]*)\}", lambda named: str(lookup(params, named[1]) or item or ""), path)
        for path in entry.get("do", entry)["params"]
    )
    said = [_sources(stage, params), {path: lookup(params, path) for path in declared}]
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:DIGITS]


def is_on(file: Path | str, pipeline: dict[str, Any], params: dict[str, Any]) -> bool:
    """Whether a stage makes a metrics file and is switched on, for an entry of its list if it has a file for each."""
    if (found := find_stage(file, pipeline)) is None:
        return False
    stage, item = found
    listed = _listed(pipeline["stages"][stage], params)
    return listed is None or (bool(listed) if item is None else item in listed)


def _listed(entry: dict[str, Any], params: dict[str, Any]) -> list[str] | None:
    """The list that a stage runs over, None of a stage that runs always."""
    over = entry.get("foreach") or next(iter(entry.get("matrix", {}).values()), None)
    return None if over is None else list(lookup(params, over[2:-1]) or [])


def stage_name(stage: str, item: str | None) -> str:
    """What DVC calls a stage that runs over a list: `finetune@lora`."""
    return stage if item is None else f"{stage}@{item}"


def _sources(stage: str, params: dict[str, Any]) -> list[Any]:
    """Names of the sources of a stage's track, and the SHA-256 of the asset that they are in."""
    if stage == "fetch":
        return []
    sections = ["ingest"]
    if stage in GENERATIVE:
        sections = ["instruct_data", *(sections if lookup(params, "instruct_data.label_task") else [])]
    assets = (lookup(params, "fetch.assets") or {}).values()
    said = []
    for section in sections:
        folder = f"{lookup(params, f'{section}.path')}/"
        hashes = [asset.get("sha256") for asset in assets if folder.startswith(f"{asset.get('path')}/")]
        names = [source.get("name") for source in lookup(params, f"{section}.sources") or []]
        said.append([names, hashes])
    return said


def join_stages(pipelines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The stages of several pipelines as those of one."""
    return {"stages": {name: stage for one in pipelines for name, stage in one["stages"].items()}}


def read_pipeline() -> dict[str, Any]:
    """The stages of `dvc.yaml` and of `ablation/dvc.yaml`."""
    return join_stages(map(read_yaml, (PIPELINE, ABLATION)))


def run_id_now(file: Path | str) -> str | None:
    """The id of a metrics file with the params of the working directory."""
    return run_id(file, read_pipeline(), read_yaml(PARAMS_FILE))


def metrics_files(pipeline: Path = PIPELINE) -> dict[str, Path]:
    """The metrics file of each stage of a pipeline that is on, by the stage's name in DVC; without those of cost."""
    params = read_yaml(PARAMS_FILE)
    files = {}
    for stage, entry in read_yaml(pipeline)["stages"].items():
        file = next(iter(entry.get("do", entry)["metrics"][0]))
        for item in _listed(entry, params) or [""]:
            path = Path(re.sub(r"\$\{[^}]*\}", item, file))
            if is_on(path, read_pipeline(), params):
                files[stage_name(stage, item if path != Path(file) else None)] = path
    return files


def write_metrics(file: Path | str, metrics: dict[str, Any], *shown: str) -> None:
    """Write the metrics of a stage under their id, and print what came out: its rows, and the metrics `shown`.

    `shown` are dotted keys, `a.*.b` for all of `a`; one that is not there is passed over.
    """
    write_json(file, {RUN_ID: run_id_now(file), **metrics})
    name = stage_name(*(find_stage(file, read_pipeline()) or (Path(file).stem, None)))
    print(f"{name}: {result_line(metrics, shown)}", flush=True)


def result_line(metrics: dict[str, Any], shown: Iterable[str]) -> str:
    """Rows in and out with what was removed, where a stage counts them, then some metrics with their intervals."""
    parts = []
    if "rows_in" in metrics:
        removed = ", ".join(f"{rows:,} {rule}" for rule, rows in metrics["removed"].items() if rows)
        parts = [f"{metrics['rows_in']:,} rows in, {metrics['rows_out']:,} out; removed: {removed or 'none'}"]
    for path in (one for pattern in shown for one in _expanded(pattern, metrics)):
        value, low, high = (lookup(metrics, path + end) for end in ("", "_ci95_low", "_ci95_high"))
        if isinstance(value, int | float):
            interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
            number = f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
            parts.append(f"{path.replace('.', ' ').replace('_', ' ')} {number}{interval}")
    return "; ".join(parts) or "done"


def _expanded(pattern: str, metrics: dict[str, Any]) -> list[str]:
    """The dotted keys that a pattern stands for: `a.*.b` for `a.x.b` and `a.y.b`."""
    head, _, tail = pattern.partition(".*.")
    return [f"{head}.{name}.{tail}" for name in lookup(metrics, head) or {}] if tail else [pattern]


def read_own(file: Path | str) -> dict[str, Any] | None:
    """The metrics in a file, without the id; None if it is not there, not of these data and params, or switched off."""
    if not Path(file).is_file() or not is_on(file, read_pipeline(), read_yaml(PARAMS_FILE)):
        return None
    metrics = dict(read_json(file))
    found = metrics.pop(RUN_ID, None)
    return metrics if found is not None and found == run_id_now(file) else None
