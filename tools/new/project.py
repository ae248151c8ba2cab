"""A stranger's data to a working `params.yaml`: `make new DATA=path-or-url ARGS="--yes"`.

Finds files, how they are read, the task and what each column is; reads all by the code of `ingest` or `instruct_data`;
shows rows, what is not sure and what will not go well; then a diff of `params.yaml`, which it writes if it may. The
rules: docs/your_data.md.
"""

import argparse
import difflib
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from assay.core.errors import InputError, run_stage
from assay.core.outputs import file_sha256, folder_sha256, write_text
from assay.sources.downloads import is_local
from tools.changes.revisions import require_committed
from tools.new.columns import ROLES, find_chats, names_in
from tools.new.files import find_data, pin_hub
from tools.new.plan import Plan, plan_chats, plan_labels
from tools.new.warnings import show_rows
from tools.params.preset import ABSENT, PARAMS, edit_values
from tools.run.stale_outputs import require_consistent_lists

OWN = Path("data/own")
READING = ("separator", "encoding", "sheet")
COLUMNS = (*ROLES, "chat", "question", "answer", "context", "category")


def parse_arguments() -> tuple[argparse.Namespace, dict[str, Any], dict[str, Any]]:
    """The options; of them, the columns that are named, and the settings of reading."""
    parser = argparse.ArgumentParser(prog='make new DATA=… ARGS="…"', description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", help="a table, a folder, an https address, or hf:owner/name@commit")
    parser.add_argument("--yes", action="store_true", help="write without a question")
    parser.add_argument("--task", choices=["classification", "chats"], help="without: told from the columns")
    parser.add_argument("--name", help="of the source and its folder; without: of the file")
    parser.add_argument("--header", choices=["yes", "no"], help="whether the first row names the columns")
    for key in READING:
        parser.add_argument(f"--{key}", help="as in `ingest`; tab is a tab")
    for key in COLUMNS:
        parser.add_argument(f"--{key}", help="a column, several with commas, or none")
    options = parser.parse_args()
    given = {key: value for key, value in vars(options).items() if value is not None}
    columns = {key: None if value == "none" else value for key, value in given.items() if key in COLUMNS}
    lists = {key: value.split(",") for key, value in columns.items() if value and ("," in value or key == "raters")}
    reading = {key: "\t" if value in ("tab", "\\t") else value for key, value in given.items() if key in READING}
    return options, columns | lists, reading | ({"header": options.header == "yes"} if options.header else {})


def require_columns(given: dict[str, Any], columns: Sequence[str], source: str) -> None:
    """Raise `InputError` where an option names a column that is not there."""
    for role, value in given.items():
        if unknown := [name for name in names_in([value]) if name is not None and name not in columns]:
            close = difflib.get_close_matches(unknown[0], columns, n=1)
            meant = f"did you mean {close[0]!r}?" if close else "name one of these"
            raise InputError(f"{source}: --{role}: no column {unknown[0]!r}; there are {list(columns)}: {meant}")


def unused_assets(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """The assets of data and of the language model that nothing reads any more, as values that take them out."""
    known = {one[section]["path"] for one in (before, after) for section in ("ingest", "instruct_data")}
    used = {after["ingest"]["path"], after["embed"]["model"], after["finetune"]["defaults"]["model"]}
    used |= {after["language_model"], after["instruct_data"]["path"]} if after["optional"]["instruct_data"] else set()
    unused = (known | {after["language_model"]}) - used
    assets = after["fetch"]["assets"].items()
    return {f"fetch.assets.{name}": ABSENT for name, asset in assets if asset["path"] in unused}


def place_data(plan: Plan, source: str, name: str, scratch: Path) -> dict[str, Any]:
    """Put into `scratch` what is to lie in a folder below data/own, and give the values of the paths.

    Files that lie below data/own already stay there, unless they are converted. A fetched table that is not converted
    is an asset, too.
    """
    data, target = plan.data, OWN / name
    stays = data.folder != scratch and data.folder.resolve().is_relative_to(OWN.resolve())
    for one in [] if stays or data.folder == scratch else data.files:
        (scratch / one.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data.folder / one.file, scratch / one.file)
    path = os.path.relpath(data.folder) if stays else str(target)
    values: dict[str, Any] = {"ingest.path": path}
    if plan.texts is not None:
        plan.texts.write_ndjson(scratch / "texts.jsonl")
        values = {"ingest.path": str(target), "instruct_data.path": path}
    if not is_local(source) and data.rule is None and plan.texts is None:
        sha256 = None if source.startswith("hf:") else file_sha256(data.folder / data.files[0].file)
        asset = {"source": pin_hub(source), "sha256": sha256, "unpack": None, "convert": None, "path": path}
        values[f"fetch.assets.{name}"] = asset | {"licence": "not stated", "cite": source}
    if any(scratch.iterdir()):
        original = Path(source)
        sha256 = file_sha256(original) if original.is_file() else folder_sha256(original) if original.is_dir() else None
        note = {"source": source, "sha256": sha256, "retrieved": date.today().isoformat(), "converted": data.rule}
        (scratch / "origin.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    return values


def main() -> None:
    """Show what the data are, and write `params.yaml`."""
    options, columns, reading = parse_arguments()
    require_committed(PARAMS)
    text, source = PARAMS.read_text(encoding="utf-8"), options.data
    params = yaml.safe_load(text)
    stem = Path(source.partition("@")[0]).name.partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", options.name or stem) or "data"
    with TemporaryDirectory() as made:
        scratch = Path(made)
        data = find_data(source, scratch, reading, params["fetch"]["timeout_seconds"])
        cells = data.files[0].table.cells
        layout = None if options.task == "classification" or columns.get("label") else find_chats(cells, columns)
        if options.task == "chats" and layout is None:
            raise InputError(f"{source}: no chats in {cells.columns}: name --question and --answer, or --chat")
        if "annotations" not in cells.columns:
            require_columns(columns, cells.columns, source)
        if layout:
            plan = plan_chats(data, layout, source, name, text)
        else:
            plan = plan_labels(data, source, name, columns, text, scratch)
        after = edit_values(text, plan.values | place_data(plan, source, name, scratch))
        after = edit_values(after, unused_assets(params, yaml.safe_load(after)))
        require_consistent_lists(yaml.safe_load(after))
        task = "questions and answers (--task classification)" if layout else "classification (--task chats)"
        print(f"{', '.join(one.file for one in plan.data.files)}: {plan.rows.height:,} rows, as understood:")
        print(show_rows(plan.rows), f"chosen: {task}; {plan.chosen}", sep="\n")
        settings = {key: value for one in plan.data.files for key, value in one.reading.items() if value is not None}
        unsure = [f"read as {settings} (--separator, --encoding, --sheet, --header)"]
        unsure += [f"converted: {plan.data.rule}"] if plan.data.rule else []
        unsure += ["url, date and authenticity of the source are guesses, its licence is not known", *plan.unsure]
        print(*(f"not sure: {one}" for one in unsure), *(f"warning: {one}" for one in plan.warnings), sep="\n")
        lines = difflib.unified_diff(text.splitlines(), after.splitlines(), str(PARAMS), str(PARAMS), lineterm="", n=1)
        print("", *lines, sep="\n")
        if not options.yes and not (sys.stdin.isatty() and input(f"Write {PARAMS}? [y/N] ").lower() in ("y", "yes")):
            sys.exit('nothing is written; without a question: make new DATA=… ARGS="--yes"')
        if any(scratch.iterdir()):
            shutil.copytree(scratch, OWN / name, dirs_exist_ok=True)
        write_text(PARAMS, after)
    print(f"{PARAMS} is written; next: `git diff {PARAMS}`, `make quick` for a look, `make repro` for all")


if __name__ == "__main__":
    run_stage(main)
