"""A quick look: from raw data to a report on a cut of 600 rows, in some three minutes of CPU. `make quick`.

The pipeline runs in a scratch copy of this tree below `.dvc/tmp/`, with the values of `tools/run/quick.yaml` in its
`params.yaml`. Nothing of the tree changes but `report/quick.html`, which git ignores. DVC's cache and downloads are
those of the tree, so that `make repro` need not download again.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from assay.core.errors import InputError, run_stage
from assay.core.outputs import read_json
from assay.core.params import PARAMS_FILE, read_yaml
from assay.report.summary import ranked, show_interval
from tools.command_line import command_line
from tools.params.preset import replace_values, write_preset

SCRATCH = Path(".dvc/tmp/quick")
QUICK = Path("tools/run/quick.yaml")
REPORT = Path("report/quick.html")


def copy_path(source: Path, target: Path) -> None:
    """Copy a file or a folder to where nothing is yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def copy_tree(target: Path) -> None:
    """Copy what git knows or would take up, as it lies in the tree now."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if Path(name).is_file():
            copy_path(Path(name), target / name)


def unused_assets(params: dict[str, Any]) -> list[str]:
    """Names of the assets that the language models alone read."""
    theirs = {params.get("language_model"), params.get("instruct_data", {}).get("path")}
    others = {params["ingest"]["path"], params["embed"]["model"], params["finetune"]["defaults"]["model"]}
    return [name for name, asset in params["fetch"]["assets"].items() if asset["path"] in theirs - others]


def write_quick_params(path: Path) -> None:
    """Put the values of `quick.yaml` into the params file, and take out the assets that nothing reads now."""
    text, _ = write_preset(path.read_text(encoding="utf-8"), QUICK)
    unused = unused_assets(yaml.safe_load(text))
    path.write_text(replace_values(text, {f"fetch.assets.{name}": None for name in unused}), encoding="utf-8")


def start_dvc(folder: Path) -> list[str]:
    """Put the copy onto the cache of this tree, without git; returns the paths that its stages read and none makes."""
    from dvc.repo import Repo

    with Repo() as tree:
        local = f"[core]\n    no_scm = true\n[cache]\n    dir = {tree.cache.local_cache_dir}\n"
    (folder / ".dvc/config.local").write_text(local, encoding="utf-8")
    with Repo(str(folder)) as repo:
        stages = [stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"]
        made = {out.fs_path for stage in stages for out in stage.outs}
        read = {dep.fs_path for stage in stages for dep in stage.deps}
        return sorted(os.path.relpath(path, repo.root_dir) for path in read - made)


def prepare(folder: Path) -> None:
    """Lay out the scratch copy."""
    shutil.rmtree(folder, ignore_errors=True)
    copy_tree(folder)
    write_quick_params(folder / "params.yaml")
    assets = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["fetch"]["assets"]
    for name in [*start_dvc(folder), *(asset["source"] for asset in assets.values())]:
        # Data of your own that git does not have, such as those of `dvc add`.
        if Path(name).exists() and not (folder / name).exists():
            copy_path(Path(name), folder / name)
    downloads = Path(".cache").absolute()
    downloads.mkdir(exist_ok=True)
    (folder / ".cache").symlink_to(downloads)


def result_lines(folder: Path) -> list[str]:
    """What came out, a line for each approach, the best first."""
    ingested, summary = read_json(folder / "metrics/ingest.json"), read_json(folder / "metrics/summary.json")
    kept, rows = ingested["rows_out"], ingested["rows_out"] + ingested["removed"].get("max_rows", 0)
    return [
        f"quick look: {kept:,} of {rows:,} rows; its scores are no results",
        *(f"  {name:<14} macro-F1 {show_interval(scores, 'macro_f1')}" for name, scores in ranked(summary)),
    ]


def main() -> None:
    """Run the pipeline on a cut, in a scratch copy, and keep its report."""
    command_line("python -m tools.run.quick", __doc__).parse_args()
    started = time.monotonic()
    read_yaml(PARAMS_FILE)  # raises where it cannot be read, by its own name
    print(f"quick look: the pipeline on a cut of the rows, in {SCRATCH}; nothing here changes", flush=True)
    prepare(SCRATCH)
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": binaries, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dvc", "repro", "report"]
    if subprocess.run(command, cwd=SCRATCH, env=environment).returncode:
        raise InputError(f"the quick look stopped at the error above; its files are in {SCRATCH}")
    lines = result_lines(SCRATCH)
    REPORT.parent.mkdir(exist_ok=True)
    shutil.copy(SCRATCH / "report/index.html", REPORT)
    shutil.rmtree(SCRATCH)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print("\n" + "\n".join(lines))
    print(f"report: {REPORT} ({minutes} min {seconds} s). Next: `make repro` runs params.yaml on all rows;")
    print("other sets of approaches and budgets: `make preset` lists them")


if __name__ == "__main__":
    run_stage(main)
