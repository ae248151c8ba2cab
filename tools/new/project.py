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
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_text
from assay.core.params import read_yaml
from tools.changes.revisions import require_committed
from tools.command_line import command_line
from tools.new.columns import FITS, find_chats, names_in
from tools.new.files import find_data
from tools.new.plan import Plan, plan_chats, plan_labels
from tools.params.preset import PARAMS, edit_values

OWN = Path("data/own")
ROWS_SHOWN, CHARACTERS_SHOWN = 10, 90
READING = ("separator", "encoding", "sheet", "header")
COLUMNS = (*FITS, "chat", "question", "answer", "context", "category")


def parse_arguments() -> tuple[argparse.Namespace, dict[str, Any], dict[str, Any]]:
    """The options; of them, the columns that are named, and the settings of reading."""
    parser = command_line('make new DATA=… ARGS="…"', __doc__)
    parser.add_argument("data", help="a table, a folder, an https address, or hf:owner/name@commit")
    parser.add_argument("--yes", action="store_true", help="write without a question")
    parser.add_argument("--task", choices=["classification", "chats"], help="without: told from the columns")
    parser.add_argument("--name", help="of the source and its folder; without: of the file")
    for key in READING:
        parser.add_argument(f"--{key}", help="yes or no" if key == "header" else "as in `ingest`; tab is a tab")
    for key in COLUMNS:
        parser.add_argument(f"--{key}", help="a column, raters several with commas, or none")
    options = parser.parse_args()
    words: dict[str, Any] = {"none": None, "tab": "\t", "yes": True, "no": False}
    given = {key: words.get(value, value) for key, value in vars(options).items() if value is not None}
    columns = {key: given[key] for key in COLUMNS if key in given}
    if columns.get("raters"):
        columns["raters"] = columns["raters"].split(",")
    return options, columns, {key: given[key] for key in READING if key in given}


def require_columns(given: dict[str, Any], columns: list[str], source: str) -> None:
    """Raise `InputError` where an option names a column that is not there."""
    for role, value in given.items():
        if unknown := [name for name in names_in([value]) if name is not None and name not in columns]:
            meant = "".join(f": did you mean {one!r}?" for one in difflib.get_close_matches(unknown[0], columns, n=1))
            raise InputError(f"{source}: --{role}: no column {unknown[0]!r}; there are {columns}{meant}")


def place_data(plan: Plan, source: str, name: str, scratch: Path) -> dict[str, Any]:
    """Put into `scratch` what is to lie in a folder below data/own, and give the values of the paths.

    Files that lie below data/own already stay there, unless they are converted.
    """
    data, target = plan.data, OWN / name
    stays = data.folder != scratch and data.folder.resolve().is_relative_to(OWN.resolve())
    if not stays and data.folder != scratch:
        shutil.copyfile(data.folder / data.file, scratch / data.file)
    if data.rule:
        note = {"source": source, "converted": data.rule}
        (scratch / "origin.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    path = os.path.relpath(data.folder) if stays else str(target)
    if plan.texts is None:
        return {"ingest.path": path}
    plan.texts.write_ndjson(scratch / "texts.jsonl")
    return {"ingest.path": str(target), "instruct_data.path": path}


def show(plan: Plan, task: str) -> None:
    """Print ten rows, a line each with control characters escaped, and what is said of them."""
    print(f"{plan.data.file}: {plan.rows.height:,} rows, as understood:")
    for row in [plan.rows.columns, *plan.rows.sample(min(ROWS_SHOWN, plan.rows.height), seed=0).rows()]:
        print(" ", " | ".join("–" if cell is None else repr(cell)[1:-1][:CHARACTERS_SHOWN] for cell in row))
    print(f"chosen: {task}; {plan.chosen}")
    settings = {key: value for key, value in plan.data.reading.items() if value is not None}
    unsure = [f"read as {settings} (--separator, --encoding, --sheet, --header)"]
    unsure += [f"converted: {plan.data.rule}"] if plan.data.rule else []
    unsure += ["url, date and authenticity of the source are guesses, its licence is not known", *plan.unsure]
    print(*(f"not sure: {one}" for one in unsure), *(f"warning: {one}" for one in plan.warnings), sep="\n")


def main() -> None:
    """Show what the data are, and write `params.yaml`."""
    options, columns, reading = parse_arguments()
    require_committed(PARAMS)
    params, source = read_yaml(PARAMS), options.data
    text = PARAMS.read_text(encoding="utf-8")
    stem = Path(source.partition("@")[0]).name.partition(".")[0]
    plain = unicodedata.normalize("NFKD", options.name or stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_") or "data"
    with TemporaryDirectory() as made:
        scratch = Path(made)
        data = find_data(source, name, scratch, reading, params["fetch"]["timeout_seconds"])
        cells = data.table.cells
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
        show(plan, "questions and answers (--task classification)" if layout else "classification (--task chats)")
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
