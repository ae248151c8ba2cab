"""What a change does, for the person who reviews it: params, scores, rows and data versions against a base revision.

`make diff BASE=<rev>` compares the revision with the working tree, writes `report/pull_request.md` and prints it.

Not by `dvc params diff` and `dvc metrics diff`: those refuse a revision whose `dvc.yaml` no longer parses, know no
intervals, and drop values that are no numbers. Nothing is needed but git and the small files that it tracks. What is
compared, and what is left out and named, is in docs/pull_requests.md.
"""

import argparse
import hashlib
import html
import json
import math
import re
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from assay.core.errors import run_stage
from assay.core.outputs import write_text
from assay.core.results import RUN_ID, find_stage, is_on, read_pipeline, run_id, stage_name
from assay.report.numbers import number, score
from assay.statistics.metrics_dict import HIGH, LOW
from tools.changes.readme_results import markdown_table
from tools.changes.revisions import commit_of, git

MARKER = "<!-- assay -->"
"""First line of the report: the build machine finds its own comment by it."""
REPORT = Path("report/pull_request.md")
METRICS = "metrics"
SUMMARY = "metrics/summary.json"
COST = "metrics/cost/"
HEADLINE = ("accuracy", "macro_f1")
PROFILE = "profile"
"""`metrics/profile.json` has a table of its own, with a column for each source."""
MAX_SOURCES = 6
"""Sources that have a column; a wider table is no longer read."""
WALL_CLOCK = re.compile(r"(seconds|per_second|_ms|_ms_per_row|memory_mib)$")
"""Last part of the key of a measurement that differs from run to run on one and the same input."""
CODE = ("stages/", "assay/")
"""Dependencies in `dvc.lock` that are code."""
MAX_TABLE_ROWS = 100
"""GitHub takes comments of 65,536 characters."""
ABSENT = "–"

Key = tuple[str, ...]
Flat = dict[Key, Any]


@dataclass(frozen=True)
class Tree:
    """What is compared, of one side. `lock` is None where there is no `dvc.lock`."""

    params: Any
    metrics: Flat
    lock: dict[str, Any] | None
    unreadable: list[str]
    """Files that could not be parsed."""
    not_run: list[str]
    """Stages that are switched on, and whose metrics are of other data or params."""
    is_other_data: bool = False


@dataclass(frozen=True)
class Change:
    """One value on both sides, MISSING where a side does not have it, with its interval where there is one."""

    key: Key
    old: Any
    new: Any
    old_interval: tuple[float, float] | None
    new_interval: tuple[float, float] | None


MISSING = object()
"""A value that one side does not have; None is a value of YAML."""


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


def is_number(value: Any) -> bool:
    """True for a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def interval(flat: Flat, key: Key) -> tuple[float, float] | None:
    """The 95% interval that stands beside a metric."""
    low, high = (flat.get((*key[:-1], key[-1] + end)) for end in (LOW, HIGH))
    return (low, high) if is_number(low) and is_number(high) else None  # type: ignore[return-value]


def changes(old: Flat, new: Flat) -> list[Change]:
    """Every leaf of either side, in the order of the new side and then of the old; ends of intervals are no leaves.

    A leaf counts as an end of an interval where the value it belongs to stands beside it.
    """
    found = []
    for key in dict.fromkeys([*new, *old]):
        stem = re.sub(f"({LOW}|{HIGH})$", "", key[-1]) if key else ""
        if key and stem != key[-1] and any((*key[:-1], stem) in side for side in (old, new)):
            continue
        intervals = (interval(old, key), interval(new, key)) if key else (None, None)
        found.append(Change(key, old.get(key, MISSING), new.get(key, MISSING), *intervals))
    return found


def differs(change: Change) -> bool:
    """True where the two sides are not the same. Two values that are not a number are the same."""
    both_nan = all(isinstance(side, float) and math.isnan(side) for side in (change.old, change.new))
    same = change.old is change.new or change.old == change.new or both_nan
    return not same or change.old_interval != change.new_interval


def code(text: str) -> str:
    """Text from params or data as a code span that neither breaks a table nor becomes markup."""
    flat = " ".join(text.split())
    if flat and not re.search(r"[`|\\]", flat):
        return f"`{flat}`"
    return f"<code>{html.escape(flat).replace('|', '&#124;').replace('`', '&#96;')}</code>"


def shown(value: Any, ends: tuple[float, float] | None = None) -> str:
    """One side of a change: a number with its interval, or any other value as JSON."""
    if value is MISSING:
        return ABSENT
    if not is_number(value):
        return code(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
    if ends is None:
        return number(value, 4)
    return f"{score(value)} [{score(ends[0])}, {score(ends[1])}]"


def difference(change: Change) -> str:
    """New minus old, signed; where one of them is no number, whether it came, went or neither."""
    if change.old is MISSING:
        return "new"
    if change.new is MISSING:
        return "gone"
    if not (is_number(change.old) and is_number(change.new)):
        return ""
    step = change.new - change.old
    sign = "+" if step > 0 else "−" if step < 0 else "±"
    return sign + (score(abs(step)) if change.new_interval else number(abs(step), 3))


def overlap(change: Change) -> str:
    """Whether the two intervals overlap; empty where one is missing."""
    if change.old_interval is None or change.new_interval is None:
        return ""
    apart = change.old_interval[1] < change.new_interval[0] or change.new_interval[1] < change.old_interval[0]
    return "no" if apart else "yes"


def table(header: list[str], rows: list[list[str]], base: str) -> str:
    """A Markdown table, cut at MAX_TABLE_ROWS rows; the first column is left-aligned, the others right."""
    rest = f"\n\n… and {len(rows) - MAX_TABLE_ROWS:,} more: `git diff {base} -- metrics params.yaml dvc.lock`"
    return markdown_table(header, rows[:MAX_TABLE_ROWS]) + (rest if len(rows) > MAX_TABLE_ROWS else "")


def dotted(key: Key) -> str:
    """A path as people write it."""
    return code(".".join(key))


def metric_name(key: Key) -> str:
    """File and path inside it."""
    return f"{code(key[0])} {dotted(key[1:])}" if len(key) > 1 else dotted(key)


def headline_section(compared: list[Change], base: str) -> str:
    """Accuracy and macro-F1 of each approach, old and new."""
    by_key = {change.key: change for change in compared}
    approaches = sorted({key[0] for key in by_key if key[0].startswith("evaluate/")})
    rows = []
    for approach, name in product(approaches, HEADLINE):
        if change := by_key.get((approach, name)):
            old, new = shown(change.old, change.old_interval), shown(change.new, change.new_interval)
            compared_by = [f"{old} → {new}", difference(change), overlap(change)]
            names = [code(approach.removeprefix("evaluate/")), name.replace("macro_f1", "macro-F1")]
            rows.append([*names, *(compared_by if differs(change) else [old, "same", ""])])
    if not rows:
        return "No approach has been evaluated on either side."
    return table(["approach", "score", "old → new [95% interval]", "difference", "intervals overlap"], rows, base)


def params_section(old: Any, new: Any, base: str) -> str:
    """Params that differ."""
    rows = [
        [dotted(change.key), shown(change.old), shown(change.new)]
        for change in changes(flatten(old), flatten(new))
        if differs(change)
    ]
    return table(["param", "old", "new"], rows, base) if rows else "No param differs."


def rows_section(old: Flat, new: Flat, base: str) -> str:
    """Rows in and out of each stage, and what it removed by rule."""
    rows = []
    for file in sorted({key[0] for key in [*old, *new] if key[1:] == ("rows_in",)}):

        def both(*path: str, file: str = file) -> str:
            before, after = (side.get((file, *path), MISSING) for side in (old, new))
            if before is MISSING or after is MISSING:
                return f"{shown(after)} (new)" if before is MISSING else f"{shown(before)} (gone)"
            return shown(after) if before == after else f"{shown(before)} → {shown(after)}"

        rules = [key[2] for key in dict.fromkeys([*new, *old]) if len(key) == 3 and key[:2] == (file, "removed")]
        removed = [
            f"{code(rule)} {both('removed', rule)}"
            for rule in rules
            if any(side.get((file, "removed", rule), 0) for side in (old, new))
        ]
        rows.append([code(file), both("rows_in"), both("rows_out"), ", ".join(removed) or "0"])
    return table(["stage", "rows in", "rows out", "removed by rule"], rows, base) if rows else "No stage counts rows."


def is_cost(key: Key) -> bool:
    """Whether a metric differs from run to run on one and the same input: what `metrics/cost` holds, or a time."""
    return key[0].startswith("cost/") or WALL_CLOCK.search(key[-1]) is not None


def is_profile_figure(key: Key) -> bool:
    """True for a figure of the table of the data; those by label and the time taken stand with the other metrics."""
    return key[0] == PROFILE and len(key) > 1 and key[1] != "per_label" and not is_cost(key)


def profile_section(old: Flat, new: Flat, base: str) -> str:
    """What changed in the profile of the data: a row for each figure that differs, a column for each source."""
    figures: dict[Key, dict[str, str]] = {}
    sources: list[str] = []
    for key in dict.fromkeys([*new, *old]):
        if not is_profile_figure(key):
            continue
        of_source = key[1] == "per_source" and len(key) > 3
        name, figure = (key[2], key[3:]) if of_source else ("", key[1:])
        if of_source and name not in sources:
            sources.append(name)
        before, after = (shown(side.get(key, MISSING)) for side in (old, new))
        figures.setdefault(figure, {})[name] = after if before == after else f"{before} → {after}"
    if not figures:
        return "There is no profile of the data on either side."

    columns = sources[:MAX_SOURCES]
    rows = [
        [dotted(figure), *(by_source.get(name, ABSENT) for name in ["", *columns])]
        for figure, by_source in figures.items()
        if any(" → " in cell for cell in by_source.values())
    ]
    if not rows:
        return "The profile of the data is the same."
    left_out = f"\n\n{len(sources) - MAX_SOURCES} more sources are in `metrics/profile.json`."
    return table(["figure", "all", *map(code, columns)], rows, base) + (left_out if len(sources) > MAX_SOURCES else "")


def versions(lock: dict[str, Any] | None) -> Flat:
    """Output of each stage in `dvc.lock` → its hash."""
    stages = (lock or {}).get("stages") or {}
    return {
        (str(out.get("path")),): out.get("md5") or out.get("etag") or out.get("checksum")
        for stage in stages.values()
        for out in stage.get("outs", [])
        if not str(out.get("path")).startswith((f"{METRICS}/", "report/"))
    }


def versions_section(old: Tree, new: Tree, base: str) -> str:
    """Data and models whose hash differs."""
    if new.lock is None:
        return "There is no `dvc.lock` in the working tree: run `make repro` and commit it."
    rows = [
        [dotted(change.key)]
        + [ABSENT if side is MISSING else code(str(side)[:12]) for side in (change.old, change.new)]
        for change in changes(versions(old.lock), versions(new.lock))
        if differs(change)
    ]
    note = "" if old.lock else f"`{base}` has no `dvc.lock`: everything counts as new.\n\n"
    return note + (table(["output", "old", "new"], rows, base) if rows else "No data or model version differs.")


def stale_stages(lock: dict[str, Any] | None, params: Any, root: Path) -> list[str]:
    """Stages in `dvc.lock` whose params or code are no longer what their metrics were made with.

    Looks at what git tracks only: hashes of the code and of `params.yaml`, not of data.
    """
    stale = []
    for name, stage in ((lock or {}).get("stages") or {}).items():
        recorded = (stage.get("params") or {}).get("params.yaml") or {}
        wanted = {dotted_key: subtree(params, dotted_key) for dotted_key in recorded}
        code_changed = any(
            not (root / dep["path"]).exists() or dvc_hash(root / dep["path"]) != dep.get("md5")
            for dep in stage.get("deps", [])
            if dep["path"].startswith(CODE)
        )
        if code_changed or recorded != wanted:
            stale.append(name)
    return stale


def dvc_hash(path: Path) -> str:
    """MD5 of a file, or of a folder's listing, as DVC writes them in `dvc.lock`; compiled modules do not count."""
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    listing = [{"md5": dvc_hash(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listing.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def subtree(tree: Any, path: str) -> Any:
    """The value at a dotted path, MISSING where there is none."""
    for key in path.split("."):
        if not isinstance(tree, dict) or key not in tree:
            return MISSING
        tree = tree[key]
    return tree


def report(old: Tree, new: Tree, base: str, commit: str, stale: list[str]) -> str:
    """The whole report as Markdown."""
    compared = changes(old.metrics, new.metrics)
    different = [change for change in compared if differs(change)]
    wall_clock = [change for change in different if is_cost(change.key)]
    by_part = [c for c in different if any(part.startswith("per_") for part in c.key) and c not in wall_clock]
    others = [change for change in different if change not in wall_clock and change not in by_part]
    by_part, others = ([change for change in part if not is_profile_figure(change.key)] for part in (by_part, others))
    # New, gone or no number first, then by how far it moved: a long table is cut at its end. So, models before data.
    by_part.sort(key=lambda one: -abs(one.new - one.old) if is_number(one.old) and is_number(one.new) else -math.inf)
    others.sort(key=lambda change: not change.key[0].startswith(("evaluate/", "finetune/")))

    parts = [MARKER, f"### Against `{base}` ({commit[:10]})"]
    if stale:
        names = ", ".join(code(name) for name in stale[:20]) + (" …" if len(stale) > 20 else "")
        parts.append(
            f"> **The metrics are not of this code.** Params or code changed since these stages ran: {names}. "
            "Run `make repro` and commit `metrics/` and `dvc.lock`."
        )
    if old.unreadable or new.unreadable:
        parts.append("> Not readable, and left out: " + ", ".join(map(code, [*old.unreadable, *new.unreadable])))
    if new.not_run or old.not_run:
        names = ", ".join(map(code, dict.fromkeys([*new.not_run, *old.not_run])))
        parts.append(f"> Not run on the data and params of their side, and left out: {names}")
    if old.is_other_data:
        parts.append(f"> `{base}` is of other data: it has no source in common, so none of its results is compared.")
    elif not old.metrics:
        parts.append(f"`{base}` has no metrics: every figure counts as new.")
    parts += [headline_section(compared, base)]
    parts += ["#### Params", params_section(old.params, new.params, base)]
    parts += ["#### Rows by stage", rows_section(old.metrics, new.metrics, base)]
    parts += ["#### Profile of the data", profile_section(old.metrics, new.metrics, base)]
    parts += ["#### Data and model versions", versions_section(old, new, base)]

    def section(title: str, rows: list[Change]) -> None:
        if rows:
            sides = [(shown(one.old, one.old_interval), shown(one.new, one.new_interval)) for one in rows]
            cells = [[metric_name(one.key), *both, difference(one)] for one, both in zip(rows, sides, strict=True)]
            body = table(["metric", "old", "new", "difference"], cells, base)
            summary = f"<summary>{title}: {len(rows):,} differ</summary>"
            parts.append(f"<details>\n{summary}\n\n{body}\n\n</details>")

    parts.append("#### All metrics")
    same = len(compared) - len(different)
    parts.append(f"{len(different):,} of {len(compared):,} differ, {same:,} are the same.")
    section("Scores and counts", others)
    section("By label or source, largest change first", by_part)
    section("Time and memory, which differ from run to run", wall_clock)
    return "\n\n".join(parts) + "\n"


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


def parsed(files: dict[str, str | None]) -> Tree:
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
    # `metrics/summary.json` repeats what is in the others.
    measured = {path: value for path, value in values.items() if path.endswith(".json") and path != SUMMARY}
    own, not_run = own_files(measured, values.get("dvc.yaml") or read_pipeline(), params)
    metrics = {
        (path.removeprefix(f"{METRICS}/").removesuffix(".json"), *key): leaf
        for path in own
        for key, leaf in flatten(measured[path]).items()
        # An empty dict is a leaf of `flatten`, and no metric.
        if leaf != {} and key != (RUN_ID,)
    }
    return Tree(params, metrics, lock if isinstance(lock, dict) else None, unreadable, not_run)


def source_names(params: Any) -> set[str]:
    """The names of the sources of the tracks that are on."""
    flat, has_chats = flatten(params), subtree(params, "optional.instruct_data") not in (MISSING, [])
    sections = {"ingest", *(["instruct_data"] if has_chats else [])}
    return {key[2] for key in flat if len(key) > 3 and key[0] in sections and key[1] == "sources"}


def without_other_data(old: Tree, new: Tree) -> Tree:
    """The base as it is compared: without a source in common, of its params what is the same, and no more."""
    before, after = source_names(old.params), source_names(new.params)
    if not before or not after or before & after:
        return old
    return Tree(shared(old.params, new.params), {}, {"stages": {}}, old.unreadable, [], is_other_data=True)


def shared(old: Any, new: Any) -> Any:
    """What two trees of params have in common, in the order of the second."""
    if isinstance(old, dict) and isinstance(new, dict):
        both = {key: shared(old[key], new[key]) for key in new if key in old}
        return {key: value for key, value in both.items() if value is not MISSING and (value != {} or new[key] == {})}
    return new if old == new else MISSING


def base_tree(commit: str) -> Tree:
    """What the base revision holds."""
    listed = (git("ls-tree", "-r", "-z", "--name-only", commit, "--", f"{METRICS}/") or "").split("\0")
    paths = ["params.yaml", "dvc.yaml", "dvc.lock", *sorted(path for path in listed if path.endswith(".json"))]
    return parsed({path: git("show", f"{commit}:./{path}") for path in paths})


def working_tree(root: Path) -> Tree:
    """What the working tree holds, committed or not."""
    metrics = sorted(path.relative_to(root).as_posix() for path in (root / METRICS).rglob("*.json"))
    paths = ["params.yaml", "dvc.yaml", "dvc.lock", *metrics]
    return parsed(
        {path: (root / path).read_text(encoding="utf-8") if (root / path).is_file() else None for path in paths}
    )


def main() -> None:
    """Write and print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.changes.pull_request", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("base", help="branch, tag or commit to compare the working tree with")
    base = parser.parse_args().base
    commit = commit_of(base)
    root = Path()
    new = working_tree(root)
    old = without_other_data(base_tree(commit), new)
    text = report(old, new, base, commit, stale_stages(new.lock, new.params, root))
    write_text(REPORT, text)
    print(text)
    print(f"written to {REPORT}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(main)
