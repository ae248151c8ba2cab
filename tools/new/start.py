"""Make a clone of the template a project of its own: `make start`.

What is said of the template's data goes: metrics and plots, `dvc.lock`, the results in README.md, what people decided
about rows and answers, and what stages made on this machine. Code, params, tests, docs and
downloads stay. CHANGELOG.md begins anew and names the template's commit, from which later versions of the template are
merged (docs/template.md). Nothing is committed: `git diff` shows it all.
"""

import argparse
import shutil
import sys
from pathlib import Path

import yaml

from assay.core.errors import InputError, run_stage
from assay.core.outputs import write_text
from assay.human_review import corrections, preference_judgements
from tools.changes.readme_results import between_markers
from tools.changes.revisions import commit_of, git, require_committed
from tools.run.lock_guard import EMPTY, LOCK, read_text

METRICS = Path("metrics")
README, CHANGELOG = Path("README.md"), Path("CHANGELOG.md")
NO_RESULTS = "None yet: `make repro`, then `make readme`."
DECISIONS = {"data/corrections.csv": corrections.HEADER, "data/preferences.csv": preference_judgements.HEADER}
"""Files of people's decisions, and the line that is left of them."""
STARTED = "Started from the template's commit"
NEW_CHANGELOG = f"""# Changelog

The form is that of [Keep a Changelog](https://keepachangelog.com/en/1.1.0/).

## [Unreleased]

- {STARTED} {{0}}. What changed in it before: `git show {{0:.10}}:CHANGELOG.md`.
"""


def made_here() -> list[Path]:
    """Data and models on this machine that stages made, by `dvc.lock`; downloads are not among them.

    Without its entry there, the output of a stage that is off would never be deleted, and the report might show it.
    """
    stages = (yaml.safe_load(read_text(LOCK)) or {}).get("stages") or {}
    outs = {Path(out["path"]) for name in stages if name[:6] != "fetch@" for out in stages[name].get("outs", [])}
    return sorted(path for path in outs if path.exists() and METRICS not in path.parents)


def main() -> None:
    """Say what goes, ask, and remove it. Raises `InputError`: changes are uncommitted, or it was done before."""
    parser = argparse.ArgumentParser(prog="python -m tools.new.start", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--yes", action="store_true", help="do not ask")
    has_agreed = parser.parse_args().yes
    if STARTED in read_text(CHANGELOG):
        raise InputError(f"{CHANGELOG}: this project was started before, and its results are yours: nothing is removed")
    commit = commit_of("HEAD")
    require_committed(Path())
    # Stages depend on the folders that a .gitkeep keeps.
    names = git("ls-files", "-z", "--", str(METRICS), ":!*.gitkeep") or ""
    tracked, made = [Path(name) for name in names.split("\0") if name], made_here()
    readme = README.read_text(encoding="utf-8")
    for name in ("results", "generation"):
        readme = between_markers(readme, name, NO_RESULTS, README)

    print(f"This makes the clone of the template, at commit {commit[:10]}, a project of its own. Removed are:")
    print(f"  {len(tracked)} files of {METRICS}/; the entries of {LOCK} and {CHANGELOG}; the results in")
    decided = [f"{len(read_text(Path(path)).splitlines()) - 1} in {path}" for path in DECISIONS]
    print(f"  {README}; decisions of people: {', '.join(decided)}")
    print(f"  what stages made on this machine: {', '.join(map(str, made)) or 'nothing'}")
    print("Kept are code, dvc.yaml, params.yaml, presets, tests, docs, findings, and what `fetch` downloaded.")
    if not has_agreed and not sys.stdin.isatty():
        raise InputError('nothing is removed without your word, and there is no terminal to ask at: ARGS="--yes"')
    if not has_agreed and input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        print("Nothing was removed")
        return
    for path in [*tracked, *made]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    texts = {path: f"{header}\n" for path, header in DECISIONS.items()} | {README: readme, LOCK: EMPTY}
    for file, text in (texts | {CHANGELOG: NEW_CHANGELOG.format(commit)}).items():
        write_text(file, text)
    print('\nLook at `git status`, then `git add --all && git commit --message "Start from the template"`')
    print("Next: `make new DATA=…` puts your data into params.yaml; docs/template.md: later versions of the template")


if __name__ == "__main__":
    run_stage(main)
